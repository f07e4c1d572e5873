//! A pod's name for itself: host name, fully qualified name, and the content of `/etc/hosts`.
use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::members;

/// Linux' limit for a host name.
const LONGEST: usize = 63;

/// The pod's names inside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What `hostname` says.
    pub hostname: String,
    /// `<hostname>.<subdomain>.<namespace>.svc.<domain>`, where the pod has a subdomain.
    pub fqdn: Option<String>,
}

/// The names of `pod` in a cluster of that domain.
pub fn names(pod: &Pod, cluster_domain: &str) -> Names {
    let spec = members::spec(pod);
    if let Some(own) = spec
        .hostname_override
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        return Names {
            hostname: own.to_owned(),
            fqdn: None,
        };
    }
    let host = spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| members::name(pod));
    let host = truncated(host);
    let fqdn = spec
        .subdomain
        .as_deref()
        .filter(|subdomain| !subdomain.is_empty())
        .map(|subdomain| {
            format!(
                "{host}.{subdomain}.{}.svc.{cluster_domain}",
                members::namespace(pod)
            )
        });
    let as_fqdn = spec.set_hostname_as_fqdn.unwrap_or(false);
    let hostname = fqdn
        .clone()
        .filter(|_| as_fqdn)
        .unwrap_or_else(|| host.to_owned());
    Names { hostname, fqdn }
}

/// A pod's name may be longer than a host name; what is cut off must not leave a dot or hyphen at the end.
fn truncated(name: &str) -> &str {
    let end = name
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= LONGEST)
        .unwrap_or(name.len());
    name.get(..end).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// First line of the file, as kubelet writes it: tools look for it to know whose the file is.
const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_NETWORK_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

/// `/etc/hosts` of a pod with its own network.
pub fn hosts_file(pod: &Pod, names: &Names, ips: &[IpAddr]) -> String {
    let mut text = String::from(HEADER);
    text.push_str(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let line = match &names.fqdn {
            Some(fqdn) if *fqdn != names.hostname => {
                writeln!(text, "{ip}\t{fqdn}\t{}", names.hostname)
            }
            _ => writeln!(text, "{ip}\t{}", names.hostname),
        };
        debug_assert!(line.is_ok(), "writing to a string never fails");
    }
    text + &aliases(pod)
}

/// `/etc/hosts` of a pod that shares the node's network: the node's own, and the pod's aliases.
pub fn host_network_hosts_file(pod: &Pod, node_hosts: &str) -> String {
    let mut text = format!("{HOST_NETWORK_HEADER}{node_hosts}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text + &aliases(pod)
}

fn aliases(pod: &Pod) -> String {
    let mut text = String::new();
    for alias in members::spec(pod).host_aliases.iter().flatten() {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&alias.ip);
        text.push('\t');
        text.push_str(&names);
        text.push('\n');
    }
    if text.is_empty() {
        text
    } else {
        format!("\n# Entries added by HostAliases.\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, spec: Value) -> Pod {
        serde_json::from_value(
            json!({ "metadata": { "name": name, "namespace": "ns" }, "spec": spec }),
        )
        .unwrap()
    }

    #[test]
    fn names_follow_the_spec() {
        let long = "a".repeat(62) + "-bcd";
        let cases = [
            ("p", json!({ "containers": [] }), "p", None),
            ("p", json!({ "containers": [], "hostname": "h" }), "h", None),
            (
                "p",
                json!({ "containers": [], "hostname": "h", "subdomain": "s" }),
                "h",
                Some("h.s.ns.svc.cluster.local"),
            ),
            (
                "p",
                json!({ "containers": [], "subdomain": "s", "setHostnameAsFQDN": true }),
                "p.s.ns.svc.cluster.local",
                Some("p.s.ns.svc.cluster.local"),
            ),
            (&long, json!({ "containers": [] }), &"a".repeat(62), None),
        ];
        for (name, spec, hostname, fqdn) in cases {
            let names = names(&pod(name, spec), "cluster.local");
            assert_eq!(names.hostname, hostname);
            assert_eq!(names.fqdn.as_deref(), fqdn);
        }
    }

    #[test]
    fn hosts_hold_the_pods_addresses_and_aliases() {
        let aliases = json!([{ "ip": "1.2.3.4", "hostnames": ["x", "y"] }]);
        let pod = pod(
            "p",
            json!({ "containers": [], "subdomain": "s", "hostAliases": aliases }),
        );
        let text = hosts_file(
            &pod,
            &names(&pod, "d"),
            &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        );
        assert!(
            text.contains("\n10.0.0.1\tp.s.ns.svc.d\tp\nfd00::1\tp.s.ns.svc.d\tp\n"),
            "{text}"
        );
        assert!(text.ends_with("\n1.2.3.4\tx\ty\n"), "{text}");
        assert!(
            text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"),
            "{text}"
        );
        assert!(
            text.contains("\n# Entries added by HostAliases.\n1.2.3.4\t"),
            "{text}"
        );
        let text = host_network_hosts_file(&pod, "127.0.0.1 localhost");
        let begin = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n";
        assert!(text.starts_with(begin), "{text}");
    }
}
