//! `bridge.davit.dev`: pods on one node share a bridge; the world sees the node's address.
//!
//! On the node: a bridge that carries each slice's gateway address, forwarding switched on, and
//! masquerading of what leaves the network. In the pod: one end of a veth pair with an address of
//! each family and a default route through the bridge.

use davit_plugin::network::*;
use serde::Deserialize;

struct Bridge;

/// `Network.spec.config` of bridge networks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct BridgeConfig {
    /// Name of the bridge, at most 15 bytes and beginning with `davit`.
    bridge: Option<String>,
    /// Whether a pod reaches itself through its Service.
    hairpin: bool,
    /// Whether packets leaving the network take the node's address.
    masquerade: bool,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            bridge: None,
            hairpin: true,
            masquerade: true,
        }
    }
}

impl BridgeConfig {
    fn bridge_name(&self, network: &Network) -> String {
        let short = network.name.len() <= 9 && network.name.is_ascii();
        match &self.bridge {
            Some(name) => name.clone(),
            None if short => format!("davit-{}", network.name),
            None => short_name("davit-", &network.name),
        }
    }
}

impl NetworkDriver for Bridge {
    type Config = NoConfig;
    type NetworkConfig = BridgeConfig;

    fn manifest() -> Manifest {
        Manifest::new("bridge.davit.dev", env!("CARGO_PKG_VERSION"))
            .description("A bridge per node, veth pairs to pods, masquerading to the world.")
            .want("interfaces", "network.ipam", "addresses of pods")
            .want("links.kinds", "bridge", "the bridge")
            .want("links.kinds", "veth", "links to pods")
            .want("links.create", "davit-*", "the bridge")
            .want("links.create", "dv*", "the host's ends of links to pods")
            .want(
                "sysctls.host",
                "net.ipv4.ip_forward",
                "packets between pods and the world",
            )
            .can_use(
                "sysctls.host",
                "net.ipv6.conf.all.forwarding",
                "the same for IPv6",
            )
            .can_use(
                "nft.masquerade",
                "the networks' subnets",
                "packets to the world",
            )
    }

    fn node_up(cx: &Cx<Self>, net: &Network, _: &Node, _: &[Node]) -> Result<Plan> {
        let config: BridgeConfig = net.parse_config()?;
        let pools = cx.ipam().pools()?;
        if pools.is_empty() {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!(
                    "network {}: this node has no slice of its subnets yet",
                    net.name
                ),
            ));
        }
        let bridge = Link::host("br", config.bridge_name(net)).mtu(net.mtu);
        let mut plan = Plan::new().bridge(bridge);
        for pool in &pools {
            if let Some(gateway) = &pool.gateway {
                plan = plan.address("br", &with_prefix_of(gateway, &pool.cidr));
            }
        }
        let (v6, v4): (Vec<_>, Vec<_>) = pools.iter().partition(|pool| pool.cidr.contains(':'));
        if !v4.is_empty() {
            plan = plan.sysctl(Place::Host, "net.ipv4.ip_forward", "1");
        }
        if !v6.is_empty() {
            plan = plan.sysctl(Place::Host, "net.ipv6.conf.all.forwarding", "1");
        }
        if config.masquerade {
            for pool in &pools {
                plan = plan.masquerade(&pool.cidr, &same_family(&net.subnets, &pool.cidr));
            }
        }
        Ok(plan)
    }

    fn attach(cx: &Cx<Self>, attachment: &Attachment, _: &Node) -> Result<Plan> {
        let net = &attachment.network;
        let config: BridgeConfig = net.parse_config()?;
        let pod = Link::pod("eth", &attachment.ifname).mtu(net.mtu);
        let host = Link::host("host", short_name("dv", &attachment.id))
            .mtu(net.mtu)
            .master(format!("node/{}#br", net.name))
            .option("hairpin", if config.hairpin { "true" } else { "false" });
        let mut plan = Plan::new().veth(pod.mac(attachment.want_mac.clone()), host);
        for family in families(&cx.ipam().pools()?) {
            let wanted = attachment
                .want_ips
                .iter()
                .find(|ip| family_of(ip) == family);
            let lease = match wanted {
                Some(ip) => cx.ipam().allocate_this(family, &attachment.ifname, ip)?,
                None => cx.ipam().allocate(family, &attachment.ifname)?,
            };
            plan = plan.address("eth", &lease.address);
            if let (true, Some(gateway)) = (attachment.default_route, &lease.gateway) {
                plan = plan.default_via("eth", gateway);
            }
        }
        Ok(plan)
    }
}

davit_plugin::network_driver!(Bridge);

fn family_of(address: &str) -> &'static str {
    if address.contains(':') {
        "ipv6"
    } else {
        "ipv4"
    }
}

/// The families of the pools, each once, in the order of the pools.
fn families(pools: &[davit_plugin::network::Pool]) -> Vec<&'static str> {
    let mut families = Vec::new();
    for pool in pools {
        let family = family_of(&pool.cidr);
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// `address` with the prefix length of `cidr`.
fn with_prefix_of(address: &str, cidr: &str) -> String {
    let length = cidr.rsplit_once('/').map_or("", |(_, length)| length);
    format!("{address}/{length}")
}

fn same_family(subnets: &[String], cidr: &str) -> Vec<String> {
    subnets
        .iter()
        .filter(|subnet| family_of(subnet) == family_of(cidr))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
