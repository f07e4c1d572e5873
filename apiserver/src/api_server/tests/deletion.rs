//! Deletion: grace, finalizers, propagation, preconditions, collections.

use serde_json::json;

use super::*;

#[tokio::test]
async fn finalizers_hold_an_object() {
    let rig = Rig::new().await;
    let mut object = config_map("a", "1");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    rig.make(CONFIG_MAPS, object).await;
    let path = format!("{CONFIG_MAPS}/a");
    let marked = rig.delete(&path).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = rig.delete(&path).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        marked["metadata"]["resourceVersion"]
    );
    let revive = json!({"metadata": {"deletionTimestamp": null}});
    let kept = rig.patch(&path, "merge-patch+json", revive).await.ok();
    assert_eq!(
        kept["metadata"]["deletionTimestamp"],
        marked["metadata"]["deletionTimestamp"]
    );
    rig.patch(
        &path,
        "merge-patch+json",
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .ok();
    assert_eq!(rig.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_bound_pod_is_given_its_grace() {
    let rig = Rig::new().await;
    rig.make(PODS, pod("free")).await;
    rig.delete(&format!("{PODS}/free")).await.ok();
    assert_eq!(rig.get(&format!("{PODS}/free")).await.code, 404);

    rig.make(PODS, pod("bound")).await;
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    rig.post(&format!("{PODS}/bound/binding"), binding.clone())
        .await
        .ok();
    rig.post(&format!("{PODS}/bound/binding"), binding)
        .await
        .refused(409, "already assigned to node \"n1\"");
    let path = format!("{PODS}/bound");
    let bound = rig.get(&path).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let marked = rig.delete(&path).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = rig
        .delete(&format!("{path}?gracePeriodSeconds=5"))
        .await
        .ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}}).to_string();
    rig.send("DELETE", &path, &[], options)
        .await
        .refused(409, "Precondition failed: UID");
    let options =
        json!({"gracePeriodSeconds": 0, "preconditions": {"uid": bound["metadata"]["uid"]}});
    rig.send("DELETE", &path, &[], options.to_string())
        .await
        .ok();
    assert_eq!(rig.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_leaves_its_finalizer() {
    let rig = Rig::new().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let name = policy.to_lowercase();
        rig.make(CONFIG_MAPS, config_map(&name, "1")).await;
        let path = format!("{CONFIG_MAPS}/{name}?propagationPolicy={policy}");
        let marked = rig.delete(&path).await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    rig.delete(&format!("{CONFIG_MAPS}/x?propagationPolicy=Sideways"))
        .await
        .refused(
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy",
        );
    let body = json!({"dryRun": ["Some"], "propagationPolicy": "Orphan", "orphanDependents": true});
    rig.send("DELETE", &format!("{CONFIG_MAPS}/x"), &[], body.to_string())
        .await
        .refused(422, "[propagationPolicy: Invalid value: \"Orphan\"");
    rig.send(
        "POST",
        &format!("{CONFIG_MAPS}?fieldValidation=x"),
        &[],
        "{",
    )
    .await
    .refused(422, "CreateOptions.meta.k8s.io");
}

#[tokio::test]
async fn a_collection_goes_by_its_selection() {
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] = json!({"go": if name == "b" { "no" } else { "yes" }});
        rig.make(CONFIG_MAPS, object).await;
    }
    let gone = rig
        .delete(&format!("{CONFIG_MAPS}?labelSelector=go%3Dyes"))
        .await
        .ok();
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    assert_eq!(rig.get(&format!("{CONFIG_MAPS}/b")).await.code, 200);
}

#[tokio::test]
async fn a_namespace_waits_for_its_finalizer_in_the_spec() {
    let rig = Rig::new().await;
    let path = "/api/v1/namespaces/going";
    let made = rig
        .make("/api/v1/namespaces", json!({"metadata": {"name": "going"}}))
        .await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let marked = rig.delete(path).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    rig.post("/api/v1/namespaces/going/configmaps", config_map("a", "1"))
        .await
        .refused(403, "because it is being terminated");
    let mut done = marked.clone();
    done["spec"]["finalizers"] = json!([]);
    rig.put(&format!("{path}/finalize"), done).await.ok();
    assert_eq!(rig.get(path).await.code, 404);
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let rig = Rig::new().await;
    rig.make(PODS, pod("p")).await;
    let running = json!({"status": {"phase": "Running"}});
    rig.patch(&format!("{PODS}/p/status"), "merge-patch+json", running)
        .await
        .ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    rig.make(
        budgets,
        json!({
            "metadata": {"name": "b"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        }),
    )
    .await;
    let eviction = json!({"metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    rig.post(&path, eviction.clone())
        .await
        .refused(429, "disruption budget");
    let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1,
        "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    rig.patch(&format!("{budgets}/b/status"), "merge-patch+json", allowed)
        .await
        .ok();
    rig.post(&path, eviction).await.ok();
    assert_eq!(rig.get(&format!("{PODS}/p")).await.code, 404);
    assert_eq!(
        rig.get(&format!("{budgets}/b")).await.ok()["status"]["disruptionsAllowed"],
        0
    );
}
