//! Grants: what one plugin may do, compiled from `Plugin.spec.grants`, and checked by value.

mod compile;
mod glob;
mod network;
mod storage;

pub use compile::InvalidGrant;
pub(crate) use glob::Glob;
pub(crate) use network::NetworkView;
pub(crate) use storage::StorageView;

use crate::error::{CallError, Code};
use crate::plan::Root;
use davit_api::{Access, Interface, LinkKind, PodScope, Risk};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The rights of one plugin, ready to be checked.
#[derive(Clone, Debug, Default)]
pub struct GrantSet {
    pub(crate) interfaces: BTreeSet<Interface>,
    pub(crate) subject_metadata: bool,
    pub(crate) limits: CallLimits,
    links: Vec<Glob>,
    parents: Vec<Glob>,
    kinds: BTreeSet<LinkKind>,
    addresses: Vec<IpNet>,
    host_routes: Vec<IpNet>,
    pod_routes: PodRoutes,
    masquerade: Vec<IpNet>,
    filter: bool,
    raw: bool,
    pod_sysctls: Vec<Glob>,
    host_sysctls: Vec<Glob>,
    host_ports: Option<PodScope>,
    roots: BTreeMap<String, RootGrant>,
    fs_types: BTreeSet<String>,
    remote: Vec<Server>,
    devices: Vec<Glob>,
    mkfs: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum PodRoutes {
    Any,
    To(Vec<IpNet>),
}

impl Default for PodRoutes {
    fn default() -> Self {
        Self::To(Vec::new())
    }
}

#[derive(Clone, Debug)]
enum Server {
    Net(IpNet),
    Name(Glob),
}

/// A granted directory.
#[derive(Clone, Debug)]
pub(crate) struct RootGrant {
    pub(crate) root: Root,
    pub(crate) access: Access,
    pub(crate) max_bytes: Option<u64>,
}

/// Bounds of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallLimits {
    pub(crate) memory: usize,
    pub(crate) cpu: Duration,
    pub(crate) attach: Duration,
    pub(crate) node_up: Duration,
    pub(crate) create: Duration,
    pub(crate) concurrency: usize,
    pub(crate) state_bytes: usize,
    pub(crate) plan_ops: usize,
}

/// Linear memory of a call at most; the pool's slots have this size.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            memory: MEMORY_BYTES,
            cpu: Duration::from_secs(1),
            attach: Duration::from_secs(10),
            node_up: Duration::from_secs(20),
            create: Duration::from_secs(60),
            concurrency: 8,
            state_bytes: 4 << 20,
            plan_ops: 10_000,
        }
    }
}

/// A right that is missing: what was asked for, and what would have to be added where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not granted: add {value} to spec.grants.{grant} of the Plugin")]
pub struct Denied {
    /// What was asked for.
    pub what: String,
    /// The field of `spec.grants`.
    pub grant: &'static str,
    /// The value to add there.
    pub value: String,
}

impl Denied {
    fn new(what: impl Into<String>, grant: &'static str, value: impl ToString) -> Self {
        Self {
            what: what.into(),
            grant,
            value: value.to_string(),
        }
    }
}

/// Why a step was refused: a missing grant, or something that no grant allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// A grant is missing.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The step makes no sense or is forbidden to everybody.
    #[error("{0}")]
    Invalid(String),
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::Denied(_) => Code::PermissionDenied,
            Refused::Invalid(_) => Code::InvalidArgument,
        };
        Self::new(code, refused.to_string())
    }
}

impl GrantSet {
    /// A granted root by name.
    pub(crate) fn root(&self, name: &str) -> Result<&RootGrant, Denied> {
        let missing = || {
            Denied::new(
                format!("root {name:?}"),
                "hostPaths",
                format!("name: {name}"),
            )
        };
        self.roots.get(name).ok_or_else(missing)
    }

    /// Every granted root, by name.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&String, &RootGrant)> {
        self.roots.iter()
    }

    /// Whether a device may be seen.
    pub(crate) fn grants_device(&self, path: &str) -> bool {
        self.devices.iter().any(|glob| glob.matches(path))
    }

    /// How much harm the rights could do, given the directory that is davit's own.
    #[must_use]
    pub fn risk(&self, own: &Path) -> Risk {
        let foreign = self
            .roots
            .values()
            .any(|grant| !grant.root.path.starts_with(own));
        let whole_host = self.raw
            || foreign
            || !self.devices.is_empty()
            || self.kinds.contains(&LinkKind::HostDevice)
            || self
                .links
                .iter()
                .chain(&self.host_sysctls)
                .any(Glob::matches_everything);
        let some = !self.links.is_empty()
            || !self.parents.is_empty()
            || !self.host_routes.is_empty()
            || !self.masquerade.is_empty()
            || !self.host_sysctls.is_empty()
            || !self.roots.is_empty()
            || !self.fs_types.is_empty()
            || !self.mkfs.is_empty()
            || self.filter
            || self.host_ports.is_some();
        match (whole_host, some) {
            (true, _) => Risk::HostEquivalent,
            (false, true) => Risk::Scoped,
            (false, false) => Risk::Sandboxed,
        }
    }
}

/// Whether one of the networks contains the whole of `net`.
fn covers(granted: &[IpNet], net: &IpNet) -> bool {
    granted.iter().any(|grant| grant.contains(net))
}

fn covers_ip(granted: &[IpNet], ip: IpAddr) -> bool {
    covers(granted, &IpNet::from(ip))
}

#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
