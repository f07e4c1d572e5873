//! The definitions of an OpenAPI document: built-in types with their list types and merge keys, and
//! the schemas of custom kinds.

use serde_json::{Map, Value, json};

use super::{Edition, ResourceInfo};
use crate::schema::kinds::{self, Kind};
use crate::schema::lists;
use crate::schema::node;
use crate::schema::node::{ListKind, PatchRule};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The definition of a kind's name, also for kinds that are not built in.
pub(super) fn name(group: &str, version: &str, kind: &str) -> String {
    match builtin_name(group, version, kind) {
        Some(name) => name,
        None => {
            let reversed: Vec<&str> = group.rsplit('.').filter(|p| !p.is_empty()).collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

fn builtin_name(group: &str, version: &str, kind: &str) -> Option<String> {
    kinds::find(group, version, kind)?;
    let package = match group {
        "" if kinds::is_meta(kind) => return Some(format!("{META}{kind}")),
        "" => "core".to_owned(),
        "apiextensions.k8s.io" => {
            let package = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions";
            return Some(format!("{package}.{version}.{kind}"));
        }
        "apiregistration.k8s.io" => {
            let package = "io.k8s.kube-aggregator.pkg.apis.apiregistration";
            return Some(format!("{package}.{version}.{kind}"));
        }
        group => group.split('.').next().unwrap_or_default().to_owned(),
    };
    Some(format!("io.k8s.api.{package}.{version}.{kind}"))
}

fn group_version_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "kind": kind, "version": version})
}

/// The definitions that `resources` need.
pub(super) fn definitions(resources: &[ResourceInfo], edition: Edition) -> Value {
    let mut wanted: Vec<&Kind> = Vec::new();
    let mut want = |group: &str, version: &str, kind: &str| {
        if let Some(found) = kinds::find(group, version, kind)
            && !wanted.iter().any(|w| std::ptr::eq(*w, found))
        {
            wanted.push(found);
        }
    };
    for resource in resources {
        want(&resource.group, &resource.version, &resource.kind);
        for sub in &resource.subresources {
            want(&sub.group, &sub.version, &sub.kind);
        }
    }
    for kind in ["Status", "DeleteOptions", "APIResourceList"] {
        want("", "v1", kind);
    }
    // Custom kinds refer to metadata, which any built-in kind brings along.
    want("", "v1", "ConfigMap");
    let mut out = Map::new();
    for (name, source) in kinds::described(&wanted) {
        let definition = builtin_definition(&name, source, edition);
        out.insert(name, definition);
    }
    for kind in &wanted {
        if let Some(definition) = out.get_mut(kind.definition) {
            let kind = group_version_kind(kind.group, kind.version, kind.kind);
            definition["x-kubernetes-group-version-kind"] = json!([kind]);
        }
    }
    out.insert(format!("{META}ListMeta"), list_meta());
    out.insert(
        format!("{META}Patch"),
        json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes \
                            PATCH request body.",
            "type": "object",
        }),
    );
    for resource in resources {
        if let Some(schema) = &resource.custom_schema {
            let name = name(&resource.group, &resource.version, &resource.kind);
            out.insert(name, custom_definition(resource, schema, edition));
        }
        if resource.verbs.iter().any(|v| v == "list") {
            let (name, list) = list_definition(resource, edition);
            out.insert(name, list);
        }
    }
    Value::Object(out)
}

fn list_meta() -> Value {
    json!({
        "description": "ListMeta describes metadata that synthetic resources must have, including \
                        lists and various status objects.",
        "type": "object",
        "properties": {
            "continue": {"type": "string", "description":
                "Set if the server returned only a part of the list: the token of the next part."},
            "remainingItemCount": {"type": "integer", "format": "int64", "description":
                "The number of items after this part, if it is known."},
            "resourceVersion": {"type": "string", "description":
                "The version of the collection that this list shows."},
            "selfLink": {"type": "string", "description": "Deprecated and empty."},
        },
    })
}

