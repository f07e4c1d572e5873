//! Decisions over small clusters, in words.

use serde_json::{Value, json};

use super::super::volumes::Unbound;
use super::*;

fn node(name: &str, extra: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": &name[..1]}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
    });
    merge(&mut node, extra);
    Arc::new(serde_json::from_value(node).unwrap())
}

fn merge(target: &mut Value, extra: Value) {
    match (target, extra) {
        (Value::Object(target), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, extra) => *target = extra,
    }
}

fn pod(name: &str, cpu: &str, extra: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    });
    merge(&mut pod, extra);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn cluster(nodes: &[Arc<Node>]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.observe_node(node.metadata.name.as_deref().unwrap(), Some(node.clone()));
    }
    cluster
}

fn put(cluster: &mut Cluster, pod: Arc<Pod>, node: &str) {
    let mut pod = (*pod).clone();
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    let uid = pod.metadata.uid.clone().unwrap();
    cluster.observe_pod(&uid, Some(Arc::new(pod)));
}

fn decide(pod: &Arc<Pod>, cluster: &Cluster) -> String {
    words(select(pod, cluster, &Storage::default()))
}

fn words(decision: Decision) -> String {
    match decision {
        Decision::Bind(node) => node,
        Decision::Volumes { node, steps } => format!("{} volumes on {node}", steps.len()),
        Decision::Wait(message) => message,
    }
}

#[test]
fn resources_decide_and_are_explained() {
    let mut cluster = cluster(&[node("a", json!({})), node("b", json!({}))]);
    put(&mut cluster, pod("x", "1500m", json!({})), "a");
    assert_eq!(decide(&pod("p", "1", json!({})), &cluster), "b");
    assert_eq!(
        decide(&pod("p", "3", json!({})), &cluster),
        "0/2 nodes are available: 2 Insufficient cpu."
    );
    assert_eq!(
        decide(&pod("p", "1", json!({})), &Cluster::default()),
        "no nodes available to schedule pods"
    );
}

#[test]
fn an_assumed_binding_takes_room_until_it_is_forgotten() {
    let mut cluster = cluster(&[node("a", json!({}))]);
    let first = pod("p", "2", json!({}));
    cluster.assume(&first, "a");
    assert!(decide(&pod("q", "1", json!({})), &cluster).contains("Insufficient cpu"));
    cluster.forget("p");
    assert_eq!(decide(&pod("q", "1", json!({})), &cluster), "a");
}

#[test]
fn taints_selectors_and_cordons() {
    let taint =
        json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
    let cluster = cluster(&[
        node("a", taint),
        node("b", json!({"spec": {"unschedulable": true}})),
        node("c", json!({"metadata": {"labels": {"disk": "ssd"}}})),
    ]);
    assert_eq!(decide(&pod("p", "1", json!({})), &cluster), "c");
    let picky = pod("p", "1", json!({"spec": {"nodeSelector": {"disk": "hdd"}}}));
    assert_eq!(
        decide(&picky, &cluster),
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
         1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable."
    );
    let tolerant = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}]}});
    assert_eq!(decide(&pod("p", "1", tolerant), &cluster), "a");
}

#[test]
fn siblings_are_spread_over_nodes() {
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]}});
    let mut cluster = cluster(&[
        node("a", json!({})),
        node("b", json!({})),
        node("c", json!({})),
    ]);
    let mut homes = Vec::new();
    for name in ["p1", "p2", "p3"] {
        let pod = pod(name, "100m", owner.clone());
        let home = decide(&pod, &cluster);
        put(&mut cluster, pod, &home);
        homes.push(home);
    }
    homes.sort();
    assert_eq!(homes, ["a", "b", "c"]);
}

#[test]
fn hard_spreading_keeps_the_skew() {
    let rule = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let full = json!({"status": {"allocatable": {"cpu": "100m"}}});
    let mut cluster = cluster(&[
        node("a1", json!({})),
        node("a2", json!({})),
        node("b1", full),
    ]);
    put(&mut cluster, pod("x", "100m", json!({})), "a1");
    let decision = decide(&pod("p", "1", rule), &cluster);
    assert_eq!(
        decision,
        "0/3 nodes are available: 1 Insufficient cpu, \
         2 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn anti_affinity_works_both_ways() {
    let alone = json!({"spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
    let mut cluster = cluster(&[node("a", json!({}))]);
    put(&mut cluster, pod("hermit", "1", alone.clone()), "a");
    assert!(
        decide(&pod("p", "1", json!({})), &cluster)
            .contains("didn't satisfy existing pods anti-affinity rules")
    );
    assert!(decide(&pod("q", "1", alone), &cluster).contains("anti-affinity rules"));
    let other = json!({"metadata": {"labels": {"app": "other"}}});
    assert_eq!(decide(&pod("r", "1", other), &cluster), "a");
}

#[test]
fn affinity_follows_and_the_first_may_start() {
    let together = json!({"spec": {"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
    let mut cluster = cluster(&[node("a", json!({})), node("b", json!({}))]);
    let first = decide(&pod("p", "100m", together.clone()), &cluster);
    assert!(first == "a" || first == "b");
    put(&mut cluster, pod("x", "100m", json!({})), "b");
    assert_eq!(decide(&pod("q", "100m", together), &cluster), "b");
}

#[test]
fn host_ports_are_exclusive() {
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let mut cluster = cluster(&[node("a", json!({}))]);
    put(&mut cluster, pod("x", "0", port.clone()), "a");
    assert!(decide(&pod("p", "0", port), &cluster).contains("free ports"));
}

#[test]
fn a_waiting_claim_chooses_the_node_first() {
    let cluster = cluster(&[node("a", json!({})), node("b", json!({}))]);
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "data", "namespace": "ns", "uid": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "resources": {"requests": {"storage": "1Gi"}}}}))
    .unwrap();
    let claim = Arc::new(claim);
    let unbound = |selected: Option<&str>| Storage {
        unbound: vec![Unbound {
            claim: claim.clone(),
            provisions: true,
            selected: selected.map(str::to_owned),
        }],
        ..Storage::default()
    };
    let pod = pod("p", "1", json!({}));
    assert_eq!(
        words(select(&pod, &cluster, &unbound(None))),
        "1 volumes on a"
    );
    assert_eq!(
        words(select(&pod, &cluster, &unbound(Some("b")))),
        "0 volumes on b"
    );
    let volume = json!({"metadata": {"name": "v"}, "spec": {"nodeAffinity": {"required": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}]}}}});
    let bound = Storage {
        bound: vec![Arc::new(serde_json::from_value(volume).unwrap())],
        ..Storage::default()
    };
    assert_eq!(words(select(&pod, &cluster, &bound)), "b");
}

#[test]
fn large_clusters_are_sampled() {
    assert_eq!(sample(50), 50);
    assert_eq!(sample(1000), 420);
    assert_eq!(sample(6000), 300);
}
