//! Tables of Endpoints.

use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let mut whole = json!({"clusterIP": "10.0.0.1", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let meta = json!({"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}});
    serde_json::from_value(json!({"metadata": meta, "spec": whole})).unwrap()
}

fn pod(name: &str, port: i32, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.0.{name}")}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .unwrap()
}

/// Addresses that are ready, that are not, and the port, a subset.
fn shown(write: Option<Write>) -> Vec<(Vec<String>, Vec<String>, Option<i32>)> {
    let (Some(Write::Create(object)) | Some(Write::Replace(object))) = write else {
        panic!("{write:?}")
    };
    let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
        list.iter().flatten().map(|a| a.ip.clone()).collect()
    };
    let subset = |subset: &EndpointSubset| {
        let port = subset.ports.as_ref().map(|ports| ports[0].port);
        (
            ips(&subset.addresses),
            ips(&subset.not_ready_addresses),
            port,
        )
    };
    object.subsets.iter().flatten().map(subset).collect()
}

#[test]
fn pods_with_the_same_port_share_a_subset() {
    let pods = [pod("1", 80, true), pod("2", 81, true), pod("3", 80, false)].map(Arc::new);
    assert_eq!(
        shown(plan(Some(&service(json!({}))), &pods, None)),
        [
            (vec!["10.1.0.1".into()], vec!["10.1.0.3".into()], Some(80)),
            (vec!["10.1.0.2".into()], vec![], Some(81)),
        ]
    );
}

#[test]
fn pods_that_are_not_ready_or_leave_are_published_where_asked() {
    let mut leaving = pod("2", 80, true);
    leaving.metadata.deletion_timestamp = Some(crate::meta::now());
    let mut done = pod("3", 80, true);
    done.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let pods = [pod("1", 80, false), leaving, done].map(Arc::new);
    assert_eq!(
        shown(plan(Some(&service(json!({}))), &pods, None)),
        [(vec![], vec!["10.1.0.1".into()], Some(80))]
    );
    let eager = service(json!({"publishNotReadyAddresses": true}));
    assert_eq!(
        shown(plan(Some(&eager), &pods, None)),
        [(vec!["10.1.0.1".into(), "10.1.0.2".into()], vec![], Some(80))]
    );
}

#[test]
fn a_headless_service_needs_no_port() {
    let headless = service(json!({"clusterIP": "None", "ports": null}));
    let write = plan(Some(&headless), &[Arc::new(pod("1", 80, true))], None);
    let Some(Write::Create(object)) = &write else {
        panic!("{write:?}")
    };
    assert_eq!(object.labels()[HEADLESS], "");
    assert_eq!(shown(write), [(vec!["10.1.0.1".into()], vec![], None)]);
}

#[test]
fn what_is_right_is_left_alone_and_what_is_the_users_too() {
    let pods = [Arc::new(pod("1", 80, true))];
    let Some(Write::Create(made)) = plan(Some(&service(json!({}))), &pods, None) else {
        panic!()
    };
    assert_eq!(plan(Some(&service(json!({}))), &pods, Some(&made)), None);
    let mut changed = (*made).clone();
    changed.subsets = None;
    assert!(matches!(
        plan(Some(&service(json!({}))), &pods, Some(&changed)),
        Some(Write::Replace(_))
    ));
    assert_eq!(plan(None, &pods, Some(&made)), Some(Write::Delete));
    let by_hand = Endpoints::default();
    assert_eq!(plan(None, &pods, Some(&by_hand)), None);
    let own = service(json!({"selector": null}));
    assert_eq!(plan(Some(&own), &pods, Some(&by_hand)), None);
}

#[test]
fn at_most_a_thousand_addresses_are_listed() {
    let pods: Vec<_> = (0..1200)
        .map(|n| {
            let mut pod = pod("1", 80, true);
            let ip = format!("10.1.{}.{}", n / 250, n % 250);
            pod.status.as_mut().unwrap().pod_ips.as_mut().unwrap()[0].ip = ip;
            Arc::new(pod)
        })
        .collect();
    let write = plan(Some(&service(json!({}))), &pods, None);
    let Some(Write::Create(object)) = &write else {
        panic!("{write:?}")
    };
    assert_eq!(object.annotations()[OVER_CAPACITY], "truncated");
    assert_eq!(shown(write)[0].0.len(), CAPACITY);
}
