//! What every node may do whatever its pods are, and whatever it is called.

use crate::auth::rbac::PolicyRule;

/// Verbs to read.
const READ: &[&str] = &["get", "list", "watch"];

/// The rules of Kubernetes' `system:node` for kinds that are not decided object by object, and what davit's node does beyond
/// a kubelet: it makes and deletes volumes itself, forwards services, and runs plugins.
pub(super) fn node_rules() -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    let mut add = |verbs: &[&str], group: &str, resources: &[&str]| {
        rules.push(PolicyRule {
            verbs: owned(verbs),
            api_groups: owned(&[group]),
            resources: owned(resources),
            ..PolicyRule::default()
        });
    };
    add(&["create"], "authentication.k8s.io", &["tokenreviews"]);
    add(
        &["create"],
        "authorization.k8s.io",
        &["subjectaccessreviews", "localsubjectaccessreviews"],
    );
    // Names and Services are served by the node itself.
    add(READ, "", &["services", "namespaces", "endpoints"]);
    add(&["create", "update", "patch"], "", &["events"]);
    add(&["create", "update", "patch"], "events.k8s.io", &["events"]);
    add(READ, "discovery.k8s.io", &["endpointslices"]);
    add(READ, "node.k8s.io", &["runtimeclasses"]);
    add(
        &["create", "get", "list", "watch"],
        "certificates.k8s.io",
        &["certificatesigningrequests"],
    );
    // Volumes: the node that the scheduler chose for a claim creates the volume, and deletes it when the claim is gone;
    // which ones is decided by admission.
    add(READ, "", &["persistentvolumeclaims", "persistentvolumes"]);
    add(
        &["create", "update", "patch", "delete"],
        "",
        &["persistentvolumes"],
    );
    add(READ, "storage.k8s.io", &["storageclasses", "csidrivers"]);
    // davit's own kinds: the node reads what to load and what its peers have, and says what became of it here. Again
    // admission sees to it that it speaks for itself only.
    add(
        READ,
        davit_api::GROUP,
        &["plugins", "networks", "networknodes"],
    );
    add(
        &["update", "patch"],
        davit_api::GROUP,
        &["plugins/status", "networknodes", "networknodes/status"],
    );
    add(&["create", "delete"], davit_api::GROUP, &["networknodes"]);
    rules
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
