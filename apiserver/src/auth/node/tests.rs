//! What node `n1` may do.

use super::*;
use crate::auth::memory::Memory;
use serde_json::json;

#[test]
fn a_node_sees_what_its_pods_use() {
    let pod = |name: &str, node: &str, secret: &str| {
        json!({
            "metadata": {"namespace": "a", "name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": "web",
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "v", "secret": {"secretName": secret}},
                    {"name": "p", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
                ],
                "containers": [{"env": [
                    {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}},
                ]}],
                "initContainers": [{"envFrom": [{"secretRef": {"name": "from"}}]}],
            },
        })
    };
    let source = Memory::with([
        (Kind::PODS, pod("one", "n1", "mine")),
        (Kind::PODS, pod("two", "n2", "other")),
    ]);
    let nodes = NodeAuthorizer::new(source.clone());
    let n1 = UserInfo::node("n1");
    let cases = [
        ("get", "secrets", "a", "mine", true),
        ("watch", "secrets", "a", "pull", true),
        ("list", "secrets", "a", "from", true),
        ("get", "configmaps", "a", "ca", true),
        ("get", "configmaps", "a", "env", true),
        ("get", "secrets", "a", "other", false),
        ("get", "secrets", "b", "mine", false),
        ("list", "secrets", "a", "", false),
        ("update", "secrets", "a", "mine", false),
        ("create", "serviceaccounts/token", "a", "web", true),
        ("create", "serviceaccounts/token", "a", "default", false),
        ("list", "serviceaccounts", "a", "", false),
        ("list", "pods", "", "", false),
        ("get", "pods", "a", "one", true),
        ("get", "pods", "a", "two", false),
        ("get", "pods/log", "a", "one", false),
        ("update", "pods/status", "a", "one", true),
        ("create", "pods/binding", "a", "one", false),
        ("create", "pods/exec", "a", "one", false),
        ("deletecollection", "pods", "a", "", false),
        ("list", "namespaces", "", "", true),
        ("delete", "namespaces", "", "a", false),
        ("create", "nodes", "", "", true),
        ("get", "nodes", "", "n1", true),
        ("get", "nodes", "", "n2", false),
        ("list", "nodes", "", "", false),
        ("watch", "nodes", "", "n1", true),
        ("delete", "nodes", "", "n1", false),
        ("deletecollection", "nodes", "", "", false),
        ("get", "nodes/proxy", "", "n1", false),
        ("update", "nodes/status", "", "n1", true),
        ("get", "persistentvolumeclaims", "a", "data", true),
        ("update", "persistentvolumeclaims", "a", "data", false),
        ("patch", "persistentvolumeclaims/status", "a", "data", true),
        (
            "patch",
            "persistentvolumeclaims/status",
            "a",
            "one-scratch",
            true,
        ),
        ("patch", "persistentvolumeclaims/status", "a", "else", false),
        ("patch", "persistentvolumes/status", "", "pv", false),
        ("deletecollection", "persistentvolumes", "", "", false),
    ];
    for (verb, resource, namespace, name, expected) in cases {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let target = ResourceAttributes {
            group: "",
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            ..Default::default()
        };
        let decision = nodes.authorize(&n1, &Attributes::resource(verb, target));
        assert_eq!(
            decision.is_allowed(),
            expected,
            "{verb} {target:?}: {decision:?}"
        );
    }
    source.remove(Kind::PODS, "a", "one");
    let target = ResourceAttributes {
        resource: "secrets",
        namespace: "a",
        name: "mine",
        ..Default::default()
    };
    assert!(
        !nodes
            .authorize(&n1, &Attributes::resource("get", target))
            .is_allowed()
    );
}

#[test]
fn only_nodes_and_only_their_own_lease() {
    let nodes = NodeAuthorizer::new(Memory::with([]));
    let lease = |namespace, name| ResourceAttributes {
        group: "coordination.k8s.io",
        version: "v1",
        resource: "leases",
        namespace,
        name,
        ..Default::default()
    };
    let impostor = UserInfo::new("system:node:n1", Vec::<String>::new());
    let cases = [
        (
            UserInfo::node("n1"),
            "update",
            lease("kube-node-lease", "n1"),
            true,
        ),
        (
            UserInfo::node("n1"),
            "update",
            lease("kube-node-lease", "n2"),
            false,
        ),
        (
            UserInfo::node("n1"),
            "create",
            lease("kube-node-lease", ""),
            true,
        ),
        (UserInfo::node("n1"), "create", lease("default", ""), false),
        (
            UserInfo::node("n1"),
            "list",
            lease("kube-node-lease", ""),
            false,
        ),
        (impostor, "update", lease("kube-node-lease", "n1"), false),
    ];
    for (user, verb, target, expected) in cases {
        let decision = nodes.authorize(&user, &Attributes::resource(verb, target));
        assert_eq!(decision.is_allowed(), expected, "{verb} {target:?}");
    }
}

