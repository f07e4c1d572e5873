//! Requests and answers of network drivers, and the typed facade over one.

mod driver;

pub(crate) use driver::{Driver, missing};

use crate::plan::{MacAddr, Protocol};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A network, as drivers see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Name of the `Network` object.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: u64,
    /// Largest packet in bytes; 0 lets the driver choose.
    pub mtu: u32,
    /// Ranges of the whole network.
    pub subnets: Vec<IpNet>,
    /// The driver's configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Name of the driver. Used by the host, not shown to drivers.
    #[serde(default)]
    pub driver: String,
    /// Ranges never leased. Used by the host, not shown to drivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<IpNet>,
}

/// A node's part in a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the `Node` object.
    pub name: String,
    /// Its addresses, internal ones first.
    pub addresses: Vec<IpAddr>,
    /// Ranges whose addresses it gives to pods.
    pub slices: Vec<IpNet>,
    /// What it tells its peers.
    #[serde(default)]
    pub published: BTreeMap<String, String>,
}

/// The pod of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Labels, shown to drivers with a grant only.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations, shown to drivers with a grant only.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// One pod to be put on one network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The pod.
    pub pod: Pod,
    /// The network.
    pub network: Network,
    /// Name of the link in the pod.
    pub ifname: String,
    /// Whether the pod's default route goes this way.
    pub default_route: bool,
    /// Addresses the pod asks for.
    #[serde(default)]
    pub want_ips: Vec<IpAddr>,
    /// Hardware address the pod asks for.
    #[serde(default)]
    pub want_mac: Option<MacAddr>,
    /// Further arguments.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Ports of the host that the pod's containers ask for. Used by the host, not shown to drivers.
    #[serde(default)]
    pub host_ports: Vec<(Protocol, u16)>,
}

/// Name resolution that a network gives to its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options of `resolv.conf`.
    pub options: Vec<String>,
}

/// What a driver answers to `attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachResult {
    /// Name resolution, if the network brings its own.
    pub dns: Option<Dns>,
    /// Values for the pod's network status.
    pub published: BTreeMap<String, String>,
}

/// What a driver answers to `node-up`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeResult {
    /// What peers need to know.
    pub published: BTreeMap<String, String>,
}
