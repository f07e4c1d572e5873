//! Which labels a node may give itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Labels of Kubernetes that nodes set.
const OF_NODES: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
];
const TOPOLOGY: [&str; 2] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Namespaces of labels, with everything below them, that nodes set.
const NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Labels that choose pods and that nodes therefore never set.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// The labels that differ and that a node must leave alone, in order.
pub(super) fn forbidden(new: &Value, old: &Value) -> Vec<String> {
    let empty = Map::new();
    let (new, old) = (
        new.as_object().unwrap_or(&empty),
        old.as_object().unwrap_or(&empty),
    );
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| {
        let above = namespace.strip_suffix(domain);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let listed = OF_NODES.contains(&key) || TOPOLOGY.contains(&key);
    let of_nodes = listed || NAMESPACES.into_iter().any(within);
    within(RESTRICTED) || kubernetes && !of_nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_describe_themselves_and_choose_no_pods() {
        let cases = [
            ("kubernetes.io/hostname", false),
            ("topology.kubernetes.io/zone", false),
            ("node.kubernetes.io/anything", false),
            ("special.node.kubernetes.io/anything", false),
            ("example.com/role", false),
            ("role", false),
            ("node-role.kubernetes.io/control-plane", true),
            ("kubernetes.io/unknown", true),
            ("x.k8s.io/unknown", true),
            ("node-restriction.kubernetes.io/fips", true),
            ("team.node-restriction.kubernetes.io/fips", true),
            ("notkubernetes.io/x", false),
        ];
        for (key, refused) in cases {
            assert_eq!(
                !forbidden(&json!({key: "a"}), &Value::Null).is_empty(),
                refused,
                "{key}"
            );
            assert_eq!(
                !forbidden(&Value::Null, &json!({key: "a"})).is_empty(),
                refused,
                "{key}"
            );
            assert!(forbidden(&json!({key: "a"}), &json!({key: "a"})).is_empty());
        }
    }
}
