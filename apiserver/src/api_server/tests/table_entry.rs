//! A built-in kind is one entry of the table and nothing else.

use serde_json::json;

use super::*;
use crate::resource::{Entry, table};

/// A kind of Kubernetes that davit's table does not have: it is deprecated and says nothing.
const COMPONENT_STATUS: Entry =
    Entry::cluster("", "v1", "ComponentStatus", "componentstatuses").short(&["cs"]);

#[tokio::test]
async fn one_entry_adds_a_kind() {
    let rig = Rig::with(Registry::with(table().chain([COMPONENT_STATUS]))).await;
    let path = "/api/v1/componentstatuses";
    let object = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": "a"},
        "conditions": [{"type": "Healthy", "status": "True"}],
    });
    // Schema: what Kubernetes does not know is refused, merge keys are known.
    let mut wrong = object.clone();
    wrong["nothing"] = 1.into();
    rig.post(&format!("{path}?fieldValidation=Strict"), wrong)
        .await
        .refused(400, "nothing");
    let made = rig.make(path, object.clone()).await;
    let merge = json!({"conditions": [{"type": "Healthy", "status": "False"}]});
    let patched = rig
        .patch(&format!("{path}/a"), "strategic-merge-patch+json", merge)
        .await
        .ok();
    assert_eq!(
        patched["conditions"],
        json!([{"type": "Healthy", "status": "False"}])
    );
    // All verbs of the one set of handlers.
    assert_eq!(patched["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(rig.get(&format!("{path}/a")).await.ok(), patched);
    assert_eq!(rig.get(path).await.ok()["kind"], "ComponentStatusList");
    rig.put(&format!("{path}/a"), patched).await.ok();
    let events = rig
        .get(&format!("{path}?watch=1&timeoutSeconds=1"))
        .await
        .ok()
        .to_string();
    assert!(events.contains("ADDED"), "{events}");
    // Discovery, tables and OpenAPI.
    let list = rig.get("/api/v1").await.ok();
    let all = list["resources"].as_array().unwrap();
    let entry = all
        .iter()
        .find(|entry| entry["name"] == "componentstatuses")
        .unwrap();
    assert_eq!(entry["shortNames"], json!(["cs"]));
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let shown = rig.send("GET", path, &[accept], Body::empty()).await.ok();
    assert_eq!(shown["rows"][0]["cells"][0], "a");
    let openapi = rig.get("/openapi/v3/api/v1").await.ok();
    assert!(openapi.to_string().contains("/api/v1/componentstatuses"));
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
