//! The way from kubectl's client-side apply to server-side apply: its annotation says which fields
//! it may take over without a conflict, and is kept up to date afterwards.

use serde_json::Value;

use super::compare::compare;
use super::set::Set;
use super::typed::to_set_lenient;
use super::{ApplyError, Conflict, Step, Writer};
use crate::strategy::access::{Fields, object};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Larger annotations would not be taken.
const MAX_BYTES: usize = 256 * 1024;

impl Step<'_> {
    /// Applies by force if all conflicts are about fields that client-side apply set and nobody
    /// changed since; otherwise gives back the other conflicts.
    pub(super) fn upgrade(&self, conflicts: Vec<Conflict>) -> Result<Value, ApplyError> {
        let mut allowed = Vec::new();
        if let Some(set) = self.live.and_then(|live| self.unchanged_since(live)) {
            set.for_each(&mut |path| allowed.push(path.to_owned()));
        }
        let left: Vec<Conflict> = conflicts
            .into_iter()
            .filter(|c| !allowed.contains(&c.field))
            .collect();
        if left.is_empty() {
            self.run(true)
        } else {
            Err(ApplyError::Conflicts(left))
        }
    }

    /// The fields of the annotation whose values the live object still has.
    fn unchanged_since(&self, live: &Value) -> Option<Set> {
        let text = live.at("metadata").at("annotations").text(ANNOTATION);
        let mut applied: Value = serde_json::from_str(text).ok()?;
        self.schema
            .check(&mut applied, crate::schema::FieldValidation::Ignore)
            .ok()?;
        let mut set = to_set_lenient(&applied, self.slot());
        let difference = compare(&applied, live, self.slot());
        set.subtract(&difference.modified);
        set.subtract(&difference.removed);
        Some(set)
    }
}

/// Writes the configuration into the annotation if the object has one and kubectl applies.
pub(super) fn sync(merged: &mut Value, config: &Value, writer: &Writer<'_>) {
    let has = merged.at("metadata").at("annotations").has(ANNOTATION);
    if writer.manager != "kubectl" || !has {
        return;
    }
    let mut config = config.clone();
    let annotations =
        |value: &mut Value, write: &mut dyn FnMut(&mut serde_json::Map<String, Value>)| {
            let meta = value
                .as_object_mut()
                .and_then(|root| object(root, "metadata"));
            if let Some(annotations) = meta.and_then(|meta| object(meta, "annotations")) {
                write(annotations);
            }
        };
    annotations(&mut config, &mut |a| {
        a.remove(ANNOTATION);
    });
    let text = format!("{config}\n");
    if text.len() <= MAX_BYTES {
        annotations(merged, &mut |a| {
            a.insert(ANNOTATION.to_owned(), text.as_str().into());
        });
    }
}
