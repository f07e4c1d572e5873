//! Plans: the desired state of one scope as data.
//!
//! A driver names things by keys; what is recorded here has every key resolved to what the kernel
//! needs (device names, absolute roots), so a plan can be carried out and undone long after the
//! plugin or a neighbouring scope is gone.

mod diff;
mod mac;
mod network;
mod storage;

pub use diff::{Change, diff};
pub use mac::{MacAddr, ParseMacError};
pub use network::{
    Dev, Filter, Forward, Hook, IpvlanMode, Link, MacvlanMode, NetworkOp, NetworkPlan, Place,
    PolicyRule, Protocol, Rate, Route, Verdict,
};
pub use storage::{CopyMode, Location, Owner, Root, Source, StorageOp, StoragePlan};

use serde::{Deserialize, Serialize};
use std::fmt;

/// A step of a plan: identified by its key within one scope, comparable by value.
pub trait Op: Clone + PartialEq + fmt::Debug + Send + Sync {
    /// Stable name of the step inside its scope (`link/eth`, `route/pod/254/default`).
    fn key(&self) -> String;
    /// What the step takes for itself on this machine. Two scopes never share a claim.
    fn claims(&self, scope: &ScopeId) -> Vec<Claim>;
}

/// Something on the machine that one scope at most may hold, such as `link/davit0` or
/// `port/tcp/80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The thing.
    pub name: String,
    /// Scopes that want the same of it may hold it together: a kernel setting with one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

impl Claim {
    /// A claim that excludes all others.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            share: None,
        }
    }

    /// Whether it can be held beside another claim to the same thing.
    #[must_use]
    pub fn shared_with(&self, other: Option<&str>) -> bool {
        self.share.is_some() && self.share.as_deref() == other
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name of a scope, the unit of ownership: one plan is the whole desired state of one scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScopeId(String);

impl ScopeId {
    /// `node/<network>`: a network's presence on this node.
    #[must_use]
    pub fn node(network: &str) -> Self {
        Self(format!("node/{network}"))
    }

    /// `net/<pod-uid>/<ifname>`: one attachment of one pod.
    #[must_use]
    pub fn net(pod_uid: &str, ifname: &str) -> Self {
        Self(format!("net/{pod_uid}/{ifname}"))
    }

    /// `volume/<id>`: the data of a volume.
    #[must_use]
    pub fn volume(id: &str) -> Self {
        Self(format!("volume/{id}"))
    }

    /// `stage/<id>`: a volume made usable on this node.
    #[must_use]
    pub fn stage(id: &str) -> Self {
        Self(format!("stage/{id}"))
    }

    /// `publish/<id>/<pod-uid>`: a volume given to one pod.
    #[must_use]
    pub fn publish(id: &str, pod_uid: &str) -> Self {
        Self(format!("publish/{id}/{pod_uid}"))
    }

    /// A scope by its text form, as kept in records and named by plans.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part: `node`, `net`, `volume`, `stage` or `publish`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The parts after the kind.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether the scope must survive a reboot, as the data of volumes does.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.kind() == "volume"
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
