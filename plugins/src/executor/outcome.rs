//! What goes into the executor and what comes out, besides the drivers' own requests.

use crate::capabilities::{HostCapabilities, NetworkActuator, StorageActuator};
use crate::network::{Attachment, Dns, Network, Node};
use crate::plan::{MacAddr, ScopeId};
use crate::registry::Registry;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the executor keeps its records.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Name of this node.
    pub node: String,
    /// Directory of the journal that survives a reboot (`volume/` scopes), synced before acting.
    pub state_dir: PathBuf,
    /// Directory on a tmpfs of the journal that is void after a reboot (all other scopes).
    pub run_dir: PathBuf,
}

/// What the executor works with.
#[derive(Clone)]
pub struct HostParts {
    /// The loaded drivers.
    pub registry: Arc<Registry>,
    /// Reads of the machine.
    pub capabilities: Arc<dyn HostCapabilities>,
    /// Carries out network plans.
    pub network: Arc<dyn NetworkActuator>,
    /// Carries out storage plans.
    pub storage: Arc<dyn StorageActuator>,
}

impl fmt::Debug for HostParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostParts").finish_non_exhaustive()
    }
}

/// The executor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A journal cannot be opened: locked, damaged, or not writable. The cause says which.
    #[error("cannot open the journals in {} and {}", state_dir.display(), run_dir.display())]
    Journal {
        /// Directory of the durable one.
        state_dir: PathBuf,
        /// Directory of the boot's.
        run_dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A network to be brought up on this node.
#[derive(Clone, Debug, Default)]
pub struct NodeUp {
    /// The network.
    pub network: Network,
    /// This node's part.
    pub node: Node,
    /// The other nodes'.
    pub peers: Vec<Node>,
}

/// A pod to be attached to its networks, the default one first.
#[derive(Clone, Debug, Default)]
pub struct AttachPod {
    /// The pod's pinned network namespace.
    pub netns: PathBuf,
    /// One per network.
    pub attachments: Vec<NetworkAttachment>,
}

/// One attachment and this node's part in its network.
#[derive(Clone, Debug, Default)]
pub struct NetworkAttachment {
    /// What is attached to what.
    pub attachment: Attachment,
    /// This node's part.
    pub node: Node,
}

/// A pod's link as it is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attached {
    /// Name of the network.
    pub network: String,
    /// Name of the link in the pod.
    pub ifname: String,
    /// Its addresses, in the order of the plan.
    pub addresses: Vec<IpNet>,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// Whether the pod's default route goes this way.
    pub default_route: bool,
    /// Name resolution, if the network brings its own.
    pub dns: Option<Dns>,
    /// Values for the pod's network status.
    pub published: BTreeMap<String, String>,
}

/// Where a scope is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// Recorded, perhaps partly carried out.
    Pending,
    /// In force and read back.
    Applied,
    /// Refused, and something could not be undone; its addresses are held until it is.
    Stuck,
    /// Being torn down; with an error when something could not be removed yet.
    Releasing,
}

/// One scope for people to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeSummary {
    /// Its name.
    pub scope: ScopeId,
    /// The driver that planned it.
    pub driver: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Keys of its steps.
    pub steps: Vec<String>,
    /// Addresses leased to it.
    pub leases: Vec<IpNet>,
    /// What could not be undone, and why.
    pub error: Option<String>,
}

/// What replaying found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Scopes that were half done and are finished now.
    pub finished: Vec<ScopeId>,
    /// Scopes that had drifted and are in force again, with what was missing.
    pub mended: Vec<(ScopeId, String)>,
    /// Scopes that could not be brought in force, with the reason.
    pub failed: Vec<(ScopeId, String)>,
    /// Marks of things that no scope knew, now removed.
    pub collected: Vec<String>,
}
