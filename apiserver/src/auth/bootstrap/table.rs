//! The list of bootstrap objects.

use serde_json::{Value, json};

use super::certificates;
use super::roles::{bindings, cluster_roles, namespaced};
use super::{BootstrapObject, RBAC_GROUP};

/// Everything that has to exist, in an order in which it can be created.
pub fn objects() -> Vec<BootstrapObject> {
    let mut objects: Vec<_> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    objects.extend(PRIORITY_CLASSES.iter().map(priority_class));
    objects.extend(
        cluster_roles()
            .into_iter()
            .chain(certificates::roles())
            .map(|object| rbac("clusterroles", object)),
    );
    objects.extend(
        bindings()
            .into_iter()
            .map(|object| rbac("clusterrolebindings", object)),
    );
    for (role, binding) in namespaced() {
        objects.push(rbac("roles", role));
        objects.extend(binding.map(|object| rbac("rolebindings", object)));
    }
    objects
}

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

struct PriorityClass {
    name: &'static str,
    value: i32,
    description: &'static str,
}

const PRIORITY_CLASSES: &[PriorityClass] = &[
    PriorityClass {
        name: "system-node-critical",
        value: 2_000_001_000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
    PriorityClass {
        name: "system-cluster-critical",
        value: 2_000_000_000,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
];

fn namespace(name: &str) -> BootstrapObject {
    BootstrapObject {
        group: "",
        version: "v1",
        plural: "namespaces",
        object: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    }
}

fn priority_class(class: &PriorityClass) -> BootstrapObject {
    BootstrapObject {
        group: "scheduling.k8s.io",
        version: "v1",
        plural: "priorityclasses",
        object: json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": class.name},
            "value": class.value,
            "description": class.description,
            "preemptionPolicy": "PreemptLowerPriority",
        }),
    }
}

fn rbac(plural: &'static str, object: Value) -> BootstrapObject {
    BootstrapObject {
        group: RBAC_GROUP,
        version: "v1",
        plural,
        object,
    }
}
