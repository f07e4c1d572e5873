//! The strategy of built-in kinds: what all share, with a kind's own functions where it differs.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{Fields, carry, ensure, same};
use super::kinds::Behavior;
use super::{Context, Strategy, meta};
use crate::schema::{FieldError, Path, Schema};

/// A built-in kind's strategy: the table entry beside the compiled schema.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) behavior: &'static Behavior,
    pub(crate) schema: Arc<Schema>,
}

/// Metadata that only the server sets.
const SYSTEM: [&str; 3] = [
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// Clears what a new object may not bring along.
pub(crate) fn reset_metadata(object: &mut Value, generation: bool) {
    let Some(root) = object.as_object_mut() else {
        return;
    };
    let meta = ensure(root, "metadata");
    for key in SYSTEM {
        meta.remove(key);
    }
    meta.remove("generation");
    if generation {
        meta.insert("generation".to_owned(), 1.into());
    }
}

/// Fills metadata that the client left out of an update, as Kubernetes does.
pub(crate) fn carry_metadata(new: &mut Value, old: &Value) {
    let Some(root) = new.as_object_mut() else {
        return;
    };
    let meta = ensure(root, "metadata");
    let old = old.at("metadata");
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if let (None, Some(value)) = (meta.get(key), old.get(key)) {
            meta.insert(key.to_owned(), value.clone());
        }
    }
    meta.remove("selfLink");
    set_generation(meta, old.int("generation"));
}

fn set_generation(meta: &mut Map<String, Value>, generation: Option<i64>) {
    match generation {
        Some(generation) => {
            meta.insert("generation".to_owned(), generation.into());
        }
        None => {
            meta.remove("generation");
        }
    }
}

/// Counts the generation up when anything but metadata and status changed.
pub(crate) fn bump_generation(new: &mut Value, old: &Value) {
    let outside = |k: &str| matches!(k, "metadata" | "status" | "apiVersion" | "kind");
    let mut keys = new
        .as_object()
        .into_iter()
        .chain(old.as_object())
        .flat_map(Map::keys);
    let changed = keys.any(|k| !outside(k) && !same(new.at(k), old.at(k)));
    if let Some(root) = new.as_object_mut().filter(|_| changed) {
        let generation = old.at("metadata").int("generation").unwrap_or(0) + 1;
        set_generation(ensure(root, "metadata"), Some(generation));
    }
}

/// Makes `new` the old object with only `key` (such as `status`) taken from it; metadata is the
/// new one, so that conflicts and managed fields work, with the owners of the old.
pub(crate) fn only(new: &mut Value, old: &Value, key: &str) {
    let Some(fields) = new.as_object_mut() else {
        return;
    };
    let taken = |k: &str| matches!(k, "metadata" | "apiVersion" | "kind") || k == key;
    fields.retain(|k, _| taken(k));
    for (k, value) in old
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, _)| !taken(k))
    {
        fields.insert(k.clone(), value.clone());
    }
    let meta = ensure(fields, "metadata");
    match old.at("metadata").get("ownerReferences") {
        Some(owners) => {
            meta.insert("ownerReferences".to_owned(), owners.clone());
        }
        None => {
            meta.remove("ownerReferences");
        }
    }
}

impl Builtin {
    fn metadata(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (meta, at) = (object.at("metadata"), Path::new("metadata"));
        let behavior = self.behavior;
        meta::validate(meta, behavior.namespaced, behavior.name, &at, errors);
        meta::known_finalizers(meta.items("finalizers"), &at.field("finalizers"), errors);
    }
}

impl Strategy for Builtin {
    fn default(&self, object: &mut Value) {
        self.schema.default(object);
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        reset_metadata(object, self.behavior.generation);
        if let Some(root) = object.as_object_mut()
            && self.behavior.status
            && !self.behavior.status_on_create
        {
            root.remove("status");
        }
        if let Some(prepare) = self.behavior.create {
            prepare(context, object);
        }
    }

    fn prepare_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        carry_metadata(new, old);
        match context.subresource {
            "" if self.behavior.status => carry(new, old, "status"),
            "status" | "approval" => only(new, old, "status"),
            _ => {}
        }
        if let Some(prepare) = self.behavior.update {
            prepare(context, new, old);
        }
        if self.behavior.generation && context.subresource != "status" {
            bump_generation(new, old);
        }
    }

    fn validate(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let behavior = self.behavior;
        self.metadata(object, &mut errors);
        errors.extend(self.schema.validate(object, None));
        if let Some(check) = behavior.check {
            check(context, object, &mut errors);
        }
        if let Some(check) = behavior.check_added {
            check(context, object, None, &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let at = Path::new("metadata");
        let behavior = self.behavior;
        self.metadata(new, &mut errors);
        meta::validate_update(new.at("metadata"), old.at("metadata"), &at, &mut errors);
        // What is stored was valid when it was written; only what this write touches is looked at.
        if !matches!(context.subresource, "status" | "approval") && !unchanged(new, old) {
            errors.extend(self.schema.validate(new, None));
            if let Some(check) = behavior.check {
                check(context, new, &mut errors);
            }
            if let Some(check) = behavior.check_added {
                check(context, new, Some(old), &mut errors);
            }
        }
        if let Some(check) = behavior.check_update {
            check(context, new, old, &mut errors);
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        self.behavior
            .warnings
            .map(|f| f(new, old))
            .unwrap_or_default()
    }

    fn allow_create_on_update(&self) -> bool {
        self.behavior.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.behavior.unconditional_update
    }

    fn default_grace(&self, object: &Value) -> Option<i64> {
        self.behavior.grace.and_then(|f| f(object))
    }
}

/// Whether everything but metadata and status is as it was.
fn unchanged(new: &Value, old: &Value) -> bool {
    let outside = |k: &str| matches!(k, "metadata" | "status");
    let mut keys = new
        .as_object()
        .into_iter()
        .chain(old.as_object())
        .flat_map(Map::keys);
    keys.all(|k| outside(k) || new.at(k) == old.at(k))
}
