//! What differs from kind to kind between the wire and the store: defaults, preparation, validation.

pub(crate) mod names;

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{FieldError, Schema};

/// What a strategy may know of the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Empty, or the subresource written through, such as `status`.
    pub subresource: &'a str,
    /// The namespace of the request; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The time of the request.
    pub now: Timestamp,
}

/// The order of a write: decode, admission (mutating), [`Strategy::default`], prepare, validate,
/// admission (validating), store. `prepare_*` also isolates status from spec and counts generations.
pub trait Strategy: Send + Sync + Debug {
    /// Fills in what the user left out. Idempotent; runs on create, update and patch.
    fn default(&self, object: &mut Value);

    /// Resets what a user may not set at creation (status, generation) and normalizes the rest.
    fn prepare_create(&self, context: &Context<'_>, object: &mut Value);

    /// Carries over what this write may not change (status or spec), and bumps the generation when
    /// the spec changed.
    fn prepare_update(&self, context: &Context<'_>, new: &mut Value, old: &Value);

    /// Checks a new object; metadata included.
    fn validate(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError>;

    /// Checks a change; metadata included.
    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError>;

    /// Texts for `Warning` headers about a valid object.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let _ = (new, old);
        Vec::new()
    }

    /// Whether an update may create the object.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resourceVersion is taken.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// The grace period in seconds of a deletion when the caller gave none; `None` deletes at once.
    fn default_grace(&self, object: &Value) -> Option<i64> {
        let _ = object;
        None
    }
}

/// The strategy of a built-in kind; kinds without one of their own get the generic one.
pub fn builtin(group: &str, kind: &str) -> Arc<dyn Strategy> {
    let _ = (group, kind);
    Arc::new(Generic)
}

/// The strategy of one version of a custom kind.
pub fn custom(schema: Arc<Schema>, options: CustomOptions) -> Arc<dyn Strategy> {
    let _ = (schema, options);
    Arc::new(Generic)
}

/// What a CustomResourceDefinition says about writes besides its schema.
#[derive(Clone, Debug)]
pub struct CustomOptions {
    /// The kind, for messages.
    pub kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether the status subresource is on.
    pub status: bool,
}

#[derive(Debug)]
struct Generic;

impl Strategy for Generic {
    fn default(&self, _object: &mut Value) {}
    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Value) {}
    fn prepare_update(&self, _context: &Context<'_>, _new: &mut Value, _old: &Value) {}
    fn validate(&self, _context: &Context<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }
    fn validate_update(&self, _: &Context<'_>, _: &Value, _: &Value) -> Vec<FieldError> {
        Vec::new()
    }
}

/// The code that belongs to a built-in type, by the type's short name such as `core.v1.PodSpec`.
pub(crate) fn hooks(definition: &str) -> crate::schema::node::Hooks {
    let _ = definition;
    crate::schema::node::Hooks::default()
}
