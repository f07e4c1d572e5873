//! The node authorizer: what a node may do, and which objects it may see because a pod on it uses them.

mod graph;
mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

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
        let verb = attributes.verb;
        match (target.group, target.resource) {
            ("", "secrets") => self.read(node, Uses::Secret, verb, &target),
            ("", "configmaps") => self.read(node, Uses::ConfigMap, verb, &target),
            ("", "serviceaccounts") => self.service_account(node, verb, &target),
            ("", "pods") => self.pods(node, verb, &target),
            ("", "nodes") => own_node(node, verb, &target),
            ("", "persistentvolumeclaims") if target.subresource == "status" => match verb {
                "update" | "patch" => self.if_used(node, Uses::Claim, &target),
                _ => no_opinion("can only get/update/patch this type"),
            },
            ("resource.k8s.io", "resourceclaims") => {
                self.get(node, Uses::ResourceClaim, verb, &target)
            }
            ("resource.k8s.io", "resourceslices") => self.slices(node, verb, &target),
            ("storage.k8s.io", "volumeattachments") => self.attachments(node, verb, &target),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, verb, &target),
            ("coordination.k8s.io", "leases") => own_lease(node, verb, &target),
            _ if self.rules.iter().any(|rule| rule.allows(attributes)) => allow(),
            _ => no_opinion(""),
        }
    }

    /// Objects a node sees only if one of its pods uses them: read one by one, never changed.
    fn read(
        &self,
        node: &str,
        kind: Uses,
        verb: &str,
        target: &ResourceAttributes<'_>,
    ) -> Decision {
        match verb {
            "get" | "list" | "watch" if !target.subresource.is_empty() => {
                no_opinion("cannot read subresource")
            }
            "get" | "list" | "watch" if target.namespace.is_empty() => {
                no_opinion("can only read namespaced object of this type")
            }
            "get" | "list" | "watch" => self.if_used(node, kind, target),
            _ => no_opinion("can only read resources of this type"),
        }
    }

    fn get(&self, node: &str, kind: Uses, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        match verb {
            "get" if !target.subresource.is_empty() => no_opinion("cannot get subresource"),
            "get" => self.if_used(node, kind, target),
            _ => no_opinion("can only get individual resources of this type"),
        }
    }

    /// A node reads the accounts of its pods and makes tokens for them, which admission binds to these pods.
    fn service_account(&self, node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        match (verb, target.subresource) {
            ("get", "") => self.read(node, Uses::ServiceAccount, verb, target),
            ("create", "token") if !target.name.is_empty() => {
                self.if_used(node, Uses::ServiceAccount, target)
            }
            ("create", _) if !target.name.is_empty() => {
                no_opinion("can only create token subresource of serviceaccount")
            }
            _ => no_opinion("can only create tokens for individual service accounts"),
        }
    }

    /// A node reads the pods that are bound to it. Which ones it writes is decided by admission, which sees them.
    fn pods(&self, node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        match (target.subresource, verb) {
            ("", "get") => self.if_used(node, Uses::Pod, target),
            ("", "list" | "watch") if selects(target, "spec.nodeName", node) => allow(),
            ("", "list" | "watch") if !target.name.is_empty() => {
                self.if_used(node, Uses::Pod, target)
            }
            ("", "list" | "watch") => {
                no_opinion("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                allow()
            }
            _ => no_opinion(""),
        }
    }

    /// Devices of the node. The name of a new slice says nothing, so admission looks at what is in it.
    fn slices(&self, node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        if !target.subresource.is_empty() {
            return no_opinion("cannot authorize ResourceSlice subresources");
        }
        match verb {
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => {
                self.if_names(node, Kind::RESOURCE_SLICES, target)
            }
            "list" | "watch" | "deletecollection" if selects(target, "spec.nodeName", node) => {
                allow()
            }
            "list" | "watch" | "deletecollection" => no_opinion(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn attachments(&self, node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
        match verb {
            "get" if target.subresource.is_empty() => {
                self.if_names(node, Kind::VOLUME_ATTACHMENTS, target)
            }
            _ => no_opinion("can only get individual resources of this type"),
        }
    }

    fn if_used(&self, node: &str, kind: Uses, target: &ResourceAttributes<'_>) -> Decision {
        if target.name.is_empty() {
            return no_opinion("No Object name found");
        }
        if self.graph().uses(node, kind, target.namespace, target.name) {
            return allow();
        }
        unrelated(node)
    }

    /// Whether the stored object is one of this node.
    fn if_names(&self, node: &str, kind: Kind, target: &ResourceAttributes<'_>) -> Decision {
        if target.name.is_empty() {
            return no_opinion("No Object name found");
        }
        let stored = self.source.get(kind, target.namespace, target.name);
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if stored.is_some_and(|object| object["spec"]["nodeName"] == node) {
            return allow();
        }
        unrelated(node)
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

/// Whether a request for a collection is for the objects of this node only.
fn selects(target: &ResourceAttributes<'_>, field: &str, node: &str) -> bool {
    let selector = target.field_selector.parse::<davit_api::FieldSelector>();
    selector.is_ok_and(|selector| selector.exact(field) == Some(node))
}

/// A node reads itself, also before it is there, and never the others. What it writes is checked by admission, which
/// knows the name of a new object; it does not delete itself, for then it could come back as another.
fn own_node(node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
    match (target.subresource, verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") if target.name == node => allow(),
        ("", "get" | "list" | "watch") if target.name.is_empty() => no_opinion(&format!(
            "node '{node}' cannot read all nodes, only its own Node object"
        )),
        ("", "get" | "list" | "watch") => no_opinion(&format!(
            "node '{node}' cannot read '{}', only its own Node object",
            target.name
        )),
        _ => no_opinion(""),
    }
}

fn own_csi_node(node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
    if !target.subresource.is_empty() {
        return no_opinion("cannot authorize CSINode subresources");
    }
    match verb {
        "create" => allow(),
        "get" | "update" | "patch" | "delete" if target.name == node => allow(),
        "get" | "update" | "patch" | "delete" => {
            no_opinion("can only access CSINode with the same name as the requesting node")
        }
        _ => no_opinion("can only get, create, update, patch, or delete a CSINode"),
    }
}

/// A node keeps its own heartbeat lease and no other.
fn own_lease(node: &str, verb: &str, target: &ResourceAttributes<'_>) -> Decision {
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

fn unrelated(node: &str) -> Decision {
    no_opinion(&format!(
        "no relationship found between node '{node}' and this object"
    ))
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
mod tests;
