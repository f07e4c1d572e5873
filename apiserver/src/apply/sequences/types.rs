//! The types that are written to, and ways to their parts.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::schema::{Path as SchemaPath, Schema};

/// A step towards a part of an object.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Field(&'static str),
    /// The item with these keys.
    Item(Value),
    /// The item of a set that the value is.
    Member,
    /// Another item with these keys.
    Another(Value),
}

pub(super) type Place = (Vec<Step>, Vec<Value>);

/// A kind of types: how davit and how the model see it, and what is written to its objects.
pub(super) struct Types {
    pub(super) api_versions: [&'static str; 2],
    pub(super) kind: &'static str,
    /// In turn, when the definition changes.
    pub(super) shapes: Vec<(Arc<Schema>, Value)>,
    pub(super) places: Vec<Place>,
    /// What an object has that nobody wrote.
    pub(super) nothing: Value,
}

pub(super) fn place(path: &str, values: impl IntoIterator<Item = Value>) -> Place {
    let step = |text: &'static str| match text.split_at(1) {
        ("[", item) => Step::Item(serde_json::from_str(item.trim_end_matches(']')).unwrap()),
        ("+", item) => Step::Another(serde_json::from_str(item).unwrap()),
        ("*", _) => Step::Member,
        _ => Step::Field(text),
    };
    let text: &'static str = path.to_owned().leak();
    (
        text.split(' ').map(step).collect(),
        values.into_iter().collect(),
    )
}

pub(super) fn custom() -> Types {
    let schema = |shifting: &str| {
        let text = json!({"type": "string"});
        let whole = json!({"type": "integer"});
        let keyed = |kind: &str| {
            let keys = (kind == "map").then(|| json!(["id"]));
            let mut list = json!({"type": "array", "x-kubernetes-list-type": kind, "items": {"type": "object",
                "required": ["id"], "properties": {"id": text, "n": whole}}});
            if let Some(keys) = keys {
                list["x-kubernetes-list-map-keys"] = keys;
            }
            list
        };
        json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "n": whole, "s": text,
                "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id", "port"],
                    "items": {"type": "object", "required": ["id"], "properties": {"id": text, "v": whole,
                        "port": {"type": "integer", "default": 80},
                        "inner": {"type": "object", "properties": {"x": whole, "y": whole}}}}},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
                "plain": {"type": "array", "items": text},
                "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": whole, "b": whole}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "words": {"type": "object", "additionalProperties": text},
                "deep": {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": whole, "c": whole}}}},
                "maybe": {"type": "object", "nullable": true, "properties": {"q": whole}},
                "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true},
                "shifting": keyed(shifting)}},
            "status": {"type": "object", "properties": {"phase": text, "conditions": {"type": "array",
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {"type": "object", "required": ["type"], "properties": {"type": text, "status": text}}}}}}})
    };
    let shape = |shifting: &str| {
        let schema = schema(shifting);
        let compiled = Schema::from_crd("x.io", "v1", "Foo", &schema, &SchemaPath::new("s"));
        (compiled.unwrap(), schema)
    };
    let (numbers, words) = ([json!(1), json!(2)], [json!("x"), json!("y")]);
    let mut places = vec![
        place("spec n", numbers.clone()),
        place("spec s", words.clone()),
        place("spec items [{\"id\":\"p\",\"port\":80}]", []),
        place("spec items [{\"id\":\"p\"}] v", numbers.clone()),
        place("spec items [{\"id\":\"q\",\"port\":81}] v", numbers.clone()),
        place(
            "spec items [{\"id\":\"q\",\"port\":81}] inner x",
            numbers.clone(),
        ),
        place(
            "spec items [{\"id\":\"q\",\"port\":81}] inner y",
            numbers.clone(),
        ),
        place("spec items +{\"id\":\"p\"}", []),
        place("spec tags *", words.clone()),
        place("spec plain", [json!([]), json!(["x"]), json!(["y"])]),
        place("spec whole", [json!({"a": 1}), json!({"b": 1})]),
        place(
            "spec free a",
            [json!(1), json!({}), json!([1]), json!(null)],
        ),
        place("spec free a b", numbers.clone()),
        place("spec free c d e", numbers.clone()),
        place(
            "spec any",
            [
                json!(1),
                json!({"z": 1}),
                json!({"z": {"y": 1}}),
                json!([{"z": 1}]),
            ],
        ),
        place("spec words k", words.clone()),
        place("spec words l", words.clone()),
        place("spec words", [json!({})]),
        place("spec deep a b", numbers.clone()),
        place("spec deep a c", numbers.clone()),
        place("spec deep", [json!({}), json!({"a": {}})]),
        place("spec maybe", [json!(null), json!({}), json!({"q": 1})]),
        place("spec embedded metadata labels m", words.clone()),
        place("spec embedded kind", words.clone()),
        place("spec embedded data x", numbers.clone()),
        place("spec shifting [{\"id\":\"s\"}] n", numbers.clone()),
        place("spec shifting [{\"id\":\"t\"}] n", numbers.clone()),
        place("status phase", words.clone()),
        place("status conditions [{\"type\":\"R\"}] status", words.clone()),
        place("status conditions [{\"type\":\"S\"}] status", words),
    ];
    places.extend(metadata_places());
    Types {
        api_versions: ["x.io/v1", "x.io/v2"],
        kind: "Foo",
        shapes: vec![shape("map"), shape("atomic")],
        places,
        nothing: json!({}),
    }
}

