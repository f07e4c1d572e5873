//! Laying what a policy computes over an object: a merge without owners.

use serde_json::Value;

use super::merge::merge;
use super::typed::{Parts, Slot, child, items};
use crate::schema::Schema;

/// The object with `config` merged into it as server-side apply would; nobody comes to own anything.
///
/// # Errors
/// The configuration names an atomic list or map, which would replace it as a whole.
pub(crate) fn overlay(schema: &Schema, mut object: Value, config: Value) -> Result<Value, String> {
    let slot = Slot::root(schema.root());
    let mut atomics = Vec::new();
    collect(&config, slot, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        let all = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"
        ));
    }
    merge(&mut object, config, slot);
    Ok(object)
}

fn collect(value: &Value, slot: Slot<'_>, path: &mut String, out: &mut Vec<String>) {
    let length = path.len();
    match (slot.parts(value), value) {
        (Parts::Leaf, Value::Array(_) | Value::Object(_)) => out.push(path.clone()),
        (Parts::Map(object), Value::Object(map)) => {
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                collect(value, child(object, key), path, out);
                path.truncate(length);
            }
        }
        (Parts::List(list), Value::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                collect(value, items(list), path, out);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_merge_by_key_and_atomic_parts_are_refused() {
        let schema = Schema::builtin("", "v1", "Pod").unwrap();
        let pod = json!({"metadata": {"labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let config = json!({"metadata": {"labels": {"b": "2"}},
            "spec": {"containers": [{"name": "c", "tty": true}], "hostname": "h"}});
        let merged = overlay(&schema, pod.clone(), config).unwrap();
        let expected = json!({"metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"containers": [{"name": "c", "image": "i", "tty": true}], "hostname": "h"}});
        assert_eq!(merged, expected);
        let atomic = json!({"spec": {"containers": [{"name": "c", "args": ["x"]}]}});
        let error = overlay(&schema, pod, atomic).unwrap_err();
        let expected = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
                        .spec.containers[0].args";
        assert_eq!(error, expected);
    }
}
