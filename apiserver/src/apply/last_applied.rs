//! The way from kubectl's client-side apply to server-side apply: its annotation says which fields
//! it may take over without a conflict, and is kept up to date afterwards.

use serde_json::Value;

use super::compare::compare;
use super::set::Set;
use super::typed::to_set_lenient;
use super::{ApplyError, Conflict, Step, Writer};
use crate::strategy::access::{Fields, object};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// More annotations than this would not be taken.
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
        if applied.text("apiVersion") != self.writer.api_version {
            return None;
        }
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

/// Writes the configuration into the annotation if the object has one and kubectl applies. One that would be too
/// large goes, since what it said before is no longer true.
pub(super) fn sync(merged: &mut Value, config: &Value, writer: &Writer<'_>) {
    let annotations = merged.at("metadata").at("annotations");
    if writer.manager != "kubectl" || annotations.text(ANNOTATION).is_empty() {
        return;
    }
    let others = annotations.as_object().into_iter().flatten();
    let others = others.filter(|(key, _)| *key != ANNOTATION);
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    let others: usize = others.map(size).sum();
    let mut config = config.clone();
    if let Some(own) = annotations_of(&mut config) {
        own.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    let Some(annotations) = annotations_of(merged) else {
        return;
    };
    if others + ANNOTATION.len() + text.len() <= MAX_BYTES {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    } else {
        annotations.remove(ANNOTATION);
    }
}

fn annotations_of(value: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object(object(value.as_object_mut()?, "metadata")?, "annotations")
}
