//! Reading and changing objects that are JSON values, with absent fields reading as zero values.

use serde_json::{Map, Value};

use crate::schema::defaults::is_zero;

static NULL: Value = Value::Null;

/// Reading: a missing field and one of another type read as the zero value.
pub(crate) trait Fields {
    /// The field, or null.
    fn at(&self, key: &str) -> &Value;
    /// The text, or "".
    fn text(&self, key: &str) -> &str;
    /// The whole number.
    fn int(&self, key: &str) -> Option<i64>;
    /// The flag, or false.
    fn flag(&self, key: &str) -> bool;
    /// The list, or an empty one.
    fn items(&self, key: &str) -> &[Value];
    /// The keys and values of a map or struct.
    fn entries<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)>;
    /// Whether the field is there and not null.
    fn has(&self, key: &str) -> bool;
}

impl Fields for Value {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }

    fn text(&self, key: &str) -> &str {
        self.at(key).as_str().unwrap_or_default()
    }

    fn int(&self, key: &str) -> Option<i64> {
        self.at(key).as_i64()
    }

    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or_default()
    }

    fn items(&self, key: &str) -> &[Value] {
        self.at(key).as_array().map_or(&[], Vec::as_slice)
    }

    fn entries<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.at(key)
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v))
    }

    fn has(&self, key: &str) -> bool {
        !self.at(key).is_null()
    }
}

/// The object under `key`, made if there is none.
pub(crate) fn ensure<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let entry = map.entry(key).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(object) => object,
        _ => unreachable!("made an object above"),
    }
}

/// The object under `key`.
pub(crate) fn object<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// Sets a field that is absent or holds its zero value.
pub(crate) fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(is_zero) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a field that is absent.
pub(crate) fn default_absent(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Gives `new` the field that `old` has, or none.
pub(crate) fn carry(new: &mut Value, old: &Value, key: &str) {
    let Some(new) = new.as_object_mut() else {
        return;
    };
    match old.get(key) {
        Some(value) => {
            new.insert(key.to_owned(), value.clone());
        }
        None => {
            new.remove(key);
        }
    }
}

/// Equality as Kubernetes' types have it: a field that is absent equals its zero value.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&NULL)))
                && b.iter().all(|(k, v)| a.contains_key(k) || is_empty(v))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        (a, b) => a == b,
    }
}

/// Whether nothing but zero values is inside.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_empty),
        other => is_zero(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_and_zero_are_the_same() {
        let table = [
            (json!({"a": 0, "b": {"c": ""}}), json!({}), true),
            (json!({"a": [1]}), json!({"a": [1], "b": false}), true),
            (json!({"a": [1]}), json!({"a": [1, 2]}), false),
            (json!({"a": "x"}), json!({}), false),
            (json!({}), json!({"a": {"b": 1}}), false),
            (Value::Null, json!({}), true),
        ];
        for (a, b, equal) in table {
            assert_eq!(same(&a, &b), equal, "{a} {b}");
            assert_eq!(same(&b, &a), equal, "{b} {a}");
        }
    }
}
