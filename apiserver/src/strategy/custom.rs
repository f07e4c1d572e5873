//! The strategy of custom kinds.

use std::sync::Arc;

use serde_json::Value;

use super::access::{Fields, carry};
use super::generic::{bump_generation, carry_metadata, only, reset_metadata};
use super::{Context, CustomOptions, Strategy, meta, names};
use crate::schema::{FieldError, Path, Schema};

#[derive(Debug)]
pub(crate) struct Custom {
    pub(crate) schema: Arc<Schema>,
    pub(crate) options: CustomOptions,
}

impl Custom {
    fn metadata(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let at = Path::new("metadata");
        let rule = names::dns_subdomain;
        meta::validate(
            object.at("metadata"),
            self.options.namespaced,
            rule,
            &at,
            errors,
        );
    }
}

impl Strategy for Custom {
    fn default(&self, object: &mut Value) {
        self.schema.default(object);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        reset_metadata(object, true);
        if let Some(root) = object.as_object_mut().filter(|_| self.options.status) {
            root.remove("status");
        }
    }

    fn prepare_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        carry_metadata(new, old);
        if context.subresource == "status" {
            only(new, old, "status");
            self.old_metadata(new, old);
        } else if self.options.status {
            carry(new, old, "status");
        }
        bump(new, old, self.options.status);
    }

    fn validate(&self, _context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.metadata(object, &mut errors);
        errors.extend(self.schema.validate(object, None));
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        meta::finalizer_warnings(new, old)
    }

    fn validate_update(&self, _context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.metadata(new, &mut errors);
        let at = Path::new("metadata");
        meta::validate_update(new.at("metadata"), old.at("metadata"), &at, &mut errors);
        errors.extend(self.schema.validate(new, Some(old)));
        errors
    }
}

impl Custom {
    /// A status write changes nothing in metadata but managedFields.
    fn old_metadata(&self, new: &mut Value, old: &Value) {
        let keep = |meta: &Value, key: &str| meta.get(key).cloned();
        let fresh = new.at("metadata");
        let managed = keep(fresh, "managedFields");
        let revision = keep(fresh, "resourceVersion");
        carry(new, old, "metadata");
        if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            for (key, value) in [("managedFields", managed), ("resourceVersion", revision)] {
                match value {
                    Some(value) => meta.insert(key.to_owned(), value),
                    None => meta.remove(key),
                };
            }
        }
    }
}

/// Without a status subresource, a change of `status` counts like any other.
fn bump(new: &mut Value, old: &Value, status: bool) {
    bump_generation(new, old);
    if !status && new.at("status") != old.at("status") {
        let generation = old.at("metadata").int("generation").unwrap_or(0) + 1;
        if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("generation".to_owned(), generation.into());
        }
    }
}
