//! A pod's `/etc/resolv.conf` from `dnsPolicy`, `dnsConfig`, the cluster and the node.
use std::net::IpAddr;

use davit_plugins::network::Dns;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use super::members;

/// What C libraries read at most; more is cut off, and an Event says so.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARS: usize = 2048;

/// Name resolution of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers, as addresses in text.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, `name` or `name:value`.
    pub options: Vec<String>,
}

/// Where answers come from besides the pod's own wishes.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Name servers of the cluster; none if it has no DNS.
    pub cluster_servers: &'a [IpAddr],
    /// Domain of Services.
    pub cluster_domain: &'a str,
    /// The node's `resolv.conf`.
    pub node: &'a ResolvConf,
    /// What the pod's network brings.
    pub network: Option<&'a Dns>,
}

impl ResolvConf {
    /// Reads a `resolv.conf`; lines it does not know are left out.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => {
                    conf.searches = words.map(|word| trimmed(word).to_owned()).collect()
                }
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The file's content.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }

    fn add_config(&mut self, config: &PodDNSConfig) {
        append(&mut self.servers, config.nameservers.iter().flatten());
        append(&mut self.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.as_deref().filter(|name| !name.is_empty()) else {
                continue;
            };
            self.options
                .retain(|other| other.split(':').next() != Some(name));
            match option.value.as_deref() {
                Some(value) => self.options.push(format!("{name}:{value}")),
                None => self.options.push(name.to_owned()),
            }
        }
    }

    fn cut(&mut self) {
        self.servers.truncate(MOST_SERVERS);
        self.searches.truncate(MOST_SEARCHES);
        while self
            .searches
            .iter()
            .map(|search| search.len() + 1)
            .sum::<usize>()
            > MOST_SEARCH_CHARS + 1
        {
            self.searches.pop();
        }
    }
}

fn trimmed(domain: &str) -> &str {
    if domain == "." {
        domain
    } else {
        domain.trim_end_matches('.')
    }
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The pod's name resolution.
pub fn resolv_conf(pod: &Pod, around: Surroundings<'_>) -> ResolvConf {
    let spec = members::spec(pod);
    let host_network = spec.host_network.unwrap_or(false);
    let cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let none = spec.dns_policy.as_deref() == Some("None");
    let mut conf = if none {
        ResolvConf::default()
    } else if cluster && !around.cluster_servers.is_empty() {
        cluster_first(pod, around)
    } else {
        node_default(host_network, around)
    };
    if let Some(config) = &spec.dns_config {
        conf.add_config(config);
    }
    conf.cut();
    conf
}

fn cluster_first(pod: &Pod, around: Surroundings<'_>) -> ResolvConf {
    let domain = around.cluster_domain;
    let mut searches = vec![
        format!("{}.svc.{domain}", members::namespace(pod)),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    append(
        &mut searches,
        around.node.searches.iter().filter(|search| *search != "."),
    );
    ResolvConf {
        servers: around
            .cluster_servers
            .iter()
            .map(ToString::to_string)
            .collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

/// The network's own name resolution, else the node's; servers on the node's loopback are out of a pod's reach.
fn node_default(host_network: bool, around: Surroundings<'_>) -> ResolvConf {
    if let Some(dns) = around.network.filter(|dns| !dns.nameservers.is_empty()) {
        return ResolvConf {
            servers: dns.nameservers.iter().map(ToString::to_string).collect(),
            searches: dns.search.clone(),
            options: dns.options.clone(),
        };
    }
    let mut conf = around.node.clone();
    if !host_network {
        conf.servers
            .retain(|server| !server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn conf(spec: Value, cluster: &[&str]) -> String {
        let pod: Pod = serde_json::from_value(
            json!({ "metadata": { "name": "p", "namespace": "ns" }, "spec": spec }),
        )
        .unwrap();
        let node = ResolvConf::parse(
            "# c\nsearch home.\nnameserver 127.0.0.53\nnameserver 9.9.9.9\noptions edns0 ndots:2\n",
        );
        let cluster: Vec<IpAddr> = cluster.iter().map(|ip| ip.parse().unwrap()).collect();
        let around = Surroundings {
            cluster_servers: &cluster,
            cluster_domain: "cluster.local",
            node: &node,
            network: None,
        };
        resolv_conf(&pod, around).render()
    }

    #[test]
    fn policies() {
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local home\nnameserver 10.96.0.10\noptions ndots:5\n";
        let node = "search home\nnameserver 9.9.9.9\noptions edns0 ndots:2\n";
        let own = "search home\nnameserver 127.0.0.53\nnameserver 9.9.9.9\noptions edns0 ndots:2\n";
        let cases = [
            (json!({ "containers": [] }), &["10.96.0.10"][..], cluster),
            (json!({ "containers": [] }), &[], node),
            (
                json!({ "containers": [], "dnsPolicy": "Default" }),
                &["10.96.0.10"],
                node,
            ),
            (
                json!({ "containers": [], "hostNetwork": true }),
                &["10.96.0.10"],
                own,
            ),
            (
                json!({ "containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" }),
                &["10.96.0.10"],
                cluster,
            ),
            (
                json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": { "nameservers": ["1.1.1.1"] } }),
                &["10.96.0.10"],
                "nameserver 1.1.1.1\n",
            ),
        ];
        for (spec, servers, expected) in cases {
            assert_eq!(conf(spec.clone(), servers), expected, "{spec}");
        }
    }

    #[test]
    fn the_pods_config_is_added_and_wins() {
        let config = json!({
            "nameservers": ["1.1.1.1", "9.9.9.9", "2.2.2.2", "3.3.3.3"],
            "searches": ["home", "x"],
            "options": [{ "name": "ndots", "value": "1" }, { "name": "rotate" }],
        });
        let text = conf(
            json!({ "containers": [], "dnsPolicy": "Default", "dnsConfig": config }),
            &[],
        );
        assert_eq!(
            text,
            "search home x\nnameserver 9.9.9.9\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions edns0 ndots:1 rotate\n"
        );
    }
}
