//! Steps of network plans.

use super::{Claim, MacAddr, Op, ScopeId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole desired kernel state of one network scope, in the order it is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Steps; undone in reverse.
    pub ops: Vec<NetworkOp>,
}

/// A network namespace, seen from the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The node's own.
    Host,
    /// The pod's.
    Pod,
}

impl Place {
    /// `host` or `pod`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Pod => "pod",
        }
    }
}

/// One step of a network plan. Making it twice is the same as making it once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum NetworkOp {
    /// A bridge, up.
    Bridge {
        /// The bridge.
        link: Link,
        /// Whether it filters by VLAN.
        vlan_filtering: bool,
    },
    /// A pair of links, up. Options of a link on a bridge: `hairpin=true`, `isolated=true`.
    Veth {
        /// The pod's side.
        link: Link,
        /// The host's side.
        peer: Link,
    },
    /// A macvlan on a parent of the host.
    Macvlan {
        /// The new link.
        link: Link,
        /// Name of the parent in the host's namespace.
        parent: String,
        /// How its siblings reach each other.
        mode: MacvlanMode,
    },
    /// An ipvlan on a parent of the host.
    Ipvlan {
        /// The new link.
        link: Link,
        /// Name of the parent in the host's namespace.
        parent: String,
        /// The layer it works on.
        mode: IpvlanMode,
    },
    /// An 802.1Q sub-interface of a parent of the host.
    Vlan {
        /// The new link.
        link: Link,
        /// Name of the parent in the host's namespace.
        parent: String,
        /// VLAN number, 1 to 4094.
        id: u16,
    },
    /// A VXLAN tunnel end point.
    Vxlan {
        /// The new link.
        link: Link,
        /// Network identifier, 24 bits.
        vni: u32,
        /// UDP port.
        port: u16,
        /// Source address of the tunnel.
        local: Option<IpAddr>,
        /// Name of the link that carries the tunnel.
        dev: Option<String>,
        /// Whether it learns addresses from traffic.
        learning: bool,
    },
    /// A dummy link.
    Dummy {
        /// The new link.
        link: Link,
    },
    /// A link of the host moved into the pod, and back when undone.
    HostDevice {
        /// The link as it is to be in the pod.
        link: Link,
        /// Its name in the host's namespace.
        device: String,
    },
    /// An address on a link. Options: `scope=link|host|global`, `noprefixroute=true`.
    Address {
        /// The link.
        dev: Dev,
        /// Address and prefix length.
        cidr: IpNet,
        /// Further settings.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// A route.
    Route(Route),
    /// A policy routing rule.
    Rule(PolicyRule),
    /// A permanent neighbour entry.
    Neighbor {
        /// The link.
        dev: Dev,
        /// The neighbour's address.
        ip: IpAddr,
        /// Its hardware address.
        mac: MacAddr,
    },
    /// A permanent forwarding entry of a bridge or VXLAN.
    Fdb {
        /// The link.
        dev: Dev,
        /// The hardware address; all zeros for the rest.
        mac: MacAddr,
        /// Where the tunnel leads.
        dst: Option<IpAddr>,
    },
    /// A kernel setting, by its dotted name. The old value comes back when undone on the host.
    Sysctl {
        /// Whose setting.
        place: Place,
        /// Dotted name; a dot inside a link's name is written `/`.
        key: String,
        /// Value.
        value: String,
        /// What it was on the host before any scope set it; found out when the step is recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former: Option<String>,
    },
    /// Traffic from a network leaves the node with the node's address.
    Masquerade {
        /// Sources.
        src: IpNet,
        /// Destinations that keep the source address.
        except: Vec<IpNet>,
    },
    /// A port of the host leads to an address.
    Forward(Forward),
    /// A packet filter rule in the plugin's own chains.
    Filter(Filter),
    /// Bandwidth limits of a link.
    Shape {
        /// The link.
        dev: Dev,
        /// The limits.
        rate: Rate,
    },
}

/// A link that a plan makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The driver's name for it in this scope.
    pub key: String,
    /// Where it is in the end.
    pub place: Place,
    /// The kernel's name, 1 to 15 bytes.
    pub name: String,
    /// Largest packet in bytes; the kernel's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Hardware address; the kernel's choice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Name of the bridge it is a port of, in the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Further settings, by kind of link.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A link that a step refers to, with its key already resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dev {
    /// The namespace it is in.
    pub place: Place,
    /// The kernel's name.
    pub name: String,
}

