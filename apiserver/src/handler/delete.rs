//! Deleting an object: at once, after a grace period, or when the last finalizer is gone.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::call::now;
use super::write::{self, Current, Outcome};
use super::{Call, admit, answer, body, metadata, object_answer};
use crate::admission::Operation;
use crate::error::StatusError;
use crate::request::{Options, Propagation, Verb, exclusive, refuse};
use crate::resource::Resource;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// DeleteOptions, from the query and the body; the body has the last word.
#[derive(Debug, Clone, Default)]
pub(super) struct DeleteOptions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) grace: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) dry_run: bool,
}

impl DeleteOptions {
    pub(super) fn read(call: &Call, body: &[u8]) -> Result<Self, StatusError> {
        call.options.check(Verb::Delete)?;
        let mut options = Self::from_query(&call.options);
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(options);
        }
        let value = body::decode_options(call, body)?;
        options.merge(&value)?;
        Ok(options)
    }

    fn from_query(query: &Options) -> Self {
        Self {
            grace: query.grace_seconds,
            propagation: query.propagation.or(orphaning(query.orphan_dependents)),
            dry_run: query.dry_run,
            ..Self::default()
        }
    }

    pub(super) fn merge(&mut self, value: &Value) -> Result<(), StatusError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        if let Some(uid) = text("/preconditions/uid") {
            self.uid = Some(uid.to_owned());
        }
        if let Some(revision) = text("/preconditions/resourceVersion") {
            self.resource_version = Some(revision.to_owned());
        }
        if let Some(grace) = value["gracePeriodSeconds"].as_i64() {
            self.grace = Some(grace);
        }
        let mut faults = Vec::new();
        let mut wrong = |fault| faults.push(fault);
        let orphan = value["orphanDependents"].as_bool();
        if let Some(policy) = text("/propagationPolicy") {
            if orphan.is_some() {
                wrong(exclusive(policy));
            }
            let read = Propagation::parse(policy);
            self.propagation = read.map_err(&mut wrong).ok();
        } else if orphan.is_some() {
            self.propagation = orphaning(orphan);
        }
        for dry_run in value["dryRun"].as_array().into_iter().flatten() {
            let read = crate::request::dry_run(dry_run.as_str().unwrap_or_default());
            self.dry_run |= read.map_err(&mut wrong).unwrap_or(true);
        }
        refuse(Verb::Delete, &faults)
    }

    fn check(&self, call: &Call, current: &Current) -> Result<(), StatusError> {
        let object = &current.object;
        let have = metadata::text(object, "uid");
        let name = metadata::text(object, "name");
        let failed = |what: &str, wanted: &str, have: &str| {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}"
            );
            StatusError::conflict(&call.resource, name, &why)
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if uid != have => Err(failed("UID", uid, have)),
            (_, Some(wanted)) if wanted.parse() != Ok(current.kv.mod_revision) => {
                let have = current.kv.mod_revision.to_string();
                Err(failed("ResourceVersion", wanted, &have))
            }
            _ => Ok(()),
        }
    }
}

fn orphaning(orphan: Option<bool>) -> Option<Propagation> {
    orphan.map(|orphan| {
        if orphan {
            Propagation::Orphan
        } else {
            Propagation::Background
        }
    })
}

pub(super) async fn delete(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let _announced = call.server.store.announce();
    let options = DeleteOptions::read(call, &body)?;
    let name = call.path.name.clone();
    match delete_named(call, &name, &options).await? {
        Deleted::Gone(last) if call.resource.returns_deleted => {
            object_answer(call, StatusCode::OK, &last.to_string().into(), Vec::new()).await
        }
        Deleted::Gone(last) => {
            let uid = metadata::of(&last).get("uid").cloned().unwrap_or_default();
            Ok(answer::success(call, StatusCode::OK, &name, &uid))
        }
        Deleted::Pending(bytes) => object_answer(call, StatusCode::OK, &bytes, Vec::new()).await,
    }
}

/// How a deletion ended.
pub(super) enum Deleted {
    /// The object is out of the store.
    Gone(Value),
    /// It is marked and waits for its node or its finalizers.
    Pending(Bytes),
}

