//! A built-in kind is one entry of the table and nothing else.

use serde_json::json;

use super::*;
use crate::resource::{Entry, table};

/// A kind of Kubernetes that davit's table does not have: it is only ever part of others.
const SCALE: Entry = Entry::cluster("autoscaling", "v1", "Scale", "scales").short(&["sca"]);

#[tokio::test]
async fn one_entry_adds_a_kind() {
    let rig = Rig::with(Registry::with(table().chain([SCALE]))).await;
    let path = "/apis/autoscaling/v1/scales";
    let object = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "a"}, "spec": {"replicas": 1},
    });
    // Schema: what Kubernetes does not know is refused.
    let mut wrong = object.clone();
    wrong["nothing"] = 1.into();
    rig.post(&format!("{path}?fieldValidation=Strict"), wrong)
        .await
        .refused(400, "nothing");
    let made = rig.make(path, object.clone()).await;
    let merge = json!({"spec": {"replicas": 2}});
    let patched = rig
        .patch(&format!("{path}/a"), "strategic-merge-patch+json", merge)
        .await
        .ok();
    assert_eq!(patched["spec"]["replicas"], 2);
    // All verbs of the one set of handlers.
    assert_eq!(patched["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(rig.get(&format!("{path}/a")).await.ok(), patched);
    assert_eq!(rig.get(path).await.ok()["kind"], "ScaleList");
    rig.put(&format!("{path}/a"), patched).await.ok();
    let events = rig
        .get(&format!("{path}?watch=1&timeoutSeconds=1"))
        .await
        .ok()
        .to_string();
    assert!(events.contains("ADDED"), "{events}");
    // Discovery, tables and OpenAPI.
    let list = rig.get("/apis/autoscaling/v1").await.ok();
    let all = list["resources"].as_array().unwrap();
    let entry = all.iter().find(|entry| entry["name"] == "scales").unwrap();
    assert_eq!(entry["shortNames"], json!(["sca"]));
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let shown = rig.send("GET", path, &[accept], Body::empty()).await.ok();
    assert_eq!(shown["rows"][0]["cells"][0], "a");
    let openapi = rig.get("/openapi/v3/apis/autoscaling/v1").await.ok();
    assert!(openapi.to_string().contains("/autoscaling/v1/scales"));
    rig.delete(&format!("{path}/a")).await.ok();
    assert_eq!(rig.delete(path).await.code, 200);
}

#[tokio::test]
async fn every_kind_of_the_table_is_known_to_kubernetes() {
    for entry in table() {
        let known = crate::schema::Schema::builtin(entry.group, entry.version, entry.kind);
        assert!(
            known.is_some(),
            "{}/{} {}",
            entry.group,
            entry.version,
            entry.kind
        );
    }
}