/// A route in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Whose table.
    pub place: Place,
    /// Destination; `0.0.0.0/0` and `::/0` are the defaults.
    pub dst: IpNet,
    /// Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Name of the link in `place`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Preferred source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// Table number; 254 is the main one.
    pub table: u32,
    /// Metric; 0 is the kernel's default.
    pub metric: u32,
    /// The gateway is reachable through `dev` without a route to it.
    pub onlink: bool,
}

/// A policy routing rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Whose rules.
    pub place: Place,
    /// 4 or 6.
    pub family: u8,
    /// Priority.
    pub priority: u32,
    /// Source, any when absent.
    pub src: Option<IpNet>,
    /// Destination, any when absent.
    pub dst: Option<IpNet>,
    /// Packet mark, any when 0.
    pub fwmark: u32,
    /// Name of the incoming link.
    pub iif: Option<String>,
    /// Table to look in.
    pub table: u32,
}

/// Transport protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Any.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// A port of the host leads to an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// Address of the host; all of them when absent.
    pub host_ip: Option<IpAddr>,
    /// Port of the host.
    pub host_port: u16,
    /// Where it leads.
    pub to_ip: IpAddr,
    /// Port there.
    pub to_port: u16,
}

/// Where a filter rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Packets to the node.
    Input,
    /// Packets through the node.
    Forward,
    /// Packets of the node.
    Output,
}

/// What a filter rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Let it pass.
    Accept,
    /// Drop it silently.
    Drop,
    /// Drop it with an answer.
    Reject,
}

/// A packet filter rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Name in the scope.
    pub key: String,
    /// Where it stands.
    pub hook: Hook,
    /// Order within the hook, lower first.
    pub priority: i32,
    /// Protocol.
    pub protocol: Protocol,
    /// Sources; any when empty.
    pub src: Vec<IpNet>,
    /// Destinations; any when empty.
    pub dst: Vec<IpNet>,
    /// Destination port ranges, inclusive; any when empty.
    pub ports: Vec<(u16, u16)>,
    /// Name of the incoming link.
    pub iif: Option<String>,
    /// Name of the outgoing link.
    pub oif: Option<String>,
    /// What to do.
    pub verdict: Verdict,
}

/// Bandwidth limits; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits per second towards the pod.
    pub ingress_bps: u64,
    /// Bits per second from the pod.
    pub egress_bps: u64,
    /// Burst in bytes.
    pub burst_bytes: u64,
}

/// How macvlan siblings reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Directly.
    Bridge,
    /// Not at all.
    Private,
    /// Through the outer switch.
    Vepa,
    /// A single sibling owns the parent.
    Passthru,
}

/// The layer an ipvlan works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Switching.
    L2,
    /// Routing.
    L3,
    /// Routing, seen by the host's netfilter.
    L3s,
}

impl NetworkOp {
    /// The links that the step makes.
    #[must_use]
    pub fn links(&self) -> Vec<&Link> {
        match self {
            Self::Veth { link, peer } => vec![link, peer],
            Self::Bridge { link, .. }
            | Self::Macvlan { link, .. }
            | Self::Ipvlan { link, .. }
            | Self::Vlan { link, .. }
            | Self::Vxlan { link, .. }
            | Self::Dummy { link }
            | Self::HostDevice { link, .. } => vec![link],
            _ => Vec::new(),
        }
    }

    /// Every namespace in which the step leaves something or from which it takes something.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Address { dev, .. }
            | Self::Neighbor { dev, .. }
            | Self::Fdb { dev, .. }
            | Self::Shape { dev, .. } => vec![dev.place],
            Self::Route(route) => vec![route.place],
            Self::Rule(rule) => vec![rule.place],
            Self::Sysctl { place, .. } => vec![*place],
            Self::Masquerade { .. } | Self::Forward(_) | Self::Filter(_) => vec![Place::Host],
            Self::HostDevice { link, .. }
            | Self::Macvlan { link, .. }
            | Self::Ipvlan { link, .. }
            | Self::Vlan { link, .. }
            | Self::Vxlan {
                link, dev: Some(_), ..
            } => vec![Place::Host, link.place],
            Self::Bridge { .. } | Self::Veth { .. } | Self::Vxlan { .. } | Self::Dummy { .. } => {
                self.links().iter().map(|link| link.place).collect()
            }
        }
    }
}