pub(super) fn metadata_places() -> Vec<Place> {
    let words = [json!("x"), json!("y")];
    vec![
        place("metadata labels l", words.clone()),
        place("metadata labels m", words.clone()),
        place("metadata annotations n", words.clone()),
        place("metadata finalizers *", [json!("x.io/a"), json!("x.io/b")]),
        place("metadata ownerReferences [{\"uid\":\"1\"}] name", words),
    ]
}

/// Pods, as far as they are written here.
pub(super) fn built_in() -> Types {
    let (text, whole) = (json!({"type": "string"}), json!({"type": "integer"}));
    let list = |keys: Value, properties: Value| {
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "properties": properties}})
    };
    let texts = json!({"type": "object", "additionalProperties": text});
    let mut protocol = text.clone();
    protocol["default"] = "TCP".into();
    let env = json!({"name": text, "value": text});
    let ports = json!({"containerPort": whole, "protocol": protocol, "name": text});
    let container = json!({"name": text, "image": text, "args": {"type": "array"}, "env": list(json!(["name"]), env),
        "ports": list(json!(["containerPort", "protocol"]), ports),
        "resources": {"type": "object", "properties": {"limits": texts, "requests": texts}},
        "securityContext": {"type": "object", "properties": {"runAsUser": whole, "privileged": whole}}});
    let condition = json!({"type": text, "status": text});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "hostname": text, "containers": list(json!(["name"]), container),
            "nodeSelector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
            "tolerations": {"type": "array"},
            "securityContext": {"type": "object", "properties": {"runAsUser": whole, "fsGroup": whole}}}},
        "status": {"type": "object", "properties": {"phase": text, "conditions": list(json!(["type"]), condition)}}}});
    let (numbers, words) = ([json!(1), json!(2)], [json!("x"), json!("y")]);
    let mut places = vec![
        place("spec hostname", words.clone()),
        place("spec containers [{\"name\":\"c\"}]", []),
        place("spec containers [{\"name\":\"c\"}] image", words.clone()),
        place(
            "spec containers [{\"name\":\"c\"}] args",
            [json!([]), json!(["x"]), json!(["y"])],
        ),
        place("spec containers [{\"name\":\"d\"}] image", words.clone()),
        place(
            "spec containers [{\"name\":\"c\"}] env [{\"name\":\"E\"}] value",
            words.clone(),
        ),
        place(
            "spec containers [{\"name\":\"c\"}] env [{\"name\":\"F\"}] value",
            words.clone(),
        ),
        place(
            "spec containers [{\"name\":\"c\"}] env +{\"name\":\"E\"}",
            [],
        ),
        place(
            "spec containers [{\"name\":\"c\"}] ports [{\"containerPort\":80}] name",
            words.clone(),
        ),
        place(
            "spec containers [{\"name\":\"c\"}] ports [{\"containerPort\":80,\"protocol\":\"UDP\"}] name",
            words.clone(),
        ),
        place(
            "spec containers [{\"name\":\"d\"}] resources limits cpu",
            [json!("1"), json!("2")],
        ),
        place(
            "spec containers [{\"name\":\"d\"}] securityContext runAsUser",
            numbers.clone(),
        ),
        place("spec nodeSelector", [json!({"a": "1"}), json!({"b": "1"})]),
        place("spec tolerations", [json!([{"key": "k"}]), json!([])]),
        place("spec securityContext runAsUser", numbers.clone()),
        place("spec securityContext fsGroup", numbers),
        place("spec securityContext", [json!({})]),
        place("status phase", words.clone()),
        place("status conditions [{\"type\":\"R\"}] status", words.clone()),
        place("status conditions [{\"type\":\"S\"}] status", words),
    ];
    places.extend(metadata_places());
    Types {
        api_versions: ["v1", "v1"],
        kind: "Pod",
        shapes: vec![(Schema::builtin("", "v1", "Pod").unwrap(), schema)],
        places,
        nothing: json!({"metadata": {}, "spec": {}, "status": {}}),
    }
}

