//! Requests and answers of storage drivers, and the typed facade over one.

mod convert;
mod driver;

pub(crate) use driver::Driver;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many nodes and pods use a volume at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AccessMode {
    /// One node.
    #[serde(rename = "ReadWriteOnce")]
    ReadWriteOnce,
    /// Many nodes, reading.
    #[serde(rename = "ReadOnlyMany")]
    ReadOnlyMany,
    /// Many nodes.
    #[serde(rename = "ReadWriteMany")]
    ReadWriteMany,
    /// One pod.
    #[serde(rename = "ReadWriteOncePod")]
    ReadWriteOncePod,
}

/// A directory or a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeMode {
    /// Mounted as a directory.
    #[default]
    Filesystem,
    /// Given as a block device.
    Block,
}

/// How a volume is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UseMode {
    /// Directory or device.
    pub mode: VolumeMode,
    /// Access modes asked for.
    pub access: Vec<AccessMode>,
    /// Type of file system; empty lets the driver choose.
    pub fs_type: String,
    /// Mount options.
    pub mount_options: Vec<String>,
}

/// What a new volume is filled with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentSource {
    /// Nothing.
    #[default]
    Empty,
    /// A snapshot, by id.
    Snapshot(String),
    /// Another volume, by id.
    Volume(String),
}

/// One segment of topology: label keys and values.
pub type Topology = BTreeMap<String, String>;

/// A volume to be made. The name is the idempotency key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Made by the host (`pvc-<uid>`), stable over retries.
    pub name: String,
    /// Least size in bytes.
    pub required_bytes: u64,
    /// Largest size in bytes.
    pub limit_bytes: Option<u64>,
    /// `StorageClass.parameters`.
    pub parameters: BTreeMap<String, String>,
    /// Uses it must serve.
    pub uses: Vec<UseMode>,
    /// Contents.
    pub source: ContentSource,
    /// Segments it must be reachable from.
    pub requisite: Vec<Topology>,
    /// The same, best first.
    pub preferred: Vec<Topology>,
}

/// A volume that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The driver's id: `PersistentVolume.spec.csi.volumeHandle`.
    pub id: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// `PersistentVolume.spec.csi.volumeAttributes`.
    pub context: BTreeMap<String, String>,
    /// Segments it is reachable from; everywhere when empty.
    pub topology: Vec<Topology>,
}

/// A volume named in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRef {
    /// Its id.
    pub id: String,
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Its context.
    pub context: BTreeMap<String, String>,
}

/// The result of growing a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expanded {
    /// New size in bytes.
    pub capacity_bytes: u64,
    /// Whether the nodes that use it have to act.
    pub node_expansion: bool,
}

/// What a driver says about a node: `CSINode.spec.drivers[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The driver's name for the node.
    pub node_id: String,
    /// Most volumes at once; 0 is no limit.
    pub max_volumes: u32,
    /// The node's segment.
    pub topology: Topology,
}

/// A volume to be made usable on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRequest {
    /// The volume.
    pub volume: VolumeRef,
    /// How it is used.
    pub use_as: UseMode,
    /// What attaching gave.
    pub publish_context: BTreeMap<String, String>,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A staged volume to be given to one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The volume.
    pub volume: VolumeRef,
    /// How it is used.
    pub use_as: UseMode,
    /// What attaching gave.
    pub publish_context: BTreeMap<String, String>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The pod.
    pub pod: crate::network::Pod,
    /// Group that shall own the contents.
    pub fs_group: Option<u32>,
}

/// How full a volume is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Bytes in use.
    pub bytes_used: u64,
    /// Size.
    pub bytes_total: u64,
    /// Files in use.
    pub inodes_used: u64,
    /// Files possible.
    pub inodes_total: u64,
    /// What is wrong with the volume, if anything.
    pub abnormal: Option<String>,
}
