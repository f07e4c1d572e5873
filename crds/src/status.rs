//! The merge patch that makes one status of another.

use serde::Serialize;
use serde_json::{Map, Value};

/// What a merge patch of `status` must say so that `old` becomes `new`: only what differs, with a null for what is
/// gone. A field that is left out when it is empty would otherwise stay as it was for ever, such as the last condition.
/// `None` when nothing differs; a field that is absent is the same as one that is zero or empty.
///
/// Lists are replaced as a whole, so send the version or the UID that `old` was read with.
pub fn merge_patch<S: Serialize>(old: Option<&S>, new: &S) -> Option<Value> {
    let object = |status: &S| serde_json::to_value(status).unwrap_or_default();
    let old = old.map(object).unwrap_or_default();
    let changes = changes(&old, &object(new));
    (!changes.is_empty()).then(|| changes.into())
}

fn changes(old: &Value, new: &Value) -> Map<String, Value> {
    let (nothing, mut out) = (Map::new(), Map::new());
    let [old, new] = [old, new].map(|value| value.as_object().unwrap_or(&nothing));
    for (key, value) in new {
        match old.get(key) {
            Some(before @ Value::Object(_)) if value.is_object() => {
                let inner = changes(before, value);
                if !inner.is_empty() {
                    out.insert(key.clone(), inner.into());
                }
            }
            before if same(before, Some(value)) => {}
            _ => drop(out.insert(key.clone(), value.clone())),
        }
    }
    for (key, value) in old {
        if !new.contains_key(key) && !is_empty(value) {
            out.insert(key.clone(), Value::Null);
        }
    }
    out
}

/// Whether two values say the same: what is absent equals what is zero or empty, at every depth.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys = a.keys().chain(b.keys());
            keys.all(|key| same(a.get(key), b.get(key)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (None, Some(other)) | (Some(other), None) => is_empty(other),
        (a, b) => a == b,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_is_said() {
        let table = [
            (
                json!({"replicas": 1, "conditions": [{"type": "ReplicaFailure"}]}),
                json!({"replicas": 1}),
                Some(json!({"conditions": null})),
            ),
            (
                json!({"a": {"x": "1", "y": "2"}}),
                json!({"a": {"x": "1"}}),
                Some(json!({"a": {"y": null}})),
            ),
            (
                json!({"a": {"x": "1"}}),
                json!({}),
                Some(json!({"a": null})),
            ),
            (
                json!({"list": [1, 2]}),
                json!({"list": [1]}),
                Some(json!({"list": [1]})),
            ),
            (json!({"n": 1}), json!({"n": 0}), Some(json!({"n": 0}))),
            (
                json!({}),
                json!({"n": 0, "s": "", "list": [], "o": {}}),
                None,
            ),
            (json!({"n": 0, "o": {"p": false}}), json!({}), None),
            (
                json!({"list": [{"a": 1, "b": ""}]}),
                json!({"list": [{"a": 1}]}),
                None,
            ),
        ];
        for (old, new, expected) in table {
            assert_eq!(merge_patch(Some(&old), &new), expected, "{old} {new}");
        }
        assert_eq!(merge_patch(None, &json!({"n": 1})), Some(json!({"n": 1})));
    }
}