pub(super) fn put(target: &mut Value, steps: &[Step], value: Option<&Value>) {
    let Some((step, rest)) = steps.split_first() else {
        if let Some(value) = value {
            *target = value.clone();
        }
        return;
    };
    match step {
        Step::Field(key) => {
            if !target.is_object() {
                *target = json!({});
            }
            put(&mut target[*key], rest, value);
        }
        Step::Member => {
            let list = list_of(target);
            if let Some(value) = value.filter(|value| !list.contains(value)) {
                list.push(value.clone());
            }
        }
        Step::Another(item) => list_of(target).push(item.clone()),
        Step::Item(item) => {
            let list = list_of(target);
            let at = list
                .iter()
                .position(|found| has(found, item))
                .unwrap_or_else(|| {
                    list.push(item.clone());
                    list.len() - 1
                });
            put(&mut list[at], rest, value);
        }
    }
}

pub(super) fn list_of(target: &mut Value) -> &mut Vec<Value> {
    if !target.is_array() {
        *target = json!([]);
    }
    target.as_array_mut().unwrap()
}

/// Whether an item has these keys, and no others in the place of those that are not there.
pub(super) fn has(found: &Value, item: &Value) -> bool {
    let keys = [
        "id",
        "port",
        "name",
        "containerPort",
        "protocol",
        "uid",
        "type",
    ];
    keys.iter()
        .all(|key| match (found.get(key), item.get(key)) {
            (Some(_), None) => *key == "name" || *key == "uid",
            (found, wanted) => found == wanted,
        })
}

pub(super) fn cut(target: &mut Value, steps: &[Step], value: Option<&Value>) {
    let Some((step, rest)) = steps.split_first() else {
        return;
    };
    match (step, target) {
        (Step::Field(key), Value::Object(map)) if rest.is_empty() => drop(map.remove(*key)),
        (Step::Field(key), Value::Object(map)) => {
            if let Some(inner) = map.get_mut(*key) {
                cut(inner, rest, value);
            }
        }
        (Step::Member, Value::Array(list)) => list.retain(|found| Some(found) != value),
        (Step::Item(item), Value::Array(list)) if rest.is_empty() => {
            list.retain(|found| !has(found, item))
        }
        (Step::Item(item) | Step::Another(item), Value::Array(list)) => {
            for found in list.iter_mut().filter(|found| has(found, item)) {
                cut(found, rest, value);
            }
        }
        _ => {}
    }
}