fn list_definition(resource: &ResourceInfo, edition: Edition) -> (String, Value) {
    let ResourceInfo {
        group,
        version,
        kind,
        ..
    } = resource;
    let item = name(group, version, kind);
    let list = format!("{kind}List");
    let definition = json!({
        "description": format!("{list} is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": described(edition.reference(&format!("{META}ListMeta")),
                "Standard list metadata.", edition),
            "items": {"type": "array", "description": format!("List of {}.", resource.plural),
                "items": described(edition.reference(&item), "", edition)},
        },
        "x-kubernetes-group-version-kind": [group_version_kind(group, version, &list)],
    });
    (format!("{item}List"), definition)
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an \
    object. Servers should convert recognized schemas to the latest internal value, and may reject \
    unrecognized values.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. \
    Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In \
    CamelCase.";

/// A reference with a description beside it, as each edition allows.
fn described(reference: Value, description: &str, edition: Edition) -> Value {
    if description.is_empty() {
        return reference;
    }
    match edition {
        Edition::V2 => {
            let mut reference = reference;
            reference["description"] = description.into();
            reference
        }
        Edition::V3 => json!({"description": description, "default": {}, "allOf": [reference]}),
    }
}

fn builtin_definition(name: &str, source: Value, edition: Edition) -> Value {
    let Value::Object(mut map) = source else {
        return source;
    };
    let opaque = map.remove("oneOf").is_some();
    if map.remove("x-kubernetes-int-or-string").is_some() {
        int_or_string(name, &mut map, edition);
        return Value::Object(map);
    }
    if opaque || name.ends_with(".JSON") {
        map.remove("type");
        return Value::Object(map);
    }
    if lists::of_type(name).and_then(|n| n.atomic) == Some(true) {
        map.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (field, schema) in properties.iter_mut() {
            let source = schema.take();
            *schema = property(source, edition);
            annotate(name, field, schema);
        }
    }
    Value::Object(map)
}

fn int_or_string(name: &str, map: &mut Map<String, Value>, edition: Edition) {
    let quantity = name.ends_with(".Quantity");
    match (edition, quantity) {
        (Edition::V2, _) => {
            map.insert("type".to_owned(), "string".into());
        }
        (Edition::V3, true) => {
            map.insert(
                "oneOf".to_owned(),
                json!([{"type": "string"}, {"type": "number"}]),
            );
        }
        (Edition::V3, false) => {
            map.insert(
                "oneOf".to_owned(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
        }
    }
    if !quantity {
        map.insert("format".to_owned(), "int-or-string".into());
    }
}

/// A property, its items or its map values, with references as the edition has them.
fn property(source: Value, edition: Edition) -> Value {
    let Value::Object(mut map) = source else {
        return source;
    };
    if let Some(Value::String(reference)) = map.get("$ref") {
        let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
        let description = map
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return described(edition.reference(&name), description, edition);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            *inner = property(inner.take(), edition);
        }
    }
    Value::Object(map)
}

/// Adds what the table of list types says about a field.
fn annotate(owner: &str, field: &str, schema: &mut Value) {
    let is_list = schema.get("type").is_some_and(|t| t == "array");
    let Some(note) = lists::of_field(owner, field) else {
        if is_list {
            schema["x-kubernetes-list-type"] = "atomic".into();
        }
        return;
    };
    match &note.list {
        node::ListKind::Atomic if is_list => schema["x-kubernetes-list-type"] = "atomic".into(),
        ListKind::Atomic => {}
        ListKind::Set => schema["x-kubernetes-list-type"] = "set".into(),
        ListKind::Map(keys) => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = keys.iter().map(|k| k.to_string()).collect();
        }
    }
    match note.atomic {
        Some(true) => schema["x-kubernetes-map-type"] = "atomic".into(),
        Some(false) => schema["x-kubernetes-map-type"] = "granular".into(),
        None => {}
    }
    patch(&note.patch, schema);
}

fn patch(rule: &PatchRule, schema: &mut Value) {
    let words = [
        (rule.merge, "merge"),
        (rule.retain_keys, "retainKeys"),
        (rule.replace, "replace"),
    ];
    let words: Vec<&str> = words
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| word)
        .collect();
    if !words.is_empty() {
        schema["x-kubernetes-patch-strategy"] = words.join(",").into();
    }
    if let Some(key) = &rule.key {
        schema["x-kubernetes-patch-merge-key"] = key.to_string().into();
    }
}

/// The schema of a custom kind with the fields that every object has.
fn custom_definition(resource: &ResourceInfo, schema: &Value, edition: Edition) -> Value {
    let kind = group_version_kind(&resource.group, &resource.version, &resource.kind);
    // Clients of the older edition refuse what is not listed, so a kind that takes anything lists nothing.
    if !schema.is_object() || edition == Edition::V2 && is_true(schema, PRESERVE) {
        return json!({"type": "object", "x-kubernetes-group-version-kind": [kind]});
    }
    let mut definition = match edition {
        Edition::V3 => schema.clone(),
        Edition::V2 => simplified(schema),
    };
    let metadata = edition.reference(&format!("{META}ObjectMeta"));
    let description = "Standard object's metadata.";
    if definition.get("properties").is_none_or(|p| !p.is_object()) {
        definition["properties"] = json!({});
    }
    let properties = &mut definition["properties"];
    properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    properties["kind"] = json!({"type": "string", "description": KIND});
    properties["metadata"] = described(metadata, description, edition);
    definition["x-kubernetes-group-version-kind"] = json!([kind]);
    definition
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

fn is_true(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// A custom schema without what the older edition cannot say, or what its clients misread: they take a type with `properties`
/// or `items` for complete.
fn simplified(schema: &Value) -> Value {
    let Value::Object(source) = schema else {
        return schema.clone();
    };
    const DROPPED: [&str; 9] = [
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "nullable",
        "default",
        "example",
        "x-kubernetes-validations",
        "x-kubernetes-embedded-resource",
    ];
    let nullable = is_true(schema, "nullable");
    let open = is_true(schema, PRESERVE);
    let kind = source.get("type").and_then(Value::as_str);
    let vague = nullable
        || open && kind == Some("object")
        || kind == Some("array") && (open || !source.contains_key("items"));
    let mut out = Map::new();
    for (key, value) in source {
        let value = match (key.as_str(), value) {
            (key, _) if DROPPED.contains(&key) => continue,
            ("type", _) if vague => continue,
            ("properties" | "items", _) if nullable || open => continue,
            ("required", Value::Array(names)) => {
                let may_be_null = |name: &&Value| {
                    let field = name
                        .as_str()
                        .and_then(|name| source.get("properties")?.get(name));
                    field.is_some_and(|field| is_true(field, "nullable"))
                };
                let kept: Vec<Value> = names
                    .iter()
                    .filter(|name| !may_be_null(name))
                    .cloned()
                    .collect();
                if kept.is_empty() {
                    continue;
                }
                Value::Array(kept)
            }
            ("properties", Value::Object(properties)) => {
                let simple = properties.iter().map(|(k, v)| (k.clone(), simplified(v)));
                Value::Object(simple.collect())
            }
            ("items" | "additionalProperties", value) => simplified(value),
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}
