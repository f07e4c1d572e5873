//! Kinds that are defined while the server runs.

use serde_json::json;

use super::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "color": {"type": "string", "default": "red"},
                    }},
                    "status": {"type": "object", "properties": {"ready": {"type": "boolean"}, "replicas": {"type": "integer"}}},
                }}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }],
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_defined_kind_is_served_at_once() {
    let rig = Rig::new().await;
    let made = rig.make(DEFINITIONS, definition()).await;
    assert_eq!(
        crate::crd::condition(&made, "Established"),
        Some("True"),
        "{made}"
    );
    let list = rig.get("/apis/example.com/v1").await.ok();
    assert_eq!(list["resources"][0]["name"], "widgets");
    let made = rig
        .make(WIDGETS, widget("a", json!({"size": 3, "unknown": 1})))
        .await;
    assert_eq!(made["spec"], json!({"size": 3, "color": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);
    rig.post(WIDGETS, widget("b", json!({"size": 0})))
        .await
        .refused(422, "spec.size");
    rig.post(WIDGETS, widget("b", json!({})))
        .await
        .refused(422, "spec.size: Required value");
    let scale = rig.get(&format!("{WIDGETS}/a/scale")).await.ok();
    assert_eq!(scale["spec"]["replicas"], 3);
    let patched = rig
        .patch(
            &format!("{WIDGETS}/a/scale"),
            "merge-patch+json",
            json!({"spec": {"replicas": 5}}),
        )
        .await
        .ok();
    assert_eq!(patched["spec"]["replicas"], 5);
    let changed = rig.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!(
        (&changed["spec"]["size"], &changed["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    let status = json!({"status": {"ready": true}, "spec": {"size": 9}});
    let status = rig
        .patch(&format!("{WIDGETS}/a/status"), "merge-patch+json", status)
        .await
        .ok();
    assert_eq!(
        (&status["spec"]["size"], &status["status"]["ready"]),
        (&json!(5), &json!(true))
    );
    let selected = rig
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred"))
        .await
        .ok();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = rig
        .send("GET", WIDGETS, &[accept], Body::empty())
        .await
        .ok();
    assert_eq!(table["rows"][0]["cells"], json!(["a", 5]));
    rig.patch(
        &format!("{WIDGETS}/a"),
        "strategic-merge-patch+json",
        json!({}),
    )
    .await
    .refused(415, "");
}

#[tokio::test]
async fn a_definition_takes_its_instances_with_it() {
    let rig = Rig::new().await;
    rig.make(DEFINITIONS, definition()).await;
    let mut held = widget("a", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    rig.make(WIDGETS, held).await;
    rig.make(WIDGETS, widget("b", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let marked = rig.delete(&path).await.ok();
    assert_eq!(crate::crd::condition(&marked, "Terminating"), Some("True"));
    rig.post(WIDGETS, widget("c", json!({"size": 1})))
        .await
        .refused(405, "terminating");
    let mut gone = false;
    for _ in 0..200 {
        if rig.get(&format!("{WIDGETS}/b")).await.code == 404 {
            gone = true;
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(gone);
    assert_eq!(rig.get(&path).await.code, 200);
    let release = json!({"metadata": {"finalizers": null}});
    rig.patch(&format!("{WIDGETS}/a"), "merge-patch+json", release)
        .await
        .ok();
    let kind = rig.server.cache.kind(crate::crd::PREFIX);
    loop {
        let changed = kind.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if rig.get(&path).await.code == 404 {
            break;
        }
        tokio::time::timeout(std::time::Duration::from_secs(5), changed)
            .await
            .unwrap();
    }
    crate::crd::sync(&rig.server);
    rig.get(WIDGETS).await.refused(404, "could not find");
}

#[tokio::test]
async fn a_second_version_reads_what_the_first_wrote() {
    let rig = Rig::new().await;
    rig.make(DEFINITIONS, definition()).await;
    rig.make(WIDGETS, widget("a", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut wider = rig.get(&path).await.ok();
    let mut second = wider["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    wider["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(second);
    rig.put(&path, wider).await.ok();
    let read = rig
        .get("/apis/example.com/v2/namespaces/default/widgets/a")
        .await
        .ok();
    assert_eq!(
        (&read["apiVersion"], &read["spec"]["size"]),
        (&json!("example.com/v2"), &json!(1))
    );
    assert_eq!(
        rig.get(&format!("{WIDGETS}/a")).await.ok()["apiVersion"],
        "example.com/v1"
    );
}

#[tokio::test]
async fn davits_own_kinds_are_there_from_the_start() {
    let rig = Rig::new().await;
    let list = rig.get("/apis/davit.dev/v1alpha1").await.ok();
    assert!(
        list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["kind"] == "Plugin")
    );
}

#[tokio::test]
async fn davits_own_kinds_come_back_with_their_objects() {
    let rig = Rig::new().await;
    let class = json!({"apiVersion": "davit.dev/v1alpha1", "kind": "Network", "metadata": {"name": "keep"},
        "spec": {"driver": "bridge.davit.dev", "subnets": ["10.9.0.0/16"]}});
    let networks = "/apis/davit.dev/v1alpha1/networks";
    let made = rig.make(networks, class).await;
    let before = rig.get(DEFINITIONS).await.ok();
    let own = before["items"].as_array().unwrap();
    assert!(!own.is_empty());
    rig.make(DEFINITIONS, definition()).await;
    rig.make(WIDGETS, widget("a", json!({"size": 3}))).await;
    rig.send("DELETE", DEFINITIONS, &[], "").await.ok();
    for definition in own {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let path = format!("{DEFINITIONS}/{name}");
        loop {
            let now = rig.get(&path).await;
            if now.code == 200 && now.body["metadata"]["uid"] != definition["metadata"]["uid"] {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let kept = rig.get(&format!("{networks}/keep")).await.ok();
    assert_eq!(kept["metadata"]["uid"], made["metadata"]["uid"]);
    // Those of others go with all that is theirs.
    while rig
        .get(&format!("{DEFINITIONS}/widgets.example.com"))
        .await
        .code
        != 404
    {
        tokio::task::yield_now().await;
    }
}