impl Op for NetworkOp {
    fn key(&self) -> String {
        match self {
            Self::Address { dev, cidr, .. } => {
                format!("address/{}/{}/{cidr}", dev.place.as_str(), dev.name)
            }
            Self::Route(route) => route_key(route),
            Self::Rule(rule) => {
                format!(
                    "rule/{}/{}/{}",
                    rule.place.as_str(),
                    rule.family,
                    rule.priority
                )
            }
            Self::Neighbor { dev, ip, .. } => {
                format!("neighbor/{}/{}/{ip}", dev.place.as_str(), dev.name)
            }
            Self::Fdb { dev, mac, dst } => {
                let dst = dst.map_or_else(String::new, |ip| format!("/{ip}"));
                format!("fdb/{}/{}/{mac}{dst}", dev.place.as_str(), dev.name)
            }
            Self::Sysctl { place, key, .. } => format!("sysctl/{}/{key}", place.as_str()),
            Self::Masquerade { src, .. } => format!("masquerade/{src}"),
            Self::Forward(forward) => forward_key(forward),
            Self::Filter(filter) => format!("filter/{}", filter.key),
            Self::Shape { dev, .. } => format!("shape/{}/{}", dev.place.as_str(), dev.name),
            _ => self
                .links()
                .first()
                .map_or_else(String::new, |link| format!("link/{}", link.key)),
        }
    }

    fn claims(&self, scope: &ScopeId) -> Vec<Claim> {
        // What is inside a pod is told apart by the pod; the host's things are the machine's.
        let pod = scope.parts().next().unwrap_or_default();
        let owned = |place: Place, what: String| match place {
            Place::Host => Claim::new(what),
            Place::Pod => Claim::new(format!("pod/{pod}/{what}")),
        };
        match self {
            Self::Address { dev, .. } => vec![owned(dev.place, self.key())],
            Self::Route(route) => vec![owned(route.place, self.key())],
            Self::Rule(rule) => vec![owned(rule.place, self.key())],
            Self::Sysctl { place, value, .. } => {
                vec![Claim {
                    share: Some(value.clone()),
                    ..owned(*place, self.key())
                }]
            }
            Self::Neighbor { dev, .. } | Self::Fdb { dev, .. } | Self::Shape { dev, .. } => {
                vec![owned(dev.place, self.key())]
            }
            Self::Masquerade { .. } => vec![Claim::new(self.key())],
            Self::Forward(forward) => forward_claims(forward),
            Self::Filter(_) => Vec::new(),
            Self::HostDevice { link, device } => vec![
                owned(link.place, format!("link/{}", link.name)),
                Claim::new(format!("link/{device}")),
            ],
            _ => {
                let links = self.links().into_iter();
                links
                    .map(|link| owned(link.place, format!("link/{}", link.name)))
                    .collect()
            }
        }
    }
}

fn route_key(route: &Route) -> String {
    let Route {
        place,
        dst,
        table,
        metric,
        ..
    } = route;
    format!("route/{}/{table}/{metric}/{dst}", place.as_str())
}

fn forward_key(forward: &Forward) -> String {
    let Forward {
        protocol,
        host_ip,
        host_port,
        ..
    } = forward;
    let port = format!("port/{protocol:?}/{host_port}").to_lowercase();
    host_ip.map_or_else(|| port.clone(), |ip| format!("{port}/{ip}"))
}

/// One address of the host can share a port with its other addresses, not with all of them.
fn forward_claims(forward: &Forward) -> Vec<Claim> {
    let port = forward_key(&Forward {
        host_ip: None,
        ..forward.clone()
    });
    match forward.host_ip {
        None => vec![Claim::new(port)],
        Some(_) => vec![
            Claim::new(forward_key(forward)),
            Claim {
                name: port,
                share: Some("by address".to_owned()),
            },
        ],
    }
}
