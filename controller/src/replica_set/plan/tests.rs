//! Tables of ReplicaSet plans.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

use super::*;

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set-uid", "generation": 3},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    }))
    .unwrap()
}

fn pod(name: &str, status: Value) -> Arc<Pod> {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
        "uid": "set-uid", "controller": true}]);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
                "ownerReferences": owner},
            "spec": {"containers": [], "nodeName": "n"},
            "status": status,
        }))
        .unwrap(),
    )
}

fn ready(since: &str) -> Value {
    json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": since}]})
}

fn plan_of(set: &ReplicaSet, pods: Vec<Arc<Pod>>) -> Plan {
    let now = "2030-01-01T00:01:00Z".parse().unwrap();
    plan(set, &observe(set, pods, now).unwrap())
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn missing_pods_are_created_in_bounded_bursts() {
    assert_eq!(plan_of(&set(3), vec![]).create, 3);
    assert_eq!(plan_of(&set(3), vec![pod("a", json!({}))]).create, 2);
    assert_eq!(plan_of(&set(9000), vec![]).create, BURST);
}

#[test]
fn finished_and_terminating_pods_do_not_count() {
    let mut leaving = (*pod("t", json!({}))).clone();
    leaving.metadata.deletion_timestamp = Some(now());
    let pods = vec![pod("done", json!({"phase": "Failed"})), Arc::new(leaving)];
    let plan = plan_of(&set(1), pods);
    assert_eq!(
        (plan.create, plan.counts.replicas, plan.counts.terminating),
        (1, 0, 1)
    );
}

#[test]
fn the_least_useful_pods_go_first() {
    let pods = vec![
        pod("old-ready", ready("2030-01-01T00:00:00Z")),
        pod("new-ready", ready("2030-01-01T00:00:50Z")),
        pod("unready", json!({"phase": "Running"})),
        pod("pending", json!({"phase": "Pending"})),
    ];
    assert_eq!(
        names(&plan_of(&set(1), pods).delete),
        ["pending", "unready", "new-ready"]
    );
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let pods = vec![
        pod("a", ready("2030-01-01T00:00:00Z")),
        pod("b", ready("2030-01-01T00:00:56Z")),
    ];
    let plan = plan_of(&set(2), pods);
    assert_eq!((plan.counts.ready, plan.counts.available), (2, 1));
    assert_eq!(plan.look_again_after, Some(6));
}

#[test]
fn orphans_are_adopted_and_strays_released() {
    let mut orphan = (*pod("orphan", json!({}))).clone();
    orphan.metadata.owner_references = None;
    let mut stray = (*pod("stray", json!({}))).clone();
    stray.metadata.labels = None;
    let plan = plan_of(&set(1), vec![Arc::new(orphan), Arc::new(stray)]);
    assert_eq!(names(&plan.adopt), ["orphan"]);
    assert_eq!(names(&plan.release), ["stray"]);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
}

#[test]
fn a_set_being_deleted_changes_nothing() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(now());
    let plan = plan_of(&set, vec![pod("a", json!({}))]);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
}

#[test]
fn a_failure_is_reported_once_and_cleared_by_success() {
    let mut set = set(1);
    let plan = plan_of(&set, vec![]);
    set.status = Some(status(&set, &plan, Some("quota".into())));
    let conditions = set.status.clone().unwrap().conditions.unwrap();
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    assert_eq!(status(&set, &plan, None).conditions, None);
    assert_eq!(status(&set, &plan, None).observed_generation, Some(3));
}

#[test]
fn a_replication_controller_is_planned_alike() {
    let set = |selector: Value| -> ReplicationController {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "set-uid"},
            "spec": {"replicas": 2, "selector": selector,
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
            "status": {"replicas": 1, "conditions": [{"type": "ReplicaFailure", "status": "True"}]},
        }))
        .unwrap()
    };
    let now = "2030-01-01T00:01:00Z".parse().unwrap();
    let mut orphan = (*pod("a", ready("2030-01-01T00:00:00Z"))).clone();
    orphan.metadata.owner_references = None;
    let web = set(json!({"app": "web"}));
    let observed = observe(&web, vec![Arc::new(orphan)], now).unwrap();
    let plan = plan(&web, &observed);
    assert_eq!((names(&plan.adopt), plan.create), (vec!["a".into()], 1));
    let status = status(&web, &plan, None);
    assert_eq!(
        (status.terminating_replicas, status.conditions),
        (None, None)
    );
    let owner = pod_of(&web).unwrap().metadata.owner_references.unwrap();
    assert_eq!(
        (&*owner[0].api_version, &*owner[0].kind),
        ("v1", "ReplicationController")
    );
    assert!(observe(&set(json!({})), vec![], now).is_err());
}
