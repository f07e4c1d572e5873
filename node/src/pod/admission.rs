//! What a node refuses to run at all: the pod fails and is not tried again.
use k8s_openapi::api::core::v1::Pod;

use super::members;
use super::observed::Failure;

/// Settings that change nothing outside the pod.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why this node will not run `pod`, if it will not.
pub fn refusal(pod: &Pod) -> Option<Failure> {
    let spec = members::spec(pod);
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        let message = format!(
            "Pod was rejected: spec.os.name is \"{}\", this node runs linux",
            os.name
        );
        return Some(Failure {
            reason: "PodOSNotSupported".into(),
            message,
        });
    }
    let mut sysctls = spec
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    let forbidden =
        sysctls.find(|sysctl| !SAFE_SYSCTLS.contains(&sysctl.name.replace('/', ".").as_str()))?;
    let message = format!(
        "Pod was rejected: forbidden sysctl: \"{}\" not allowlisted",
        forbidden.name
    );
    Some(Failure {
        reason: "SysctlForbidden".into(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_safe_settings_are_taken() {
        for (name, refused) in [
            ("net.ipv4.tcp_syncookies", false),
            ("net/ipv4/tcp_rmem", false),
            ("kernel.panic", true),
        ] {
            let sysctls = json!([{ "name": name, "value": "1" }]);
            let pod =
                json!({ "spec": { "containers": [], "securityContext": { "sysctls": sysctls } } });
            let reason =
                refusal(&serde_json::from_value(pod).unwrap()).map(|failure| failure.reason);
            assert_eq!(reason.is_some(), refused, "{name}");
        }
    }
}
