//! Why a volume is not there. Kubernetes reports it as a `FailedMount` event.

use std::io;
use std::path::{Path, PathBuf};

use crate::downward::DownwardError;

/// A volume of a pod cannot be planned, set up or torn down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be given to the pod. Whether a retry helps depends on the cause.
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    SetUp {
        /// `spec.volumes[].name`.
        volume: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The volumes of a pod cannot all be taken back. A retry helps when nothing uses them any more.
    #[error("cannot take back the volumes of pod {pod_uid}")]
    TearDown {
        /// The pod.
        pod_uid: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

/// What is wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A required object does not exist. A retry helps when it appears.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object.
        name: String,
    },
    /// An item names a key that the object does not have. A retry helps when it appears.
    #[error("references non-existent {kind} key: {key}")]
    Key {
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// The volume's spec cannot be honoured. A retry does not help.
    #[error("{0}")]
    Spec(String),
    /// A field or resource of the pod cannot be told. A retry does not help.
    #[error("cannot tell what {path:?} shall hold")]
    Downward {
        /// The file.
        path: String,
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
    #[error("failed to fetch token")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel refused an operation. A retry helps if its cause is gone.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A worker thread ended without a result. A retry may help.
    #[error("the worker that was to do it ended without a result")]
    Worker,
}

impl Cause {
    /// Wraps an I/O error with what was tried; made for `map_err`.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
