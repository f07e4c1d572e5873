//! The smallest strategic merge patch that turns one pod status into another.
use davit_api::status::same;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that strategic merge would join by key; here the new list replaces the old one.
const REPLACED: [&str; 2] = ["podIPs", "hostIPs"];

/// The patch body for the status subresource of the pod with this UID, `None` when nothing changed.
///
/// What the server leaves out since it is zero or empty is no difference. Conditions are merged by type, so that only changed ones are sent and those of others are left alone. The UID makes the
/// write fail on another pod of the same name.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (object(old), object(new));
    let mut changes = Map::new();
    for (key, value) in &new {
        if !same(old.get(key), Some(value)) {
            changes.insert(key.clone(), change(key, old.get(key), value));
        }
    }
    for (key, value) in &old {
        if !new.contains_key(key) && !same(Some(value), None) {
            changes.insert(key.clone(), Value::Null);
        }
    }
    (!changes.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": changes }))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn change(key: &str, old: Option<&Value>, new: &Value) -> Value {
    let Value::Array(items) = new else {
        return new.clone();
    };
    if REPLACED.contains(&key) && old.is_some() {
        let mut list = vec![json!({ "$patch": "replace" })];
        list.extend(items.iter().cloned());
        return Value::Array(list);
    }
    if key == "conditions" {
        let kept = old.and_then(Value::as_array);
        let changed = items
            .iter()
            .filter(|item| !kept.is_some_and(|kept| is_in(kept, item)))
            .map(|item| cleared(item, kept));
        let gone = kept.into_iter().flatten().filter_map(|item| {
            let type_ = item.get("type")?;
            let is_there = items.iter().any(|other| other.get("type") == Some(type_));
            (!is_there).then(|| json!({ "type": type_, "$patch": "delete" }))
        });
        return changed.chain(gone).collect();
    }
    new.clone()
}

fn is_in(kept: &[Value], item: &Value) -> bool {
    kept.iter().any(|known| same(Some(known), Some(item)))
}

/// A merged list item keeps the fields it had; those that are gone are set to null.
fn cleared(item: &Value, kept: Option<&Vec<Value>>) -> Value {
    let mut item = item.clone();
    let before = kept.and_then(|kept| {
        kept.iter()
            .find(|other| other.get("type") == item.get("type"))
    });
    if let (Value::Object(fields), Some(Value::Object(before))) = (&mut item, before) {
        for field in before.keys() {
            fields.entry(field.clone()).or_insert(Value::Null);
        }
    }
    item
}
