//! What a `Plugin` may do: every list is a set of exact values or patterns, empty grants nothing.

use crate::Quantity;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rights of one plugin. `log`, `context` and the plan of its kind need no grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Grants {
    /// Host interfaces that the component may import.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Links in the host's network namespace.
    pub links: LinkGrants,
    /// Networks (CIDR) that addresses, leases, neighbours and rules must lie in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Routes.
    pub routes: RouteGrants,
    /// Packet filter and address translation.
    pub nft: NftGrants,
    /// Kernel settings.
    pub sysctls: SysctlGrants,
    /// Whether ports of the host may be forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ports: Option<PodScope>,
    /// Directories of the host that storage plans name as roots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<HostPath>,
    /// Mounts of file systems.
    pub mounts: MountGrants,
    /// Device nodes, as globs of absolute paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// File system types that may be made on blank devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mkfs: Vec<String>,
    /// Whether labels and annotations of the pod or claim are shown to it.
    pub subject_metadata: bool,
    /// Bounds on what one plugin may use.
    pub limits: Limits,
}

/// A host interface behind a grant.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Interface {
    /// Leases from the node's slices of a network.
    #[serde(rename = "network.ipam")]
    NetworkIpam,
    /// Reads of the host's links.
    #[serde(rename = "network.inspect")]
    NetworkInspect,
    /// Reads of space and devices.
    #[serde(rename = "storage.inspect")]
    StorageInspect,
    /// Key-value state that commits with the plan.
    #[serde(rename = "state")]
    State,
}

impl Interface {
    /// The spelling used in manifests and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkIpam => "network.ipam",
            Self::NetworkInspect => "network.inspect",
            Self::StorageInspect => "storage.inspect",
            Self::State => "state",
        }
    }
}

/// Links of the host that a plugin may make or build upon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkGrants {
    /// Globs (`*`, `?`) of names it may make in the host's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create: Vec<String>,
    /// Globs of existing links it may put others upon, or move into a pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Kinds of links it may make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<LinkKind>,
}

/// Kinds of network links.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A software bridge.
    Bridge,
    /// A pair of connected links.
    Veth,
    /// A link with its own MAC on a parent.
    Macvlan,
    /// A link with its parent's MAC.
    Ipvlan,
    /// An 802.1Q sub-interface.
    Vlan,
    /// A VXLAN tunnel end point.
    Vxlan,
    /// A WireGuard tunnel.
    Wireguard,
    /// A link to nowhere.
    Dummy,
    /// A link of the host moved into a pod.
    HostDevice,
}

/// Where routes may point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteGrants {
    /// Destinations (CIDR) in the host's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
    /// Destinations (CIDR) inside pods; `any` allows all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod: Vec<String>,
}

/// nftables rights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NftGrants {
    /// Sources (CIDR) that may be masqueraded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masquerade: Vec<String>,
    /// Filter rules in the plugin's own chains.
    pub filter: bool,
    /// Any rule in the plugin's own table. As good as root for traffic of the host.
    pub raw: bool,
}

/// Kernel settings a plugin may write, as globs of dotted names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SysctlGrants {
    /// Inside pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod: Vec<String>,
    /// On the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
}

/// How far a right that concerns a pod reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PodScope {
    /// Only what the pod's own spec asks for.
    FromPodSpec,
    /// Anything.
    Any,
}

/// A directory that storage plans may name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPath {
    /// The name that plans use as `root`.
    pub name: String,
    /// Absolute path on the node; made if absent. It may begin with `$(VOLUMES)`, the directory that
    /// davit keeps for volumes on each node (`volumes` in its data directory).
    pub path: String,
    /// Whether the plugin may write there.
    #[serde(default)]
    pub access: Access,
    /// Sum of the sizes of all volumes there; no bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
}

/// Reading, or reading and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Read only.
    #[default]
    #[serde(rename = "ro")]
    ReadOnly,
    /// Read and write.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// File systems that may be mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MountGrants {
    /// File system types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fs_types: Vec<String>,
    /// Servers: addresses (CIDR) or globs of host names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<String>,
}

/// Bounds per plugin; absent fields take the host's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Linear memory of one call; default and largest value `64Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Processor time of one call; default `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// Wall time of one call, by operation.
    pub timeout: Timeouts,
    /// Calls at once; default 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Size of all values in `state`; default `4Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<Quantity>,
    /// Steps in one plan; default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_ops: Option<u32>,
}

/// Wall times of calls, such as `10s` or `500ms`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// `attach`, `stage`, `publish`; default `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<Duration>,
    /// `node-up`; default `20s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_up: Option<Duration>,
    /// `create`, `delete`, `expand` and other volume operations; default `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<Duration>,
}
