//! Roles around requests for certificates.

use serde_json::Value;

use super::roles::{cluster_role, named, rule};

const GROUP: &str = "certificates.k8s.io";

/// The rights that automatic approval asks for, and one role for the approvers of each signer.
pub(super) fn roles() -> Vec<Value> {
    let requests = |subresource: &str| format!("certificatesigningrequests/{subresource}");
    let automatic = ["nodeclient", "selfnodeclient"].map(|which| {
        let name = format!("system:certificates.k8s.io:certificatesigningrequests:{which}");
        cluster_role(
            &name,
            vec![rule(&["create"], &[GROUP], &[&requests(which)])],
        )
    });
    let signers = [
        "legacy-unknown",
        "kubelet-serving",
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
    ];
    let approvers = signers.map(|signer| {
        let name = format!("system:certificates.k8s.io:{signer}-approver");
        let signer = format!("kubernetes.io/{signer}");
        cluster_role(
            &name,
            vec![named(&["approve"], GROUP, "signers", &[&signer])],
        )
    });
    automatic.into_iter().chain(approvers).collect()
}
