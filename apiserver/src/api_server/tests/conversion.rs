//! Custom kinds whose versions are converted by a webhook.

use serde_json::json;

use super::*;
use crate::callout::testing::{Answered, Asked, Server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/hosts";
const V2: &str = "/apis/example.com/v2/namespaces/default/hosts";

/// `v1` has `spec.address` as `host:port`, `v2` has both apart.
fn convert(asked: &Asked) -> Answered {
    let request = &asked.body["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = wanted.into();
        let spec = &object["spec"];
        object["spec"] = if wanted.ends_with("v1") {
            let (host, port) = (
                spec["host"].as_str().unwrap(),
                spec["port"].as_str().unwrap(),
            );
            json!({"address": format!("{host}:{port}")})
        } else {
            let (host, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
            json!({"host": host, "port": port})
        };
        object
    });
    let objects: Vec<Value> = objects.collect();
    let fails = objects
        .iter()
        .any(|object| object["metadata"]["name"] == "cursed");
    let result = if fails {
        json!({"status": "Failure", "message": "cursed"})
    } else {
        json!({"status": "Success"})
    };
    let response = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": request["uid"], "convertedObjects": objects, "result": result}});
    (200, Vec::new(), response.to_string())
}

/// Hosts, each field of each version selectable.
fn definition(server: &Server) -> Value {
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let properties: serde_json::Map<String, Value> = fields
            .iter()
            .map(|f| ((*f).to_owned(), json!({"type": "string"})))
            .collect();
        let selectable: Vec<Value> = fields
            .iter()
            .map(|f| json!({"jsonPath": format!(".spec.{f}")}))
            .collect();
        json!({"name": name, "served": true, "storage": storage, "selectableFields": selectable,
            "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "hosts.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
            "versions": [version("v1", true, &["address"]), version("v2", false, &["host", "port"])],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": server.url("/convert"), "caBundle": server.bundle()}}},
        },
    })
}

#[tokio::test]
async fn fields_are_selected_in_the_version_that_was_asked_for() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], convert).await;
    rig.make(DEFINITIONS, definition(&server)).await;
    let host = |name: &str, port: &str| {
        json!({"apiVersion": "example.com/v2", "kind": "Host",
        "metadata": {"name": name}, "spec": {"host": "h", "port": port}})
    };
    for (name, port) in [("a", "80"), ("b", "81"), ("c", "80"), ("d", "80")] {
        rig.make(V2, host(name, port)).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        items.map(name).collect()
    };
    let list = rig
        .get(&format!("{V2}?fieldSelector=spec.port%3D80"))
        .await
        .ok();
    assert_eq!(names(&list), ["a", "c", "d"]);
    let list = rig
        .get(&format!("{V1}?fieldSelector=spec.address%3Dh:81"))
        .await
        .ok();
    assert_eq!(names(&list), ["b"]);
    rig.get(&format!("{V1}?fieldSelector=spec.port%3D80"))
        .await
        .refused(400, "field label not supported: spec.port");
    let pages = format!("{V2}?fieldSelector=spec.port%3D80&limit=2");
    let first = rig.get(&pages).await.ok();
    assert_eq!(names(&first), ["a", "c"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = rig.get(&format!("{pages}&continue={token}")).await.ok();
    assert_eq!(
        (names(&rest), rest["metadata"].get("continue")),
        (vec!["d".to_owned()], None)
    );
    // A watch sees objects come into the selection and leave it.
    let revision = rest["metadata"]["resourceVersion"].as_str().unwrap();
    let port = |port: &str| json!({"spec": {"port": port}});
    for (name, to) in [("b", "80"), ("a", "81"), ("c", "82")] {
        rig.patch(&format!("{V2}/{name}"), "merge-patch+json", port(to))
            .await
            .ok();
    }
    rig.delete(&format!("{V2}/d")).await.ok();
    let watch = "watch=1&timeoutSeconds=1&fieldSelector=spec.port%3D80";
    let seen = |reply: Reply| -> Vec<(String, String)> {
        // One event alone reads as JSON.
        let text = match reply.body {
            Value::String(text) => text,
            one => one.to_string(),
        };
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of = |event: Value| {
            let text = |at: &str| {
                event
                    .pointer(at)
                    .and_then(Value::as_str)
                    .unwrap()
                    .to_owned()
            };
            assert_eq!(text("/object/apiVersion"), "example.com/v2");
            (text("/type"), text("/object/metadata/name"))
        };
        events.map(of).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let changes = rig
        .get(&format!("{V2}?{watch}&resourceVersion={revision}"))
        .await;
    let expected = [
        ("ADDED", "b"),
        ("DELETED", "a"),
        ("DELETED", "c"),
        ("DELETED", "d"),
    ];
    assert_eq!(seen(changes), pairs(&expected));
    let now = rig.get(&format!("{V2}?{watch}")).await;
    assert_eq!(seen(now), pairs(&[("ADDED", "b")]));
}

#[tokio::test]
async fn versions_are_converted_by_a_webhook_one_call_a_list() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], convert).await;
    rig.make(DEFINITIONS, definition(&server)).await;
    let host = |api: &str, name: &str, spec: Value| json!({"apiVersion": api, "kind": "Host", "metadata": {"name": name}, "spec": spec});
    let split = json!({"host": "h", "port": "80"});
    let made = rig
        .make(V2, host("example.com/v2", "a", split.clone()))
        .await;
    assert_eq!(
        (&made["apiVersion"], &made["spec"]),
        (&json!("example.com/v2"), &split)
    );
    let stored = rig.get(&format!("{V1}/a")).await.ok();
    assert_eq!(stored["spec"], json!({"address": "h:80"}));
    rig.make(V1, host("example.com/v1", "b", json!({"address": "i:81"})))
        .await;
    let before = server.asked().len();
    let list = rig.get(V2).await.ok();
    assert_eq!(list["items"][1]["spec"], json!({"host": "i", "port": "81"}));
    assert_eq!(list["items"][1]["apiVersion"], "example.com/v2");
    assert_eq!(server.asked().len(), before + 1);
    let patched = rig
        .patch(
            &format!("{V2}/b"),
            "merge-patch+json",
            json!({"spec": {"port": "82"}}),
        )
        .await
        .ok();
    assert_eq!(patched["spec"]["port"], "82");
    assert_eq!(
        rig.get(&format!("{V1}/b")).await.ok()["spec"]["address"],
        "i:82"
    );
    rig.post(V2, host("example.com/v2", "cursed", split))
        .await
        .refused(
            500,
            "conversion webhook for example.com/v2, Kind=Host failed: cursed",
        );
}
