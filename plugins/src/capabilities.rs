//! What the node lends to the plugin host: eyes (`HostCapabilities`) and hands (the actuators).
//!
//! The node implements these traits with netlink, nftables and mounts; tests implement them with
//! recording doubles.

use crate::plan::{Location, MacAddr, NetworkOp, Root, ScopeId, StorageOp};
use async_trait::async_trait;
use ipnet::IpNet;
use std::path::PathBuf;

/// Reads of the machine that drivers may ask for, behind grants.
#[async_trait]
pub trait HostCapabilities: Send + Sync + 'static {
    /// Links of the host's namespace whose name matches the glob (`*`, `?`), ordered by index.
    async fn links(&self, name_glob: &str) -> Result<Vec<LinkInfo>, ActError>;
    /// The link that carries the default route of a family (4 or 6).
    async fn default_route_link(&self, family: u8) -> Result<Option<LinkInfo>, ActError>;
    /// Space beneath a granted root, which is made first if it is absent.
    async fn space(&self, root: &Root) -> Result<SpaceInfo, ActError>;
    /// Bytes that are really taken beneath a granted root, without what is at these paths beneath it.
    async fn used_bytes(&self, root: &Root, but: &[&str]) -> Result<u64, ActError>;
    /// Block devices whose absolute path matches the glob, with their properties.
    async fn devices(&self, glob: &str) -> Result<Vec<DeviceInfo>, ActError>;
    /// A driver wants to tell the users of an object something. Must not wait.
    fn event(&self, event: DriverEvent);
}

/// What a driver wants to become a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverEvent {
    /// Name of the driver.
    pub driver: String,
    /// The object it is about; `None` when the call was about none, as when a scope was released.
    pub subject: Option<ObjectRef>,
    /// Whether something is wrong.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// Text for people.
    pub message: String,
}

/// The object a call is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef {
    /// `v1`, `davit.dev/v1alpha1`, …
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid; empty if not known.
    pub uid: String,
}

/// A network link of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkInfo {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `bridge`, `veth`, …; empty for a physical device.
    pub kind: String,
    /// Hardware address; all zeros if it has none.
    pub mac: MacAddr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// A file system's space and abilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Bytes an ordinary user can still write.
    pub available_bytes: u64,
    /// Type, such as `ext4`.
    pub fs_type: String,
    /// Whether copies by reference work.
    pub reflink: bool,
    /// Whether project quotas are on.
    pub project_quota: bool,
}

/// A block device and its properties (`size`, `model`, …).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Absolute path.
    pub path: String,
    /// Properties, ordered by name.
    pub properties: Vec<(String, String)>,
}

/// The scope whose steps an actuator carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeContext {
    /// The scope. Everything made is marked with it: a link's alias is `davit:<driver>:<scope>`.
    pub scope: ScopeId,
    /// The driver that planned it; nftables objects go into one table per driver.
    pub driver: String,
    /// The pod's pinned network namespace, in `net/` scopes.
    pub netns: Option<PathBuf>,
}

impl ScopeContext {
    /// The mark of everything made for the scope.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("davit:{}:{}", self.driver, self.scope)
    }
}

/// The kernel or a file system refused one step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ActError {
    /// What was done to what, and the kernel's answer, with the remedy where one is known.
    pub message: String,
    /// What the caller can do about it.
    pub kind: ActErrorKind,
}

/// What a caller can do about a refused step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActErrorKind {
    /// This machine or this version cannot do it; a retry does not help.
    Unsupported,
    /// Something else is in the way, such as a link of that name which is not ours.
    Occupied,
    /// A thing the step needs is not there.
    Missing,
    /// No space, memory or numbers left.
    Exhausted,
    /// Anything else; a retry may help.
    Failed,
}

impl ActError {
    /// An error of one kind.
    pub fn new(kind: ActErrorKind, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind,
        }
    }
}

/// A list of steps stopped at one of them. The steps before it are in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {index} failed")]
pub struct StepError {
    /// Position in the list.
    pub index: usize,
    /// Why.
    #[source]
    pub error: ActError,
}

/// A step whose result is not in the kernel as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Position of the step in the list.
    pub index: usize,
    /// What is missing or different.
    pub what: String,
}

/// Carries out network steps.
///
/// # Guarantees asked of implementations
/// * `ensure` of a list already in force changes nothing and succeeds.
/// * Steps are carried out in order; packet filter changes of one list go into one transaction,
///   which may come last.
/// * `undo` of something already gone succeeds. A namespace that is gone counts as everything in it
///   being gone.
/// * Nothing that carries another scope's mark, or none of ours, is changed or removed.
#[async_trait]
pub trait NetworkActuator: Send + Sync + 'static {
    /// Makes the steps so, in order.
    async fn ensure(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Result<(), StepError>;
    /// Undoes the steps, last first, going on after failures. Returns what could not be undone, which is
    /// only what is still there. Settings of the host get their former value back, unless somebody else
    /// has changed them since.
    async fn undo(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Vec<StepError>;
    /// Compares the steps with the kernel. Empty when all are in force.
    async fn read_back(&self, cx: &ScopeContext, ops: &[NetworkOp])
    -> Result<Vec<Drift>, ActError>;
    /// The present value of a kernel setting of the host; `None` where there is no such setting yet.
    async fn setting(&self, key: &str) -> Result<Option<String>, ActError>;
    /// The hardware address of a link of the pod, for the pod's network status.
    async fn mac(&self, cx: &ScopeContext, ifname: &str) -> Result<Option<MacAddr>, ActError>;
    /// Every marked thing on the host whose scope `keep` does not know is removed; returns marks.
    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError>;
}

/// Carries out storage steps; same guarantees as [`NetworkActuator`].
#[async_trait]
pub trait StorageActuator: Send + Sync + 'static {
    /// Makes the steps so, in order. What `Expose` steps give away is `nosuid,nodev`, whatever it is
    /// part of.
    async fn ensure(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Result<(), StepError>;
    /// Undoes the steps, last first, going on after failures. Data goes only with a `volume/` scope.
    async fn undo(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Vec<StepError>;
    /// Compares the steps with the kernel. Empty when all are in force.
    async fn read_back(&self, cx: &ScopeContext, ops: &[StorageOp])
    -> Result<Vec<Drift>, ActError>;
    /// Where on the host the runtime finds what an `Expose` or `ExposeBlock` step gives away.
    async fn exposed(&self, cx: &ScopeContext, op: &StorageOp) -> Result<PathBuf, ActError>;
    /// Every marked mount and device whose scope `keep` does not know is removed; returns marks.
    /// Data is never removed.
    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError>;
}

/// What the pod gets of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Directory or device on the host.
    pub path: PathBuf,
    /// Relative path inside it, to be resolved beneath it; empty for all of it.
    pub sub_path: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether it is a block device.
    pub block: bool,
}

impl Location {
    /// The absolute path of a location beneath a root, not yet resolved.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Path { root, path } => Some(root.path.join(path)),
            Self::Made => None,
        }
    }
}