pub(super) async fn delete_named(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, StatusError> {
    let dry = Options {
        dry_run: options.dry_run,
        grace_seconds: options.grace,
        propagation: options.propagation,
        ..call.options.clone()
    };
    let call = &call.derived(call.path.clone(), dry);
    for _ in 0..write::TRIES {
        let current = write::current(call, name).await?;
        let current = current.ok_or_else(|| call.not_found(name))?;
        options.check(call, &current)?;
        let request = call.admission(Operation::Delete, name, Some(&current.object));
        admit::all(call, &request, &mut Value::Null).await?;
        let outcome = match plan(call, &current.object, options) {
            Plan::Remove => write::remove(call, &current, &current.object).await?,
            Plan::Mark(object) => write::replace(call, &current, object).await?,
            Plan::Wait => Outcome::Stored(current.kv.value.clone()),
        };
        match outcome {
            Outcome::Removed(_) => return Ok(Deleted::Gone(current.object)),
            Outcome::Stored(bytes) => return Ok(Deleted::Pending(bytes)),
            Outcome::Raced => {}
        }
    }
    Err(StatusError::modified(&call.resource, name))
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Takes it out of the store.
    Remove,
    /// Stores it marked as going away.
    Mark(Value),
    /// Nothing more: it is on its way already.
    Wait,
}

fn plan(call: &Call, old: &Value, options: &DeleteOptions) -> Plan {
    let grace = call
        .resource
        .strategy()
        .default_grace(old)
        .map(|default| match options.grace {
            // A negative period is what old clients send for "at once".
            Some(asked) if default > 0 => asked.max(if asked < 0 { 1 } else { 0 }),
            _ => default,
        });
    let mut new = old.clone();
    let propagation = options.propagation.or_else(|| usual(&call.resource, old));
    set_finalizers(&mut new, propagation);
    let held = metadata::has_finalizers(call, &new);
    let grace = grace.unwrap_or(0);
    if grace <= 0 && !held {
        return Plan::Remove;
    }
    if metadata::is_deleting(old) {
        let sooner = grace < write::grace(old);
        let finalizers_changed =
            metadata::of(old).get("finalizers") != metadata::of(&new).get("finalizers");
        if !sooner && !finalizers_changed {
            return Plan::Wait;
        }
        if sooner {
            stamp(&mut new, grace);
        }
        return Plan::Mark(new);
    }
    stamp(&mut new, grace);
    bump_generation(&mut new);
    if call.resource.subresource("finalize").is_some() {
        new["status"]["phase"] = "Terminating".into();
    }
    Plan::Mark(new)
}

/// The moment the object is to be gone, and how long that was from now.
fn stamp(object: &mut Value, grace: i64) {
    let end: Timestamp = now()
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or_else(|_| now());
    object["metadata"]["deletionTimestamp"] = end.to_string().into();
    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = metadata::of(object)
        .get("generation")
        .and_then(Value::as_i64)
    {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// What becomes of dependents when a deletion does not say so: what an earlier one said, else what the kind does.
fn usual(resource: &Resource, object: &Value) -> Option<Propagation> {
    let finalizers = metadata::of(object)
        .get("finalizers")
        .and_then(Value::as_array);
    let mut finalizers = finalizers.into_iter().flatten();
    let decided = finalizers.any(|finalizer| finalizer == ORPHAN || finalizer == FOREGROUND);
    (resource.orphans && !decided).then_some(Propagation::Orphan)
}

/// Puts the finalizer of the wanted propagation there, and takes those of others away.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let finalizers = metadata::of(object)
        .get("finalizers")
        .and_then(Value::as_array);
    let mut finalizers = finalizers.cloned().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = json!(finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_follow_the_propagation() {
        let cases = [
            (
                json!(["x"]),
                Propagation::Foreground,
                json!(["x", "foregroundDeletion"]),
            ),
            (
                json!(["orphan", "x"]),
                Propagation::Background,
                json!(["x"]),
            ),
            (
                json!(["foregroundDeletion"]),
                Propagation::Orphan,
                json!(["orphan"]),
            ),
            (json!(["orphan"]), Propagation::Background, Value::Null),
        ];
        for (before, propagation, after) in cases {
            let mut object = json!({"metadata": {"finalizers": before}});
            set_finalizers(&mut object, Some(propagation));
            assert_eq!(object["metadata"]["finalizers"], after);
        }
    }
}
