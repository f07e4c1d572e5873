//! What Kubernetes' conformance tests ask of the protocol: refusals and answers as rows of `protocol.txt`,
//! and the stories that need more than one look.

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A line of `protocol.txt`.
struct Row<'a> {
    method: &'a str,
    path: String,
    header: Option<(&'a str, &'a str)>,
    body: Value,
    code: u16,
    texts: Vec<&'a str>,
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [call, header, body, code, texts] = fields[..] else {
            panic!("five fields: {line}");
        };
        let (method, path) = call.split_once(' ').unwrap();
        let path = path
            .replace("$n", "/api/v1/namespaces/protocol")
            .replace("$apps", "/apis/apps/v1/namespaces/protocol");
        Row {
            method,
            path,
            header: header.split_once(": "),
            body: match body.strip_prefix('!') {
                Some(raw) => raw.into(),
                None if body == "-" => Value::Null,
                None => serde_saphyr::from_str(body).unwrap(),
            },
            code: code.parse().unwrap(),
            texts: texts.split(" && ").collect(),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_kubernetes_answers_them() {
    let cluster = Cluster::start().await;
    cluster.namespace("protocol").await;
    let mut faults = Vec::new();
    for row in rows(include_str!("protocol.txt")) {
        let kind = match row.method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut headers = vec![row.header.unwrap_or(("content-type", kind))];
        if headers[0].0 != "content-type" {
            headers.push(("content-type", kind));
        }
        let reply = cluster
            .send_with(row.method, &row.path, &headers, &row.body)
            .await;
        let text = reply.body.to_string();
        let missing: Vec<_> = row
            .texts
            .iter()
            .filter(|part| !text.contains(**part))
            .collect();
        if reply.code != row.code || !missing.is_empty() {
            let call = format!("{} {}", row.method, row.path);
            faults.push(format!(
                "{call}: {} {text}\n  missing {missing:?}",
                reply.code
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Chunks of a list are consistent and say how many are left; a watch goes on from where a list ended; an
/// object that leaves a watch's selection is deleted to that watch.
#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_chunks_and_watches_go_on() {
    let cluster = Cluster::start().await;
    cluster.namespace("chunks").await;
    let path = "/api/v1/namespaces/chunks/configmaps";
    for index in 0..10 {
        let object =
            json!({"metadata": {"name": format!("c{index}"), "labels": {"kind": "chunk"}}});
        cluster.post(path, &object).await.ok();
    }
    let mut page = cluster
        .get(&format!("{path}?limit=4&labelSelector=kind"))
        .await
        .ok();
    let revision = page["metadata"]["resourceVersion"].clone();
    let mut sizes = Vec::new();
    loop {
        sizes.push(page["items"].as_array().unwrap().len());
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        let Some(token) = page["metadata"]["continue"].as_str() else {
            break;
        };
        // Written after the list began: not in it.
        let late =
            json!({"metadata": {"name": format!("z{}", sizes.len()), "labels": {"kind": "chunk"}}});
        cluster.post(path, &late).await.ok();
        let next = format!("{path}?limit=4&labelSelector=kind&continue={token}");
        page = cluster.get(&next).await.ok();
    }
    assert_eq!(sizes, [4, 4, 2]);
    let whole = cluster.get(&format!("{path}?limit=4")).await.ok();
    assert_eq!(whole["metadata"]["remainingItemCount"], 8);

    let revision = revision.as_str().unwrap();
    let out = json!({"metadata": {"labels": {"kind": "other"}}});
    cluster.patch(&format!("{path}/c0"), &out).await.ok();
    let back = json!({"metadata": {"labels": {"kind": "chunk"}}});
    cluster.patch(&format!("{path}/c0"), &back).await.ok();
    let watch = format!(
        "{path}?watch=true&timeoutSeconds=1&resourceVersion={revision}&labelSelector=kind%3Dchunk&fieldSelector=metadata.name%3Dc0"
    );
    let events = cluster.get(&watch).await.body;
    let events: Vec<Value> = events
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["DELETED", "ADDED"]);

    let streamed = format!(
        "{path}?watch=true&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let events = cluster.get(&streamed).await.body;
    let events = events.as_str().unwrap().lines();
    let marked = events
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "BOOKMARK")
        .any(|event| {
            event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
        });
    assert!(marked, "no bookmark ends the first events");
}

/// A default that a definition gets later is there when older objects are read, listed and watched; unknown
/// fields are dropped with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_get_defaults_from_storage() {
    let cluster = Cluster::start().await;
    cluster.namespace("defaults").await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = json!({
        "metadata": {"name": "crumbs.defaults.example.com"},
        "spec": {
            "group": "defaults.example.com", "scope": "Namespaced",
            "names": {"plural": "crumbs", "kind": "Crumb"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"a": {"type": "string"}}}}}],
        },
    });
    definition = cluster.post(definitions, &definition).await.ok();
    let path = "/apis/defaults.example.com/v1/namespaces/defaults/crumbs";
    let crumb = json!({"apiVersion": "defaults.example.com/v1", "kind": "Crumb", "metadata": {"name": "c"}, "b": 1});
    let made = cluster.post(path, &crumb).await;
    assert_eq!(made.headers["warning"], "299 - \"unknown field \\\"b\\\"\"");
    assert_eq!(
        (&made.body["a"], &made.body["b"]),
        (&Value::Null, &Value::Null)
    );
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/a";
    definition.pointer_mut(schema).unwrap()["default"] = "A".into();
    let name = format!("{definitions}/crumbs.defaults.example.com");
    cluster.put(&name, &definition).await.ok();
    assert_eq!(cluster.get(&format!("{path}/c")).await.ok()["a"], "A");
    assert_eq!(cluster.get(path).await.ok()["items"][0]["a"], "A");
    let seen = cluster
        .get(&format!("{path}?watch=true&timeoutSeconds=1"))
        .await
        .body;
    assert_eq!(seen["object"]["a"], "A", "{seen}");
    cluster.delete(&name).await.ok();
}

/// Many Services at once: no address and no port twice, all given back.
#[tokio::test(flavor = "multi_thread")]
async fn services_never_share() {
    let cluster = Cluster::start().await;
    cluster.namespace("sharing").await;
    let path = "/api/v1/namespaces/sharing/services";
    let makes = (0..100).map(|index| {
        let object = json!({"metadata": {"name": format!("s{index}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let cluster = &cluster;
        async move { cluster.post(path, &object).await.ok() }
    });
    let made = futures::future::join_all(makes).await;
    let distinct = |pointer: &str| {
        let values: std::collections::BTreeSet<String> = made
            .iter()
            .map(|service| service.pointer(pointer).unwrap().to_string())
            .collect();
        values.len()
    };
    assert_eq!(
        (
            distinct("/spec/clusterIP"),
            distinct("/spec/ports/0/nodePort")
        ),
        (100, 100)
    );
    cluster.delete(path).await.ok();
    let left = cluster
        .get("/apis/networking.k8s.io/v1/ipaddresses")
        .await
        .ok();
    let left = left["items"].as_array().unwrap().iter();
    let ours = left.filter(|address| address["spec"]["parentRef"]["namespace"] == "sharing");
    assert_eq!(ours.count(), 0);
}