#[test]
fn whole_kinds_are_read_for_this_node_only() {
    let slice =
        |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node}});
    let claiming = json!({
        "metadata": {"namespace": "a", "name": "p"},
        "spec": {"nodeName": "n1", "resourceClaims": [{"name": "r", "resourceClaimName": "named"}]},
        "status": {
            "resourceClaimStatuses": [{"name": "t", "resourceClaimName": "made"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "extended"},
        },
    });
    let source = Memory::with([
        (Kind::PODS, claiming),
        (Kind::RESOURCE_SLICES, slice("own", "n1")),
        (Kind::RESOURCE_SLICES, slice("other", "n2")),
        (Kind::VOLUME_ATTACHMENTS, slice("own", "n1")),
        (Kind::VOLUME_ATTACHMENTS, slice("other", "n2")),
    ]);
    let nodes = NodeAuthorizer::new(source);
    let (core, storage, devices) = ("", "storage.k8s.io", "resource.k8s.io");
    let (node, others) = ("spec.nodeName=n1", "spec.nodeName!=n1");
    let cases = [
        ("list", core, "pods", "", node, true),
        (
            "watch",
            core,
            "pods",
            "",
            "status.phase=Running,spec.nodeName=n1",
            true,
        ),
        ("list", core, "pods", "", "spec.nodeName=n2", false),
        ("list", core, "pods", "", others, false),
        ("deletecollection", core, "pods", "", node, false),
        ("list", devices, "resourceslices", "", node, true),
        (
            "deletecollection",
            devices,
            "resourceslices",
            "",
            node,
            true,
        ),
        ("deletecollection", devices, "resourceslices", "", "", false),
        ("update", devices, "resourceslices", "own", "", true),
        ("update", devices, "resourceslices", "other", "", false),
        // A selector chooses from a collection; it says nothing about a single object.
        ("update", devices, "resourceslices", "other", node, false),
        ("get", devices, "resourceclaims", "named", "", true),
        ("get", devices, "resourceclaims", "made", "", true),
        ("get", devices, "resourceclaims", "extended", "", true),
        ("get", devices, "resourceclaims", "else", "", false),
        ("list", devices, "resourceclaims", "named", "", false),
        ("get", storage, "volumeattachments", "own", "", true),
        ("get", storage, "volumeattachments", "other", "", false),
        ("list", storage, "volumeattachments", "", "", false),
        ("get", storage, "csinodes", "n1", "", true),
        ("update", storage, "csinodes", "n2", "", false),
        ("list", storage, "csinodes", "", "", false),
        ("create", storage, "csistoragecapacities", "", "", false),
        ("list", "davit.dev", "networknodes", "", "", true),
        ("patch", "davit.dev", "networks/status", "net", "", false),
        ("patch", "davit.dev", "plugins", "p", "", false),
    ];
    for (verb, group, resource, name, selector, expected) in cases {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let target = ResourceAttributes {
            group,
            resource,
            subresource,
            namespace: if group == devices && resource == "resourceclaims" {
                "a"
            } else {
                ""
            },
            name,
            ..Default::default()
        };
        let attributes = Attributes::resource(verb, target).selected_by(selector);
        let decision = nodes.authorize(&UserInfo::node("n1"), &attributes);
        assert_eq!(
            decision.is_allowed(),
            expected,
            "{verb} {target:?} {selector}"
        );
    }
}

#[test]
fn a_pod_that_a_node_makes_shows_it_nothing() {
    let mirror = json!({
        "metadata": {"namespace": "a", "name": "m", "annotations": {"kubernetes.io/config.mirror": "h"}},
        "spec": {
            "nodeName": "n1", "serviceAccountName": "admin",
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
            "resourceClaims": [{"name": "r", "resourceClaimName": "c"}],
        },
    });
    let nodes = NodeAuthorizer::new(Memory::with([(Kind::PODS, mirror)]));
    let cases = [
        ("get", "", "pods", "m", true),
        ("get", "", "secrets", "s", false),
        ("get", "", "serviceaccounts", "admin", false),
        ("get", "resource.k8s.io", "resourceclaims", "c", false),
    ];
    for (verb, group, resource, name, expected) in cases {
        let target = ResourceAttributes {
            group,
            resource,
            namespace: "a",
            name,
            ..Default::default()
        };
        let decision = nodes.authorize(&UserInfo::node("n1"), &Attributes::resource(verb, target));
        assert_eq!(decision.is_allowed(), expected, "{verb} {resource}");
    }
}
