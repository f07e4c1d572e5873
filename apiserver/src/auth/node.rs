//! The node authorizer: what a node may do, and which objects it may see because a pod on it uses them.

mod graph;
mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::rbac::PolicyRule;
use super::{Attributes, Decision, Kind, ObjectSource, ResourceAttributes, Target, UserInfo};
use graph::{Graph, Uses};

/// Decides for users that are nodes; has no opinion on others.
pub(super) struct NodeAuthorizer {
    source: Arc<dyn ObjectSource>,
    rules: Vec<PolicyRule>,
    graph: ArcSwap<Graph>,
    rebuilding: Mutex<()>,
}

impl NodeAuthorizer {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self {
            source,
            rules: rules::node_rules(),
            graph: ArcSwap::default(),
            rebuilding: Mutex::default(),
        }
    }

    /// Rules that hold for every node whatever its pods are.
    pub(super) fn rules(&self) -> &[PolicyRule] {
        &self.rules
    }

    pub(super) fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = user.as_node() else {
            return no_opinion("");
        };
        let Target::Resource(target) = attributes.target else {
            return no_opinion("");
        };
        if let Some(kind) = followed(&target) {
            return self.follow(node, kind, attributes.verb, &target);
        }
        match (target.group, target.resource) {
            ("", "serviceaccounts") => self.token(node, attributes.verb, &target),
            ("coordination.k8s.io", "leases") => lease(node, attributes.verb, &target),
            _ if self.rules.iter().any(|rule| rule.allows(attributes)) => allow(),
            _ => no_opinion(""),
        }
    }

    /// Objects a node sees only if one of its pods uses them: read one by one, never changed.
    fn follow(
        &self,
        node: &str,
        kind: Uses,
        verb: &str,
        target: &ResourceAttributes<'_>,
    ) -> Decision {
        if !(matches!(verb, "get" | "list" | "watch") && target.subresource.is_empty()) {
            return no_opinion("can only read resources of this type");
        }
        if target.name.is_empty() {
            return no_opinion("No Object name found");
        }
        self.if_used(node, kind, target)
    }

    /// A node makes tokens for the accounts of its pods, bound to these pods.
    fn token(&self, node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        match (verb, target.subresource) {
            ("create", "token") => self.if_used(node, Uses::ServiceAccount, target),
            ("get", "") if !target.name.is_empty() => {
                self.if_used(node, Uses::ServiceAccount, target)
            }
            _ => no_opinion("can only create tokens for individual service accounts"),
        }
    }

    fn if_used(&self, node: &str, kind: Uses, target: &ResourceAttributes<'_>) -> Decision {
        if self.graph().uses(node, kind, target.namespace, target.name) {
            return allow();
        }
        no_opinion("no relationship found between node and this object")
    }

    fn graph(&self) -> Arc<Graph> {
        let graph = self.graph.load_full();
        if graph.is_current(&*self.source) {
            return graph;
        }
        let _one_at_a_time = self.rebuilding.lock();
        let graph = self.graph.load_full();
        if graph.is_current(&*self.source) {
            return graph;
        }
        let fresh = Arc::new(graph.refresh(Kind::PODS, &*self.source));
        self.graph.store(fresh.clone());
        fresh
    }
}

/// Which objects are visible only through pods.
fn followed(target: &ResourceAttributes<'_>) -> Option<Uses> {
    match (target.group, target.resource) {
        ("", "secrets") => Some(Uses::Secret),
        ("", "configmaps") => Some(Uses::ConfigMap),
        _ => None,
    }
}

/// A node keeps its own heartbeat lease and no other.
fn lease(node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
    const NAMESPACE: &str = "kube-node-lease";
    if target.namespace != NAMESPACE || !target.subresource.is_empty() {
        return no_opinion("can only access leases in the \"kube-node-lease\" system namespace");
    }
    match verb {
        "create" => allow(),
        "get" | "update" | "patch" | "delete" if target.name == node => allow(),
        "get" | "update" | "patch" | "delete" => {
            no_opinion("can only access node lease with the same name as the requesting node")
        }
        _ => no_opinion("can only get, create, update, patch, or delete a node lease"),
    }
}

fn allow() -> Decision {
    Decision::Allow {
        reason: String::new(),
    }
}

fn no_opinion(reason: &str) -> Decision {
    Decision::NoOpinion {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
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
            ("list", "pods", "", "", true),
            ("update", "pods/status", "a", "one", true),
            ("create", "pods/binding", "a", "one", false),
            ("list", "namespaces", "", "", true),
            ("create", "nodes", "", "n1", true),
            ("delete", "namespaces", "", "a", false),
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
}
