//! What node `n` may write.

mod identity;
mod own_kinds;

use serde_json::json;

use super::*;
use crate::admission::Notes;
use crate::admission::testing::request;
use crate::auth::UserInfo;
use crate::auth::memory::Memory;

fn merged(mut base: Value, changes: &Value) -> Value {
    json_patch::merge(&mut base, changes);
    base
}

fn pod(node: &str) -> Value {
    let token =
        |audience: Value| json!({"serviceAccountToken": {"path": "t", "audience": audience}});
    json!({
        "metadata": {"namespace": "a", "name": "x", "uid": "u", "labels": {"l": "1"}},
        "spec": {"nodeName": node, "volumes": [
            {"name": "t", "projected": {"sources": [token(Value::Null), token("vault".into())]}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
        ]},
    })
}

fn mirror(changes: &Value) -> Value {
    let mirror = json!({
        "metadata": {
            "name": "x", "annotations": {"kubernetes.io/config.mirror": "h"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "nu", "controller": true}],
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
    });
    merged(mirror, changes)
}

fn plugin() -> NodeRestriction {
    let node = json!({"metadata": {"name": "n", "uid": "nu"}});
    let mut foreign = pod("m");
    foreign["metadata"]["name"] = "foreign".into();
    let objects = [
        (Kind::NODES, node),
        (Kind::PODS, pod("n")),
        (Kind::PODS, foreign),
    ];
    let source = Memory::with(objects.into_iter().chain(own_kinds::objects()));
    let authorizer = Arc::new(Authorizer::new(source.clone()));
    NodeRestriction::new(source, authorizer)
}

fn check(got: Option<String>, expected: Option<&str>, what: &str) {
    match (&got, expected) {
        (None, None) => {}
        (Some(got), Some(expected)) if got.contains(expected) => {}
        _ => panic!("{what}: {got:?}, not {expected:?}"),
    }
}

/// A write by node `n`; what it is refused with.
async fn refusal(
    operation: Operation,
    resource: &str,
    name: &str,
    old: Option<&Value>,
    object: &Value,
) -> Option<String> {
    let (user, notes) = (UserInfo::node("n"), Notes::default());
    let (resource, subresource) = match resource.split_once(':') {
        Some(parts) => parts,
        None => (resource, ""),
    };
    let namespace = if resource.ends_with("leases") {
        name.split_once('/').map_or("a", |(ns, _)| ns)
    } else {
        "a"
    };
    let name = name.rsplit('/').next().unwrap();
    let request = Request {
        subresource,
        name,
        old,
        ..request(&user, &notes, operation, resource, namespace)
    };
    let plugin = plugin();
    assert!(plugin.handles(&request));
    let got = plugin.mutate(&request, &mut object.clone()).await;
    got.err().map(|error| error.to_string())
}

#[tokio::test]
async fn pods() {
    let (own, other) = (pod("n"), pod("m"));
    let relabelled = merged(own.clone(), &json!({"metadata": {"labels": {"l": "2"}}}));
    let claims = merged(
        own.clone(),
        &json!({"status": {"resourceClaimStatuses": [{"name": "r"}]}}),
    );
    let with = |spec: Value| mirror(&json!({"spec": spec}));
    let owners = |owners: Value| mirror(&json!({"metadata": {"ownerReferences": owners}}));
    let owner = |field: &str, value: Value| {
        let mut owner = mirror(&json!({}))["metadata"]["ownerReferences"][0].take();
        owner[field] = value;
        owners(json!([owner]))
    };
    use Operation::{Create, Delete, Update};
    let cases = [
        (Create, "pods", None, mirror(&json!({})), None),
        (
            Create,
            "pods",
            None,
            pod("n"),
            Some("can only create mirror pods"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"nodeName": "m"})),
            Some("spec.nodeName set to itself"),
        ),
        (
            Create,
            "pods",
            None,
            owners(json!([])),
            Some("with an owner reference set to itself"),
        ),
        (
            Create,
            "pods",
            None,
            owners(json!([{}, {}])),
            Some("a single owner reference"),
        ),
        (
            Create,
            "pods",
            None,
            owner("name", "m".into()),
            Some("an owner reference set to itself"),
        ),
        (
            Create,
            "pods",
            None,
            owner("controller", false.into()),
            Some("a controller owner reference"),
        ),
        (
            Create,
            "pods",
            None,
            owner("blockOwnerDeletion", true.into()),
            Some("must not set blockOwnerDeletion"),
        ),
        (
            Create,
            "pods",
            None,
            owner("uid", "old".into()),
            Some("node n UID mismatch: expected nu got old"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"serviceAccountName": "s"})),
            Some("reference serviceaccounts"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"imagePullSecrets": [{}]})),
            Some("reference secrets"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {}}}]})),
            Some("reference secrets"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"volumes": [{"configMap": {}}]})),
            Some("reference configmaps"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"volumes": [{"projected": {"sources": [{"clusterTrustBundle": {}}]}}]})),
            Some("clustertrustbundles"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"volumes": [{"persistentVolumeClaim": {}}]})),
            Some("persistentvolumeclaims"),
        ),
        (
            Create,
            "pods",
            None,
            with(json!({"containers": [{"envFrom": [{"configMapRef": {}}]}]})),
            Some("configmaps"),
        ),
        (
            Update,
            "pods",
            Some(&own),
            own.clone(),
            Some("can only create and delete mirror pods"),
        ),
        (Delete, "pods", Some(&own), Value::Null, None),
        (
            Delete,
            "pods",
            Some(&other),
            Value::Null,
            Some("can only delete pods with spec.nodeName set to itself"),
        ),
        (Update, "pods:status", Some(&own), own.clone(), None),
        (
            Update,
            "pods:status",
            Some(&other),
            other.clone(),
            Some("can only update pod status for pods"),
        ),
        (
            Update,
            "pods:status",
            Some(&own),
            relabelled,
            Some("cannot update labels through pod status"),
        ),
        (
            Update,
            "pods:status",
            Some(&own),
            claims,
            Some("cannot update resource claim statues"),
        ),
        (
            Update,
            "pods:status",
            Some(&own),
            merged(
                own.clone(),
                &json!({"status": {"extendedResourceClaimStatus": {}}}),
            ),
            Some("cannot update extended resource claim status"),
        ),
        (Create, "pods:eviction", None, json!({}), None),
        (
            Create,
            "pods:binding",
            None,
            json!({}),
            Some("unexpected pod subresource \"binding\""),
        ),
    ];
    for (operation, resource, old, object, expected) in cases {
        let got = refusal(operation, resource, "x", old, &object).await;
        check(got, expected, &format!("{operation:?} {resource} {object}"));
    }
}

