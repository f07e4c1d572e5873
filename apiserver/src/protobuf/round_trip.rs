//! Objects of every built-in kind, with everything that their schemas know and with nothing but zero values: there and
//! back again through protobuf and through the store they stay what they are.

use serde_json::{Map, Value, json};

use super::{decode, encode};
use crate::resource::Registry;
use crate::schema::node::{Shape, Text};
use crate::schema::{KINDS, Node, Schema};

/// What leaves hold.
#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Something,
    Zero,
}

/// A value with all its fields; types that contain themselves end at some depth.
fn value(node: &Node, fill: Fill, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let zero = fill == Fill::Zero;
    Some(match &node.shape {
        // Any of these types can be a schema.
        Shape::Any => json!({"type": "string"}),
        Shape::Object(object) if object.fields.is_empty() && object.values.is_none() => json!({}),
        Shape::Object(object) => {
            let fields = object.fields.iter();
            let fields = fields.filter_map(|field| {
                Some((field.name.to_string(), value(&field.node, fill, depth)?))
            });
            let mut map: Map<String, Value> = fields.collect();
            if let Some(values) = object.values.as_ref().filter(|_| !zero) {
                map.insert("key".into(), value(values, fill, depth)?);
            }
            map.into()
        }
        Shape::List(_) if zero => json!([]),
        Shape::List(list) => json!([value(&list.items, fill, depth)?]),
        Shape::String(Text::DateTime) => json!("2030-01-02T03:04:05Z"),
        Shape::String(_) if zero => json!(""),
        Shape::String(Text::Base64) => json!("AAE="),
        Shape::String(Text::Plain) => json!("x"),
        Shape::Integer { .. } | Shape::IntOrString if zero => json!(0),
        Shape::Integer { .. } => json!(7),
        Shape::IntOrString => json!("web"),
        Shape::Number => json!(if zero { 0.0 } else { 1.5 }),
        Shape::Boolean => json!(!zero),
        Shape::Quantity => json!(if zero { "0" } else { "1Mi" }),
    })
}

fn object(schema: &Schema, fill: Fill) -> Value {
    let mut object = value(schema.root(), fill, 12).unwrap();
    object["apiVersion"] = schema.api_version().into();
    object["kind"] = schema.kind().into();
    schema.default(&mut object);
    object
}

/// Fields that Kubernetes' protobuf leaves out or has no number for yet: kind and version of objects inside others, and
/// what is newer than the numbers that are published.
const SILENT: [&str; 6] = [
    ".deleteOptions.apiVersion",
    ".deleteOptions.kind",
    ".nodeInfo.runningInUserNamespace",
    ".exactly.derivedAttributes",
    ".firstAvailable[0].derivedAttributes",
    ".consumesCounters[0].compatibilityGroups",
];

/// Times with and without a fraction are the same.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                *text = time.to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(map) => map.values_mut().for_each(plain),
        _ => {}
    }
}

/// Where two values differ.
fn differences(a: &Value, b: &Value, at: &str, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let [a, b] = [a, b].map(|map| map.get(key).unwrap_or(&Value::Null));
                differences(a, b, &format!("{at}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}[{index}]"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{at}: {a} is {b}")),
    }
}

fn compare(what: &str, before: &Value, mut after: Value, schema: &Schema, out: &mut Vec<String>) {
    schema.default(&mut after);
    let mut before = before.clone();
    plain(&mut before);
    plain(&mut after);
    let mut found = Vec::new();
    differences(&before, &after, what, &mut found);
    // An empty list there is a request to forget, and no state of an object.
    let is_silent =
        |path: &str| path.ends_with(".managedFields") || SILENT.iter().any(|s| path.ends_with(s));
    found.retain(|fault| !fault.split(": ").next().is_some_and(is_silent));
    out.append(&mut found);
}

#[test]
fn every_kind_has_a_protobuf_form_that_says_all() {
    let mut faults = Vec::new();
    for kind in KINDS {
        let schema = Schema::builtin(kind.group, kind.version, kind.kind).unwrap();
        for fill in [Fill::Something, Fill::Zero] {
            let object = object(&schema, fill);
            let what = format!("{} {}", schema.api_version(), kind.kind);
            let Some(bytes) = encode(&object) else {
                faults.push(format!("{what} has no protobuf form"));
                continue;
            };
            match decode(&bytes) {
                Ok(read) => compare(&what, &object, read, &schema, &mut faults),
                Err(error) => faults.push(format!("{what}: {error}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}: {faults:#?}", faults.len());
}

#[tokio::test]
async fn every_version_serves_what_was_stored_through_it() {
    let mut faults = Vec::new();
    for resource in Registry::builtin().snapshot().iter() {
        let Some(conversion) = &resource.conversion else {
            continue;
        };
        for fill in [Fill::Something, Fill::Zero] {
            let schema = resource.schema();
            let object = object(schema, fill);
            let what = resource.qualified();
            let stored = conversion.store(object.clone()).await.unwrap();
            let served = conversion.serve_one(stored).await.unwrap();
            compare(&what, &object, served, schema, &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}: {faults:#?}", faults.len());
}

#[test]
fn what_nobody_set_is_left_out_however_it_was_sent() {
    let schema = Schema::builtin("", "v1", "Pod").unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {}},
        "spec": {"hostNetwork": false, "hostname": "", "priority": 0, "tolerations": [], "automountServiceAccountToken": false,
            "containers": [{"name": "c", "tty": false, "stdin": true, "args": [],
                "ports": [{"containerPort": 80, "hostPort": 0}]}]}});
    schema.default(&mut pod);
    let spec = &pod["spec"];
    for field in ["hostNetwork", "hostname", "tolerations"] {
        assert_eq!(spec.get(field), None, "{field}");
    }
    assert_eq!(spec["priority"], 0, "a pointer in Kubernetes' types");
    assert_eq!(spec["automountServiceAccountToken"], false);
    let container = &spec["containers"][0];
    assert_eq!((container.get("tty"), container.get("args")), (None, None));
    assert_eq!(container["stdin"], true);
    assert_eq!(container["ports"][0].get("hostPort"), None);
    assert_eq!(pod["status"], json!({}), "a patch may go into it");
    assert_eq!(pod["metadata"].get("labels"), None);
    let service = Schema::builtin("", "v1", "Service").unwrap();
    let mut object = json!({"metadata": {"name": "s"}});
    service.default(&mut object);
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
}
