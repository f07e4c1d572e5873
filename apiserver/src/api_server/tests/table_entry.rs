//! A built-in kind is one entry of the table and nothing else.

use serde_json::json;

use super::*;
use crate::resource::{Entry, table};

/// A kind of Kubernetes that davit's table does not have.
const CANDIDATE: Entry =
    Entry::namespaced("coordination.k8s.io", "v1beta1", "LeaseCandidate", "leasecandidates");

#[tokio::test]
async fn one_entry_adds_a_kind() {
    let rig = Rig::with(Registry::with(table().chain([CANDIDATE]))).await;
    let path = "/apis/coordination.k8s.io/v1beta1/namespaces/default/leasecandidates";
    let spec = json!({
        "leaseName": "l", "binaryVersion": "1.0.0", "emulationVersion": "1.0.0",
        "strategy": "OldestEmulationVersion",
    });
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1beta1", "kind": "LeaseCandidate",
        "metadata": {"name": "a"}, "spec": spec,
    });
    // Schema: what Kubernetes does not know is refused.
    let mut wrong = object.clone();
    wrong["spec"]["nothing"] = 1.into();
    rig.post(&format!("{path}?fieldValidation=Strict"), wrong).await.refused(400, "spec.nothing");
    // All verbs of the one set of handlers.
    let made = rig.make(path, object.clone()).await;
    assert_eq!(rig.get(&format!("{path}/a")).await.ok(), made);
    assert_eq!(rig.get(path).await.ok()["kind"], "LeaseCandidateList");
    let merge = json!({"spec": {"leaseName": "m"}});
    let patched = rig.patch(&format!("{path}/a"), "strategic-merge-patch+json", merge).await.ok();
    assert_eq!(patched["spec"]["leaseName"], "m");
    let apply = format!("{path}/a?fieldManager=me&force=true");
    rig.patch(&apply, "apply-patch+yaml", object).await.ok();
    // Discovery, tables and OpenAPI.
    let list = rig.get("/apis/coordination.k8s.io/v1beta1").await.ok();
    assert_eq!(list["resources"][0]["name"], "leasecandidates");
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let shown = rig.send("GET", path, &[accept], Body::empty()).await.ok();
    assert_eq!(shown["rows"][0]["cells"][0], "a");
    let openapi = rig.get("/openapi/v3/apis/coordination.k8s.io/v1beta1").await.ok();
    assert!(openapi.to_string().contains("LeaseCandidate"));
    // A watch and a delete.
    let watch = format!("{path}?watch=1&timeoutSeconds=1");
    let events = rig.get(&watch).await.ok().to_string();
    assert!(events.contains("ADDED"), "{events}");
    rig.delete(&format!("{path}/a")).await.ok();
}

#[tokio::test]
async fn every_kind_of_the_table_is_known_to_kubernetes() {
    for entry in table() {
        let known = crate::schema::Schema::builtin(entry.group, entry.version, entry.kind);
        assert!(known.is_some(), "{}/{} {}", entry.group, entry.version, entry.kind);
    }
}
