//! The plan executor: what the node's agent calls to have drivers consulted and plans carried out.
//!
//! Call → plan → check grants → conflicts → journal → act → read back, for set-up; teardown works
//! from the journal alone and never waits for a plugin.

mod outcome;

pub use outcome::{
    AttachPod, Attached, HostConfig, HostParts, NetworkAttachment, NodeUp, OpenError, Phase,
    ReplayReport, ScopeSummary,
};

use crate::capabilities::Exposed;
use crate::error::{CallError, Code};
use crate::network::NodeResult;
use crate::storage::{
    CreateRequest, Expanded, NodeInfo, PublishRequest, Topology, UseMode, Volume, VolumeRef,
    VolumeStats,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Consults drivers and makes the machine match their plans.
///
/// # Guarantees
/// * A call that returns an error leaves nothing of its plan in force; what could not be undone is
///   kept as a `Stuck` scope and tried again.
/// * Repeating a call with the same request returns the recorded result without calling the driver.
/// * Releases succeed for scopes that do not exist and need no plugin.
#[derive(Debug)]
pub struct Host {
    _config: HostConfig,
}

impl Host {
    /// Opens the journals. Call [`Host::replay`] before anything else.
    ///
    /// # Errors
    /// When a journal cannot be opened, is locked by another process, or is damaged.
    pub fn open(config: HostConfig, _parts: HostParts) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self { _config: config }))
    }

    /// Finishes what an earlier process left half done, re-applies what drifted, and removes marked
    /// things that no scope knows.
    pub async fn replay(&self) -> ReplayReport {
        ReplayReport::default()
    }

    /// Brings a network up on this node, or adapts it to changed peers or slices.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal; the former state stays in force.
    pub async fn node_up(&self, _request: NodeUp) -> Result<NodeResult, CallError> {
        Err(unfinished())
    }

    /// Removes a network from this node.
    ///
    /// # Errors
    /// `failed-precondition` while pods are attached to it.
    pub async fn node_down(&self, _network: &str) -> Result<(), CallError> {
        Err(unfinished())
    }

    /// Attaches a pod to its networks: all of them or none.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal.
    pub async fn attach_pod(&self, _request: AttachPod) -> Result<Vec<Attached>, CallError> {
        Err(unfinished())
    }

    /// Detaches a pod from its networks and frees its addresses. The namespace may be gone already.
    ///
    /// # Errors
    /// When something on the host could not be removed; the scope stays and can be retried.
    pub async fn release_pod(&self, _pod_uid: &str) -> Result<(), CallError> {
        Err(unfinished())
    }

    /// Makes a volume on this node.
    ///
    /// # Errors
    /// The driver's refusal; `already-exists` for the same name with another request.
    pub async fn create_volume(
        &self,
        _driver: &str,
        _request: CreateRequest,
    ) -> Result<Volume, CallError> {
        Err(unfinished())
    }

    /// Deletes a volume and its data. Unknown volumes count as deleted.
    ///
    /// # Errors
    /// `failed-precondition` while a pod uses it.
    pub async fn delete_volume(&self, _driver: &str, _volume: VolumeRef) -> Result<(), CallError> {
        Err(unfinished())
    }

    /// Grows a volume.
    ///
    /// # Errors
    /// `out-of-range` for a smaller size, `unimplemented` where the driver cannot.
    pub async fn expand_volume(
        &self,
        _driver: &str,
        _volume: VolumeRef,
        _required_bytes: u64,
        _limit_bytes: Option<u64>,
        _used_as: UseMode,
    ) -> Result<Expanded, CallError> {
        Err(unfinished())
    }

    /// Bytes that new volumes of a class can have in a segment.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn capacity(
        &self,
        _driver: &str,
        _parameters: &BTreeMap<String, String>,
        _segment: &Topology,
    ) -> Result<u64, CallError> {
        Err(unfinished())
    }

    /// What a driver says about this node.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn node_info(&self, _driver: &str) -> Result<NodeInfo, CallError> {
        Err(unfinished())
    }

    /// Makes a volume usable on this node if it is not yet, and gives it to a pod.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal; `failed-precondition` when another pod holds a
    /// `ReadWriteOncePod` volume.
    pub async fn publish_volume(
        &self,
        _driver: &str,
        _request: PublishRequest,
    ) -> Result<Exposed, CallError> {
        Err(unfinished())
    }

    /// Takes a volume from a pod; with the last pod it is no longer staged.
    ///
    /// # Errors
    /// When something on the host could not be removed; it can be retried.
    pub async fn unpublish_volume(
        &self,
        _volume_id: &str,
        _pod_uid: &str,
    ) -> Result<(), CallError> {
        Err(unfinished())
    }

    /// How full a volume is, if its driver knows better than `statfs`.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn volume_stats(
        &self,
        _driver: &str,
        _volume: VolumeRef,
    ) -> Result<Option<VolumeStats>, CallError> {
        Err(unfinished())
    }

    /// Releases every `net/` and `publish/` scope whose pod is not in `pods`; returns the pods'
    /// uids that were released.
    pub async fn retain_pods(&self, _pods: &HashSet<String>) -> Vec<String> {
        Vec::new()
    }

    /// Every scope with its owner and phase, ordered by id.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeSummary> {
        Vec::new()
    }
}

fn unfinished() -> CallError {
    CallError::new(
        Code::Unavailable,
        "the plan executor is not in this build yet",
    )
}
