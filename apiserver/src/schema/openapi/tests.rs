//! The documents as clients read them.

use serde_json::{Value, json};

use super::*;

fn info(group: &str, version: &str, kind: &str, plural: &str) -> ResourceInfo {
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    let sub = SubresourceInfo {
        name: "status".into(),
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        verbs: ["get", "update", "patch"].map(String::from).to_vec(),
    };
    ResourceInfo {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced: true,
        verbs: verbs.map(String::from).to_vec(),
        subresources: vec![sub],
        returns_deleted: false,
        custom_schema: None,
    }
}

fn parse(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

/// Every `$ref` in a document leads somewhere.
fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|v| check_references(document, v));
        }
        Value::Array(items) => items.iter().for_each(|v| check_references(document, v)),
        _ => {}
    }
}

#[test]
fn a_v3_document_has_what_kubectl_looks_for() {
    let document = v3(
        "apps",
        "v1",
        &[info("apps", "v1", "Deployment", "deployments")],
    );
    assert_eq!(document.hash.len(), 128);
    let document = parse(&document);
    check_references(&document, &document);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "kind": "Deployment", "version": "v1"})
    );
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["name"] == "fieldValidation")
    );
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    assert_eq!(
        deployment["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(
        ports["x-kubernetes-list-map-keys"],
        json!(["containerPort", "protocol"])
    );
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(
        volumes["description"]
            .as_str()
            .unwrap()
            .starts_with("List of volumes")
    );
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["oneOf"],
        json!([{"type": "integer"}, {"type": "string"}])
    );
}

#[test]
fn the_index_points_at_hashed_documents() {
    let index = v3_index(&[("apis/apps/v1".to_owned(), "AB".to_owned())]);
    assert_eq!(
        index,
        json!({"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=AB"}}})
    );
}

#[test]
fn custom_kinds_are_described_in_both_editions() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "description": "what is wanted",
        "properties": {"n": {"type": "integer", "nullable": true}, "m": {"type": "integer", "default": 1, "oneOf": [{"minimum": 1}]}}}}});
    let mut foo = info("stable.x.io", "v1", "Foo", "foos");
    foo.custom_schema = Some(schema);
    let three = parse(&v3("stable.x.io", "v1", std::slice::from_ref(&foo)));
    check_references(&three, &three);
    let definition = &three["components"]["schemas"]["io.x.stable.v1.Foo"];
    assert_eq!(
        definition["properties"]["spec"]["properties"]["m"]["default"],
        1
    );
    assert!(three["components"]["schemas"]["io.x.stable.v1.FooList"].is_object());
    let patch = &three["paths"]["/apis/stable.x.io/v1/namespaces/{namespace}/foos/{name}"]["patch"];
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_none()
    );
    let two = parse(&v2(&[foo, info("", "v1", "Pod", "pods")], &[]));
    check_references(&two, &two);
    let spec = &two["definitions"]["io.x.stable.v1.Foo"]["properties"]["spec"];
    assert_eq!(spec["description"], "what is wanted");
    assert_eq!(
        spec["properties"],
        json!({"n": {}, "m": {"type": "integer"}})
    );
    assert_eq!(
        two["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodSpec"
    );
}

/// Reads one level of protobuf: (field, bytes) of every length-delimited field.
#[test]
fn old_clients_are_told_no_type_where_they_would_refuse_what_is_allowed() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "required": ["a", "maybe"], "properties": {
        "a": open, "maybe": {"type": "string", "nullable": true}, "list": {"type": "array"},
    }});
    let published = |schema: Value| {
        let mut foo = info("stable.x.io", "v1", "Foo", "foos");
        foo.custom_schema = Some(schema);
        parse(&v2(&[foo], &[]))["definitions"]["io.x.stable.v1.Foo"].clone()
    };
    let shown = published(schema);
    let properties = &shown["properties"];
    assert_eq!(
        properties["a"],
        json!({"x-kubernetes-preserve-unknown-fields": true})
    );
    assert_eq!(properties["maybe"], json!({}));
    assert_eq!(properties["list"], json!({}));
    assert_eq!(shown["required"], json!(["a"]));
    let kind = json!([{"group": "stable.x.io", "version": "v1", "kind": "Foo"}]);
    assert_eq!(
        published(open),
        json!({"type": "object", "x-kubernetes-group-version-kind": kind})
    );
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => {
                varint(&mut bytes);
            }
            1 => bytes = &bytes[8..],
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                out.push((tag >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            other => panic!("wire type {other}"),
        }
    }
    out
}

#[test]
fn the_protobuf_form_holds_the_definitions() {
    let document = v2_protobuf(&[info("", "v1", "Pod", "pods")], &[]);
    let top = fields(&document.bytes);
    assert_eq!(top[0], (1, &b"2.0"[..]));
    let definitions = top.iter().find(|(f, _)| *f == 9).unwrap().1;
    let pod = fields(definitions)
        .into_iter()
        .map(|(_, named)| fields(named))
        .find(|named| named[0].1 == b"io.k8s.api.core.v1.Pod")
        .unwrap();
    let schema = fields(pod[1].1);
    let extension = schema.iter().find(|(f, _)| *f == 31).unwrap().1;
    assert_eq!(fields(extension)[0].1, b"x-kubernetes-group-version-kind");
    let properties = schema.iter().find(|(f, _)| *f == 25).unwrap().1;
    assert_eq!(fields(properties).len(), 5);
}

#[test]
fn every_built_in_kind_can_be_documented() {
    for kind in crate::schema::KINDS {
        let plural = format!("{}s", kind.kind.to_lowercase());
        let document = parse(&v3(
            kind.group,
            kind.version,
            &[info(kind.group, kind.version, kind.kind, &plural)],
        ));
        check_references(&document, &document);
    }
}
