//! Kernel parameters of a pod's own namespaces: those every pod gets, then those it asks for.
use k8s_openapi::api::core::v1::Pod;

use super::config::host_network;
use super::members;

/// What pods with a network of their own find open, as with containerd: ports below 1024 and ICMP echo sockets, which are
/// nobody else's there, need no capability. Images that drop all of them rely on it.
const DEFAULTS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// Names and values in the order of writing: what the pod says comes last, and so holds.
pub(super) fn sysctls(pod: &Pod) -> Vec<(String, String)> {
    let defaults = DEFAULTS.iter().filter(|_| !host_network(pod));
    let own = members::spec(pod)
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    defaults
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(own.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_own_word_comes_after_the_defaults_and_the_hosts_network_is_left_alone() {
        let ports = "net.ipv4.ip_unprivileged_port_start";
        let ping = ("net.ipv4.ping_group_range", "0 2147483647");
        let own = json!([{ "name": ports, "value": "512" }]);
        let cases = [
            (json!({}), vec![(ports, "0"), ping]),
            (
                json!({ "securityContext": { "sysctls": own } }),
                vec![(ports, "0"), ping, (ports, "512")],
            ),
            (json!({ "hostNetwork": true }), vec![]),
        ];
        for (mut spec, expected) in cases {
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            let expected: Vec<(String, String)> = expected
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(sysctls(&pod), expected, "{spec}");
        }
    }
}