#[tokio::test]
async fn mirror_pods_use_nothing_of_the_cluster() {
    let projected = |source: Value| json!({"volumes": [{"projected": {"sources": [source]}}]});
    let volume = |source: Value| json!({ "volumes": [source] });
    let cases = [
        (volume(json!({"hostPath": {"path": "/x"}})), None),
        (volume(json!({"emptyDir": {}})), None),
        (projected(json!({"downwardAPI": {}})), None),
        (json!({"resourceClaims": []}), None),
        (
            json!({"resourceClaims": [{"name": "r", "resourceClaimName": "c"}]}),
            Some("reference resourceclaims"),
        ),
        (
            json!({"resourceClaims": [{"name": "r", "resourceClaimTemplateName": "t"}]}),
            Some("reference resourceclaims"),
        ),
        (
            projected(json!({"serviceAccountToken": {"path": "t"}})),
            Some("serviceaccounts (via projected volumes)"),
        ),
        (
            projected(json!({"podCertificate": {}})),
            Some("podcertificates"),
        ),
        (projected(json!({"new": {}})), Some("new (via projected")),
        (
            volume(json!({"ephemeral": {"volumeClaimTemplate": {}}})),
            Some("persistentvolumeclaims (via ephemeral volumes)"),
        ),
        (
            volume(json!({"csi": {"driver": "d"}})),
            Some("csidrivers (via CSI volumes)"),
        ),
        (volume(json!({"new": {}})), Some("reference new volumes")),
    ];
    for (spec, expected) in cases {
        let object = mirror(&json!({ "spec": spec }));
        let got = refusal(Operation::Create, "pods", "x", None, &object).await;
        check(got, expected, &spec.to_string());
    }
    let gone = refusal(Operation::Create, "pods:eviction", "gone", None, &json!({})).await;
    check(gone, Some("not found"), "eviction");
    let foreign = refusal(
        Operation::Create,
        "pods:eviction",
        "foreign",
        None,
        &json!({}),
    )
    .await;
    check(foreign, Some("can only evict pods"), "eviction");
}

