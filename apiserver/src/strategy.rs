//! What differs from kind to kind between the wire and the store: defaults, preparation, validation.

pub(crate) mod access;
mod autoscaling;
mod batch;
mod certificate;
mod cluster;
mod config;
mod crd;
mod cron;
mod custom;
mod devices;
mod generic;
mod hooks;
mod intstr;
mod kinds;
mod labels;
mod meta;
pub(crate) mod names;
mod networking;
mod pod;
mod quota;
mod rbac;
pub(crate) mod resources;
mod service;
mod volumes;
mod warnings;
mod webhook;
mod workload;

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{FieldError, Path, Schema};

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
    /// Name, namespace, uid and creationTimestamp are set before.
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

/// The strategy of a built-in kind; kinds without behaviour of their own get the generic one.
/// `None` if davit does not know the kind.
pub fn builtin(group: &str, version: &str, kind: &str) -> Option<Arc<dyn Strategy>> {
    let schema = Schema::builtin(group, version, kind)?;
    let behavior = kinds::find(group, kind).unwrap_or(&kinds::PASSING);
    Some(Arc::new(generic::Builtin { behavior, schema }))
}

/// What a CustomResourceDefinition says about writes besides its schema.
#[derive(Clone, Debug)]
pub struct CustomOptions {
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether the status subresource is on.
    pub status: bool,
}

/// The strategy of one version of a custom kind.
pub fn custom(schema: Arc<Schema>, options: CustomOptions) -> Arc<dyn Strategy> {
    Arc::new(custom::Custom { schema, options })
}

/// Complaints found so far.
type Errors = Vec<FieldError>;

pub(crate) use hooks::of as hooks_of;

/// Complains if a field differs from what it was.
fn immutable(new: &Value, old: &Value, key: &str, at: &Path<'_>, out: &mut Errors) {
    use access::Fields;
    if !access::same(new.at(key), old.at(key)) {
        let value = new.at(key).clone();
        out.push(FieldError::invalid(
            at.field(key),
            value,
            "field is immutable",
        ));
    }
}

#[cfg(test)]
mod tests;
