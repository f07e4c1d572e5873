//! Whether decoding a value would leave it as it is, so that what is right already need not be built again.

use serde_json::{Map, Number, Value};

use super::decode::is_nothing;
use super::node::{Node, ObjectNode, Shape, Text};
use super::{formats, quantity};

/// Whether [`super::decode::decode`] would give back the same value and report nothing. It may say no to a
/// value of which that is true.
pub(super) fn is_sound(node: &Node, value: &Value) -> bool {
    if !node.typed && matches!(node.shape, Shape::Any) {
        return true;
    }
    match value {
        Value::Null => !node.typed,
        Value::Bool(_) => !node.typed || matches!(node.shape, Shape::Boolean | Shape::Any),
        Value::Number(number) => !node.typed || fits(node, number),
        Value::String(text) => !node.typed || reads(node, text),
        Value::Array(items) => match &node.shape {
            Shape::List(list) => items.iter().all(|item| is_sound(&list.items, item)),
            Shape::Any => true,
            _ => !node.typed,
        },
        Value::Object(map) => match &node.shape {
            Shape::Object(object) => has_sound_fields(node, object, map),
            Shape::Any => true,
            _ => !node.typed,
        },
    }
}

fn has_sound_fields(node: &Node, object: &ObjectNode, map: &Map<String, Value>) -> bool {
    map.iter()
        .all(|(key, value)| match (object.field(key), &object.values) {
            (Some(field), _) => {
                is_sound(&field.node, value) && !(node.typed && is_nothing(key, value))
            }
            (None, Some(values)) => is_sound(values, value),
            (None, None) => object.keep_unknown,
        })
}

fn fits(node: &Node, number: &Number) -> bool {
    match node.shape {
        Shape::Any | Shape::Number => true,
        Shape::Integer { bits: 64 } => number.is_i64(),
        Shape::Integer { .. } | Shape::IntOrString => {
            number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
        }
        _ => false,
    }
}

fn reads(node: &Node, text: &str) -> bool {
    match node.shape {
        Shape::Any | Shape::IntOrString | Shape::String(Text::Plain) => true,
        Shape::String(Text::DateTime) => text.parse::<jiff::Timestamp>().is_ok(),
        Shape::String(Text::Base64) => formats::base64_fault(text).is_none(),
        Shape::Quantity => quantity::canonical(text).is_some_and(|canonical| canonical == text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::schema::decode::{Report, decode};
    use crate::schema::{Schema, any_json};

    fn check(schema: &Schema, value: &Value) -> bool {
        let report = RefCell::new(Report::default());
        let decoded = decode(schema.root(), value.clone(), &report);
        let report = report.into_inner();
        let clean = report.strict.is_empty() && report.wrong_type.is_none();
        let same = clean && decoded.ok().flatten().as_ref() == Some(value);
        let sound = is_sound(schema.root(), value);
        assert!(same || !sound, "{value}");
        sound
    }

    #[test]
    fn what_is_right_is_seen_as_right() {
        let schema = Schema::builtin("", "v1", "Pod").unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:x": {".": {}}}}]},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": "http"}},
                "resources": {"limits": {"cpu": "100m"}}}]}});
        assert!(check(&schema, &pod));
        for (path, wrong) in [
            ("/spec/containers/0/name", json!(1)),
            ("/spec/containers/0/ports/0/containerPort", json!("80")),
            (
                "/spec/containers/0/ports/0/containerPort",
                json!(1_u64 << 40),
            ),
            ("/spec/containers/0/resources/limits/cpu", json!("0.1")),
            ("/spec/containers/0/resources/limits/cpu", json!(1)),
            ("/spec/containers/0", json!({"name": "c", "image": null})),
            ("/spec/containers/0", json!({"name": "c", "colour": "red"})),
            ("/spec/containers", json!([null])),
            ("/metadata/labels", json!({"a": null})),
            ("/metadata/labels", json!({})),
            ("/metadata/creationTimestamp", json!("yesterday")),
        ] {
            let mut pod = pod.clone();
            *pod.pointer_mut(path).unwrap() = wrong;
            assert!(!check(&schema, &pod), "{pod}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_called_right_that_decoding_would_change(value in any_json()) {
            check(&Schema::builtin("", "v1", "Pod").unwrap(), &json!({"spec": value.clone(), "metadata": value}));
        }
    }
}
