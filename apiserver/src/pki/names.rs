//! The names and addresses the API server's certificate must hold.

use std::net::IpAddr;

/// Facts from which the names of the API server follow.
#[derive(Clone, Debug, Default)]
pub struct NameFacts {
    /// Host name of the machine; empty when unknown.
    pub hostname: String,
    /// Addresses of the machine.
    pub addresses: Vec<IpAddr>,
    /// First address of the service network: the `kubernetes` Service.
    pub service_ip: Option<IpAddr>,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// Names and addresses the user asked for.
    pub extra: Vec<String>,
}

impl NameFacts {
    /// The facts of this machine. What cannot be read is left out.
    pub fn of_this_machine(
        service_ip: Option<IpAddr>,
        cluster_domain: &str,
        extra: &[String],
    ) -> Self {
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
        Self {
            hostname,
            addresses: interface_addresses(),
            service_ip,
            cluster_domain: cluster_domain.to_owned(),
            extra: extra.to_vec(),
        }
    }
}

/// The names and addresses, each once. Names that no certificate can hold are left out.
pub fn server_names(facts: &NameFacts) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    if !facts.cluster_domain.is_empty() {
        names.push(format!("kubernetes.default.svc.{}", facts.cluster_domain));
    }
    names.extend(facts.service_ip.map(|ip| ip.to_string()));
    names.push(facts.hostname.to_ascii_lowercase());
    // A name written as an address is compared in the address's canonical spelling.
    names.extend(facts.extra.iter().map(|name| match name.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    }));
    names.extend(
        facts
            .addresses
            .iter()
            .filter(|ip| is_lasting(ip))
            .map(IpAddr::to_string),
    );
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| fits_certificate(name) && seen.insert(name.clone()));
    names
}

/// The names and addresses of a node's own server: those of its machine.
pub fn node_names(facts: &NameFacts) -> Vec<String> {
    let cluster = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut names = server_names(facts);
    names.retain(|name| !cluster.contains(&name.as_str()));
    names
}

/// Link-local IPv6 addresses need a zone, which a certificate cannot express.
fn is_lasting(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

fn fits_certificate(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
        || (!name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            }))
}

fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_usable() {
        let facts = NameFacts {
            hostname: "My_Host".into(),
            addresses: [
                "10.0.0.5",
                "127.0.0.1",
                "fe80::1",
                "2001:db8::7",
                "10.0.0.5",
            ]
            .iter()
            .map(|ip| ip.parse().unwrap())
            .collect(),
            service_ip: Some("10.96.0.1".parse().unwrap()),
            cluster_domain: "cluster.local".into(),
            extra: vec!["API.Example.org".into(), "2001:DB8:0::7".into()],
        };
        assert_eq!(
            server_names(&facts),
            [
                "localhost",
                "127.0.0.1",
                "::1",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "10.96.0.1",
                "api.example.org",
                "2001:db8::7",
                "10.0.0.5",
            ]
        );
    }
}
