//! Which objects of a kind a list, a watch or a deletecollection is about.

use std::sync::Arc;

use davit_api::{FieldSelector, LabelSelector};

use crate::error::StatusError;
use crate::object::Object;
use crate::resource::{Field, Resource};

/// A place and the selectors that narrow it.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// What the keys start with: the kind, or the kind in one namespace.
    pub(crate) prefix: Arc<str>,
    /// The one key it can be, when the name is given.
    pub(crate) key: Option<Arc<str>>,
    /// Length of the kind's own prefix in every key.
    kind_prefix: usize,
    namespaced: bool,
    labels: LabelSelector,
    fields: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    operand: Operand,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Name,
    Namespace,
    /// Index into the kind's selectable fields.
    Field(usize),
}

impl Selection {
    /// Everything of a kind, in one namespace if it is not empty.
    pub(crate) fn all(resource: &Resource, namespace: &str) -> Self {
        Self {
            prefix: resource.prefix_in(namespace),
            key: None,
            kind_prefix: resource.prefix.len(),
            namespaced: resource.namespaced,
            labels: LabelSelector::everything(),
            fields: Vec::new(),
        }
    }

    /// Reads the selectors of a request. `fields` are those of the kind's objects in the cache.
    ///
    /// # Errors
    /// 400 for a malformed selector or a field that cannot be selected by.
    pub(crate) fn parse(
        resource: &Resource,
        namespace: &str,
        labels: &str,
        selector: &str,
        fields: &[Field],
    ) -> Result<Self, StatusError> {
        let mut selection = Self::all(resource, namespace);
        let invalid = |error: davit_api::ParseSelectorError| {
            StatusError::bad_request(format!("unable to parse requirement: {error}"))
        };
        if !labels.is_empty() {
            selection.labels = labels
                .parse()
                .map_err(|error: davit_api::ParseSelectorError| {
                    StatusError::bad_request(error.to_string())
                })?;
        }
        if selector.is_empty() {
            return Ok(selection);
        }
        let selector: FieldSelector = selector.parse().map_err(invalid)?;
        for term in selector.requirements() {
            let operand = operand(resource, &term.field, fields)?;
            if let (Operand::Name, true) = (operand, term.equal) {
                selection.key = name_key(resource, namespace, &term.value);
            }
            selection.fields.push(Term {
                operand,
                value: term.value.clone(),
                equal: term.equal,
            });
        }
        Ok(selection)
    }

    /// Whether fields other than name and namespace narrow it.
    pub(crate) fn names_fields(&self) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|term| matches!(term.operand, Operand::Field(_)))
    }

    /// The same, whatever those fields hold.
    pub(crate) fn without_fields(&self) -> Self {
        let mut wider = self.clone();
        wider
            .fields
            .retain(|term| !matches!(term.operand, Operand::Field(_)));
        wider
    }

    /// Whether every object under the prefix is selected.
    pub(crate) fn is_whole(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object is selected.
    pub(crate) fn has(&self, object: &Object) -> bool {
        object.key.starts_with(&*self.prefix)
            && (self.labels.is_empty() || self.labels.matches_with(|key| object.meta.label(key)))
            && self.fields.iter().all(|term| self.holds(term, object))
    }

    fn holds(&self, term: &Term, object: &Object) -> bool {
        let local = object.key.get(self.kind_prefix..).unwrap_or_default();
        let (namespace, name) = match local.split_once('/') {
            Some(parts) if self.namespaced => parts,
            _ => ("", local),
        };
        let value = match term.operand {
            Operand::Name => name,
            Operand::Namespace => namespace,
            Operand::Field(index) => object.meta.field(index),
        };
        (value == term.value) == term.equal
    }
}

fn operand(resource: &Resource, label: &str, fields: &[Field]) -> Result<Operand, StatusError> {
    match label {
        "metadata.name" => return Ok(Operand::Name),
        "metadata.namespace" => return Ok(Operand::Namespace),
        _ => {}
    }
    let own = resource.fields.iter().find(|field| &*field.label == label);
    let index = own.and_then(|own| fields.iter().position(|field| field.path == own.path));
    index
        .map(Operand::Field)
        .ok_or_else(|| StatusError::bad_request(format!("field label not supported: {label}")))
}

fn name_key(resource: &Resource, namespace: &str, name: &str) -> Option<Arc<str>> {
    (!resource.namespaced || !namespace.is_empty()).then(|| resource.key(namespace, name))
}
