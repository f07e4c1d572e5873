//! JSON merge patch (RFC 7396).

use serde_json::{Map, Value};

use super::PatchError;

/// Applies a merge patch that must be an object.
pub(super) fn apply(current: &Value, patch: Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed(
            "a merge patch must be an object".to_owned(),
        ));
    }
    let mut document = current.clone();
    merge(&mut document, patch);
    Ok(document)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
            } else {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}
