//! The volumes of pods: planned purely, set up in the pod's directory, kept up to date, and torn down.
//!
//! [`plan`] turns a pod and the objects it names into [`Volume`]s; [`Volumes`] makes them real beneath
//! `<pods>/<uid>/volumes/`, laid out as kubelet does. Volumes of drivers ([`Kind::Claim`]) and of images are only
//! named here: the agent gets their directories from the plugin host and the image store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::downward::DownwardError;
use crate::inputs::PodInputs;

/// One planned volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// `spec.volumes[].name`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The group that may write it (`fsGroup`); none for volumes without ownership management.
    pub fs_group: Option<FsGroup>,
}

/// `securityContext.fsGroup` and its change policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsGroup {
    /// The group id.
    pub gid: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: look at the root only, and leave a volume that fits alone.
    pub on_root_mismatch: bool,
}

/// The kinds of volumes davit makes or asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory that lives as long as the pod.
    EmptyDir {
        /// On a tmpfs of its own.
        memory: bool,
        /// Most bytes in it; a tmpfs enforces it, a directory is evicted for it.
        size_limit: Option<u64>,
    },
    /// Files made of ConfigMaps, Secrets, pod fields and tokens, replaced atomically when they change.
    Files {
        /// The directory of the volume's kind: `kubernetes.io~configmap` and the like.
        plugin: &'static str,
        /// Path inside the volume → file.
        files: BTreeMap<String, File>,
        /// Service account tokens to be requested and written beside them.
        tokens: Vec<TokenFile>,
    },
    /// A path of the host.
    HostPath {
        /// The absolute path.
        path: PathBuf,
        /// What must be there, or is made.
        check: HostPathType,
    },
    /// A PersistentVolumeClaim, exposed by a storage driver.
    Claim {
        /// The claim's name in the pod's namespace.
        claim: String,
        /// The whole volume is read-only.
        read_only: bool,
    },
    /// The root file system of an image, read-only.
    Image {
        /// The image's reference.
        reference: String,
        /// `Always`, `IfNotPresent` or `Never`; none means the reference decides.
        pull_policy: Option<String>,
    },
}

/// One file of a [`Kind::Files`] volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The content.
    pub data: Bytes,
    /// Permission bits.
    pub mode: u32,
}

/// One service account token of a [`Kind::Files`] volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// Path inside the volume.
    pub path: String,
    /// Whom the token is for; empty means the API server.
    pub audience: String,
    /// How long it shall be valid, in seconds.
    pub expiration_seconds: i64,
    /// Permission bits.
    pub mode: u32,
    /// The owner, where all containers run as one user.
    pub owner: Option<u32>,
}

/// `hostPath.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathType {
    /// No check.
    Unset,
    /// A directory, made with mode 0755 if nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made with mode 0644 if nothing is there.
    FileOrCreate,
    /// A file.
    File,
    /// A UNIX socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Why a volume cannot be planned or set up. Kubernetes reports it as a `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A required object does not exist. A retry helps when it appears.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {kind} {name:?} not found")]
    Missing {
        /// The volume.
        volume: String,
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object.
        name: String,
    },
    /// An item names a key that the object does not have. A retry helps when it appears.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?} : references non-existent {kind} key: {key}"
    )]
    Key {
        /// The volume.
        volume: String,
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// The volume's spec cannot be honoured. A retry does not help.
    #[error("volume {volume:?}: {reason}")]
    Spec {
        /// The volume.
        volume: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A field or resource of the pod cannot be told.
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    Downward {
        /// The volume.
        volume: String,
        /// Why not.
        #[source]
        source: DownwardError,
    },
    /// `hostPath.type` does not fit what is there. A retry helps when it does.
    #[error("hostPath type check failed: {} is not {wanted}", path.display())]
    HostPath {
        /// The path.
        path: PathBuf,
        /// What was demanded.
        wanted: &'static str,
    },
    /// No token could be had. A retry may help.
    #[error("failed to fetch token for volume {volume:?}")]
    Token {
        /// The volume.
        volume: String,
        /// What the API server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel refused an operation. A retry helps if its cause is gone.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Asks the API server for a token of the pod's service account, bound to the pod.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token for `audience` (empty: the API server) valid for about `expiration_seconds`.
    ///
    /// # Errors
    /// The API server refuses or is away.
    async fn token(
        &self,
        audience: &str,
        expiration_seconds: i64,
    ) -> Result<Token, Box<dyn std::error::Error + Send + Sync>>;
}

/// A token and its end.
#[derive(Clone)]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// When it ceases to be valid.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// Its root on the host.
    pub path: PathBuf,
    /// When its tokens should be renewed by calling [`Volumes::set_up`] again.
    pub refresh_at: Option<Timestamp>,
}

/// Plans all volumes of a pod.
///
/// # Errors
/// The first volume that cannot be: a missing object that is not optional, an unknown kind, a bad path.
pub fn plan(inputs: &PodInputs<'_>) -> Result<Vec<Volume>, Error> {
    let _ = inputs;
    Ok(Vec::new())
}

/// Makes planned volumes real beneath the pods' directory.
#[derive(Clone, Debug)]
pub struct Volumes {
    pods_dir: PathBuf,
}

impl Volumes {
    /// Volumes live in `<pods_dir>/<uid>/volumes/<plugin>/<name>`.
    pub fn new(pods_dir: &Path) -> Self {
        Self {
            pods_dir: pods_dir.to_owned(),
        }
    }

    /// Makes or updates one volume; calling it again with the same plan changes nothing.
    ///
    /// # Errors
    /// See [`Error`]. [`Kind::Claim`] and [`Kind::Image`] are not made here.
    pub async fn set_up(
        &self,
        _pod_uid: &str,
        volume: &Volume,
        _tokens: &dyn TokenSource,
    ) -> Result<SetUp, Error> {
        Err(Error::Io {
            operation: "set up",
            path: self.pods_dir.join(&volume.name),
            source: std::io::ErrorKind::Unsupported.into(),
        })
    }

    /// Unmounts and removes all volumes of a pod that [`Self::set_up`] made; fine if there are none.
    ///
    /// # Errors
    /// Something cannot be unmounted or removed.
    pub async fn tear_down(&self, _pod_uid: &str) -> Result<(), Error> {
        Ok(())
    }
}
