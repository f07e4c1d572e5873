//! The volumes of pods: planned purely, set up in the pod's directory, kept up to date, and torn down.
//!
//! [`plan`] turns a pod and the objects it names into [`Volume`]s; [`Volumes`] makes them real beneath
//! `<pods>/<uid>/volumes/`, laid out as kubelet does. Volumes of drivers ([`Kind::Claim`]) and of images are only
//! named here: the agent gets their directories from the plugin host and the image store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

mod atomic;
mod error;
mod host_path;
pub(crate) mod mounts;
mod ownership;
mod plan;
mod projected;
mod set_up;
#[cfg(test)]
mod tests;

pub use error::{Cause, Error};
pub(crate) use plan::host_directory;
pub use plan::plan;
pub use set_up::Volumes;

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

impl Volume {
    /// True if no container may write it, whatever its `volumeMounts` say.
    pub fn is_read_only(&self) -> bool {
        match &self.kind {
            Kind::Files { .. } | Kind::Image { .. } => true,
            Kind::Claim { read_only, .. } => *read_only,
            Kind::EmptyDir { .. } | Kind::HostPath { .. } => false,
        }
    }
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
        /// They must never be on a disk.
        secret: bool,
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
    /// The owner; root where none is given.
    pub owner: Option<u32>,
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
