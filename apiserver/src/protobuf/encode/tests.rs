//! What is written reads as what it was.

use proptest::prelude::*;
use serde_json::json;

use super::super::decode;
use super::*;

#[test]
fn objects_come_back_as_they_were() {
    let objects = [
        json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "creationTimestamp": "2030-01-01T00:00:01Z", "labels": {"x": ""},
                "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "10m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3}}],
                "volumes": [{"name": "v", "emptyDir": {}}]},
            "status": {}}),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"k": "AAE="}, "type": "Opaque"}),
        json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "l"},
            "spec": {"renewTime": "2030-01-01T00:00:01.000005Z", "leaseDurationSeconds": 0}}),
        json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "x"},
            "spec": {"names": {"kind": "X"}, "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
                "properties": {"a": {"items": {"type": "string"}, "default": [1, null, "x"]},
                    "n": {"minimum": 1.5, "additionalProperties": false}}}}}]}}),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404}),
    ];
    for object in objects {
        let read = decode(&encode(&object).unwrap()).unwrap();
        let missing = lacking(&object, &read, "");
        assert!(missing.is_empty(), "{missing:?} of {object} in {read}");
    }
}

/// Places at which `read` lacks what `wanted` has; more than wanted is fine, since Go writes empty parts too.
fn lacking(wanted: &Value, read: &Value, at: &str) -> Vec<String> {
    match (wanted, read) {
        (Value::Object(wanted), Value::Object(read)) => wanted
            .iter()
            .flat_map(|(key, value)| {
                lacking(
                    value,
                    read.get(key).unwrap_or(&Value::Null),
                    &format!("{at}.{key}"),
                )
            })
            .collect(),
        (Value::Array(wanted), Value::Array(read)) if wanted.len() == read.len() => {
            let pairs = wanted.iter().zip(read).enumerate();
            pairs
                .flat_map(|(index, (a, b))| lacking(a, b, &format!("{at}[{index}]")))
                .collect()
        }
        (wanted, read) if wanted == read => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

#[test]
fn lists_are_one_message_of_their_items() {
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}, "data": {"k": "v"}}]});
    let bytes = encode(&list).unwrap();
    for text in ["ConfigMapList", "a", "b", "k"] {
        let found = bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(found, "{text}");
    }
    assert_eq!(
        encode(&json!({"kind": "Foo", "apiVersion": "x.io/v1"})),
        None
    );
}

#[test]
fn an_event_says_its_length_first() {
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}});
    let bytes = event("ADDED", &object).unwrap();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(length as usize, bytes.len() - 4);
    assert_eq!(&bytes[4..11], b"\x0a\x05ADDED");
}

/// Values of every message of the table, with nothing that reads as absent.
fn of(message: &'static str, depth: u32) -> BoxedStrategy<Value> {
    let found = messages::by_name(message).unwrap();
    let word = "[a-z]{1,6}";
    match found.shape {
        Shape::Quantity => (1..99u8).prop_map(|n| format!("{n}Mi").into()).boxed(),
        Shape::IntOrString => {
            prop_oneof![(1..99u8).prop_map(Value::from), word.prop_map(Value::from)].boxed()
        }
        Shape::Time { micros: false } => Just(json!("2030-01-02T03:04:05Z")).boxed(),
        Shape::Time { micros: true } => Just(json!("2030-01-02T03:04:05.000006Z")).boxed(),
        Shape::Raw => Just(json!({"any": [1, "x"]})).boxed(),
        Shape::Items => Just(json!(["x"])).boxed(),
        Shape::Either("allows") => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Either(_) => Just(json!({"type": "x"})).boxed(),
        Shape::Object => {
            let mut parts = Vec::new();
            for field in found.fields() {
                let one = match &field.kind {
                    Type::Scalar(Scalar::Text) => word.prop_map(Value::from).boxed(),
                    Type::Scalar(Scalar::Boolean) => Just(json!(true)).boxed(),
                    Type::Scalar(Scalar::Integer) => (1..i64::MAX).prop_map(Value::from).boxed(),
                    Type::Scalar(Scalar::Double) => Just(json!(1.5)).boxed(),
                    Type::Scalar(Scalar::Bytes) => Just(json!("AAE=")).boxed(),
                    Type::Message(_) if depth == 0 => continue,
                    Type::Message(inner) => of(inner, depth - 1),
                };
                let value = match field.repeat {
                    Repeat::Once => one,
                    Repeat::List => prop::collection::vec(one, 1..3)
                        .prop_map(Value::from)
                        .boxed(),
                    Repeat::Map => one.prop_map(|value| json!({ "key": value })).boxed(),
                };
                parts.push((Just(field.name), prop::option::weighted(0.3, value)));
            }
            let flat = |parts: Vec<(&str, Option<Value>)>| {
                let mut object = Map::new();
                for (name, value) in parts {
                    match (name, value) {
                        ("~", Some(Value::Object(inner))) => object.extend(inner),
                        (_, None) | ("~", _) => {}
                        (name, Some(value)) => drop(object.insert(name.to_owned(), value)),
                    }
                }
                Value::Object(object)
            };
            parts.prop_map(flat).boxed()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_message_can_say_comes_back(
        (name, object) in prop::sample::select(vec![
            ("v1", "Pod", "core.v1.Pod"), ("v1", "Node", "core.v1.Node"), ("apps/v1", "StatefulSet", "apps.v1.StatefulSet"),
            ("networking.k8s.io/v1", "Ingress", "networking.v1.Ingress"), ("v1", "PersistentVolume", "core.v1.PersistentVolume"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "admissionregistration.v1.ValidatingAdmissionPolicy"),
        ]).prop_flat_map(|name| (Just(name), of(name.2, 4)))
    ) {
        let mut object = object;
        object["apiVersion"] = name.0.into();
        object["kind"] = name.1.into();
        let read = decode(&encode(&object).unwrap()).unwrap();
        prop_assert_eq!(lacking(&object, &read, ""), Vec::<String>::new());
    }
}
