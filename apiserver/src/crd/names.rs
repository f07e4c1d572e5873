//! Names of a group that only one definition can have.

use serde_json::{Map, Value};

use crate::ApiServer;

/// The names that others in the same group have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Plurals, singulars and short names: what a client may write in a path or on a command line.
    pub(super) resources: Vec<String>,
    /// Kinds and list kinds.
    pub(super) kinds: Vec<String>,
}

impl Taken {
    /// The names of everything served in the definition's group but its own.
    pub(super) fn collect(server: &ApiServer, definition: &Value) -> Self {
        let group = definition["spec"]["group"].as_str().unwrap_or_default();
        let own = definition["metadata"]["name"].as_str().unwrap_or_default();
        let snapshot = server.registry.snapshot();
        let mut taken = Self::default();
        for resource in snapshot.iter().filter(|resource| &*resource.group == group) {
            if resource
                .custom
                .as_ref()
                .is_some_and(|custom| &*custom.definition == own)
            {
                continue;
            }
            taken.resources.push(resource.plural.to_string());
            taken.resources.push(resource.singular.to_string());
            taken
                .resources
                .extend(resource.short_names.iter().map(ToString::to_string));
            taken.kinds.push(resource.kind.to_string());
            taken.kinds.push(resource.list_kind.to_string());
        }
        taken
    }

    /// The names that can be had, and the first that cannot. What was accepted before stays as long as the
    /// new name is not free.
    pub(super) fn accept(
        &self,
        wanted: &Value,
        before: &Value,
    ) -> (Value, Option<(&'static str, String)>) {
        let mut accepted = before.as_object().cloned().unwrap_or_default();
        let mut conflict = None;
        let fields = [
            ("plural", "PluralConflict", &self.resources),
            ("singular", "SingularConflict", &self.resources),
            ("kind", "KindConflict", &self.kinds),
            ("listKind", "ListKindConflict", &self.kinds),
        ];
        for (field, reason, taken) in fields {
            let name = wanted[field].as_str().unwrap_or_default();
            if taken.iter().any(|have| have == name) {
                conflict.get_or_insert((reason, format!("{name:?} is already in use")));
            } else {
                accepted.insert(field.to_owned(), name.into());
            }
        }
        let short = wanted["shortNames"].as_array().into_iter().flatten();
        let (free, used): (Vec<Value>, Vec<Value>) = short.cloned().partition(|name| {
            !self
                .resources
                .iter()
                .any(|have| Some(have.as_str()) == name.as_str())
        });
        if let Some(name) = used.first().and_then(Value::as_str) {
            conflict.get_or_insert(("ShortNamesConflict", format!("{name:?} is already in use")));
        }
        set(&mut accepted, "shortNames", free);
        let categories = wanted["categories"].as_array().cloned().unwrap_or_default();
        set(&mut accepted, "categories", categories);
        (Value::Object(accepted), conflict)
    }
}

fn set(names: &mut Map<String, Value>, field: &str, list: Vec<Value>) {
    if list.is_empty() {
        names.remove(field);
    } else {
        names.insert(field.to_owned(), list.into());
    }
}

/// The names with those filled in that follow from the kind.
pub(super) fn complete(names: &Value) -> Value {
    let mut names = names.clone();
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if names["singular"].as_str().unwrap_or_default().is_empty() {
        names["singular"] = kind.to_ascii_lowercase().into();
    }
    if names["listKind"].as_str().unwrap_or_default().is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
    names
}