#[tokio::test]
async fn nodes_leases_slices_and_tokens() {
    let node =
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}, "spec": {}});
    let tainted = merged(
        node.clone(),
        &json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
    );
    let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/x": ""}}});
    let role = merged(node.clone(), &role);
    let token = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
    let slice = |node: &str| json!({"spec": {"nodeName": node}});
    let foreign = slice("m");
    use Operation::{Create, Delete, Update};
    let cases = [
        (Create, "nodes", "n", None, tainted.clone(), None),
        (
            Create,
            "nodes",
            "m",
            None,
            node.clone(),
            Some("node \"n\" is not allowed to modify node \"m\""),
        ),
        (
            Create,
            "nodes",
            "n",
            None,
            role.clone(),
            Some("is not allowed to set the following labels: node-role.kubernetes.io/x"),
        ),
        (Update, "nodes:status", "n", Some(&node), node.clone(), None),
        (
            Update,
            "nodes",
            "n",
            Some(&node),
            tainted,
            Some("node \"n\" is not allowed to modify taints"),
        ),
        (
            Update,
            "nodes",
            "n",
            Some(&node),
            role,
            Some("is not allowed to modify labels: node-role.kubernetes.io/x"),
        ),
        (
            Create,
            "coordination.k8s.io/leases",
            "kube-node-lease/n",
            None,
            json!({}),
            None,
        ),
        (
            Create,
            "coordination.k8s.io/leases",
            "kube-node-lease/m",
            None,
            json!({}),
            Some("the same name as the requesting node"),
        ),
        (
            Update,
            "coordination.k8s.io/leases",
            "default/n",
            None,
            json!({}),
            Some("leases in the \"kube-node-lease\" system namespace"),
        ),
        (
            Create,
            "storage.k8s.io/csinodes",
            "n",
            None,
            json!({}),
            None,
        ),
        (
            Create,
            "storage.k8s.io/csinodes",
            "m",
            None,
            json!({}),
            Some("can only access CSINode"),
        ),
        (
            Create,
            "resource.k8s.io/resourceslices",
            "s",
            None,
            slice("n"),
            None,
        ),
        (
            Create,
            "resource.k8s.io/resourceslices",
            "s",
            None,
            foreign.clone(),
            Some("can only create ResourceSlice"),
        ),
        (
            Delete,
            "resource.k8s.io/resourceslices",
            "s",
            Some(&foreign),
            Value::Null,
            Some("can only delete ResourceSlice"),
        ),
        (
            Create,
            "serviceaccounts:token",
            "s",
            None,
            token("x", "u"),
            None,
        ),
        (
            Create,
            "serviceaccounts:token",
            "s",
            None,
            json!({}),
            Some("token not bound to a pod"),
        ),
        (
            Create,
            "serviceaccounts:token",
            "s",
            None,
            token("x", ""),
            Some("without a uid"),
        ),
        (
            Create,
            "serviceaccounts:token",
            "s",
            None,
            token("x", "old"),
            Some("does not match the UID in record"),
        ),
        (
            Create,
            "serviceaccounts:token",
            "s",
            None,
            token("gone", "u"),
            Some("pods \"gone\" not found"),
        ),
        (Create, "configmaps", "c", None, json!({}), None),
    ];
    for (operation, resource, name, old, object, expected) in cases {
        let got = refusal(operation, resource, name, old, &object).await;
        check(
            got,
            expected,
            &format!("{operation:?} {resource} {name} {object}"),
        );
    }
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    assert!(!plugin().handles(&request(&user, &notes, Create, "pods", "a")));
}
