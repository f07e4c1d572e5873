//! What every node may do whatever its pods are.

use crate::auth::rbac::PolicyRule;

/// Verbs to read.
const READ: &[&str] = &["get", "list", "watch"];
/// Verbs to write objects the node owns.
const WRITE: &[&str] = &["create", "update", "patch", "delete"];
/// Verbs to report through objects others own.
const REPORT: &[&str] = &["update", "patch"];

/// The rules of Kubernetes' `system:node`, and what davit's node does beyond a kubelet: it makes and
/// deletes volumes itself, forwards services, and runs plugins.
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
    add(
        READ,
        "",
        &["services", "namespaces", "nodes", "pods", "endpoints"],
    );
    add(&["create", "delete"], "", &["nodes", "pods"]);
    add(REPORT, "", &["nodes", "nodes/status", "pods/status"]);
    add(&["create"], "", &["pods/eviction"]);
    add(&["create", "update", "patch"], "", &["events"]);
    add(&["create", "update", "patch"], "events.k8s.io", &["events"]);
    add(READ, "discovery.k8s.io", &["endpointslices"]);
    add(READ, "node.k8s.io", &["runtimeclasses"]);
    add(
        &["create", "get", "list", "watch"],
        "certificates.k8s.io",
        &["certificatesigningrequests"],
    );
    // Volumes: the node of a volume creates, binds, grows and deletes it.
    add(READ, "", &["persistentvolumeclaims", "persistentvolumes"]);
    add(WRITE, "", &["persistentvolumes"]);
    add(
        REPORT,
        "",
        &[
            "persistentvolumes/status",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
        ],
    );
    add(
        READ,
        "storage.k8s.io",
        &["storageclasses", "volumeattachments", "csidrivers"],
    );
    add(
        READ,
        "storage.k8s.io",
        &["csinodes", "csistoragecapacities"],
    );
    add(
        WRITE,
        "storage.k8s.io",
        &["csinodes", "csistoragecapacities"],
    );
    add(REPORT, "storage.k8s.io", &["volumeattachments/status"]);
    // davit's own kinds: the node reads what to load and says what became of it.
    add(READ, davit_api::GROUP, &["*"]);
    add(
        REPORT,
        davit_api::GROUP,
        &[
            "plugins/status",
            "networks/status",
            "networknodes",
            "networknodes/status",
        ],
    );
    add(&["create", "delete"], davit_api::GROUP, &["networknodes"]);
    rules
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
