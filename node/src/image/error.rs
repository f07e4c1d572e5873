//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::unpack::UnpackError;

/// An operation on images failed. Each variant says whether a retry may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry wants other credentials. A retry helps only with other credentials.
    #[error(
        "{registry} refuses access to {reference}: the repository does not exist or is private; \
         check the name, or give an imagePullSecret for {registry}"
    )]
    Unauthorized {
        /// The image asked for.
        reference: String,
        /// The registry that refused.
        registry: String,
    },
    /// The registry has no such image. A retry helps once somebody pushed it.
    #[error("{reference} not found: the registry has no such tag or digest")]
    NotFound {
        /// The image asked for.
        reference: String,
    },
    /// The registry answered with an error. A retry helps if `status` is 429 or 5xx.
    #[error("{registry} answered {status} to {operation}: {message}")]
    Registry {
        /// The registry's host.
        registry: String,
        /// What was asked: method and path.
        operation: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said, shortened and without control characters.
        message: String,
    },
    /// No conversation with the registry was possible. A retry may help.
    #[error("cannot reach registry {registry} ({operation})")]
    Unreachable {
        /// The registry's host.
        registry: String,
        /// What was asked.
        operation: String,
        /// The failure of name resolution, connection or TLS.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry stopped sending, or sends too slowly to ever finish. A retry may help.
    #[error("registry {registry} stalled while sending {what}: {detail}")]
    Stalled {
        /// The registry's host.
        registry: String,
        /// What was being fetched.
        what: String,
        /// How slow it was.
        detail: String,
    },
    /// The registry led somewhere it must not. A retry does not help.
    #[error("registry {registry} redirects {what} to {to}: {reason}")]
    Redirect {
        /// The registry's host.
        registry: String,
        /// What was being fetched.
        what: String,
        /// Where it points, without query.
        to: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// Content does not hash to its address. A retry helps if it was damaged on the way.
    #[error("{what} is damaged or forged: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was hashed.
        what: String,
        /// Its address.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// Something is bigger than a limit. A retry helps only with another limit.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Too little space is left. A retry helps once something was removed.
    #[error(
        "{what} needs {needed} bytes, but images may use only {free} more bytes of {}; remove images or files",
        path.display()
    )]
    NoSpace {
        /// What needs the space.
        what: String,
        /// How much.
        needed: u64,
        /// What is left for images.
        free: u64,
        /// The store.
        path: PathBuf,
    },
    /// Another process has the store open. A retry helps when it has ended.
    #[error("{} is in use by another davit process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The manifest or index cannot be used. A retry does not help.
    #[error("the manifest of {reference} is unusable: {reason}")]
    Manifest {
        /// The image asked for.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The index has nothing for this machine. A retry does not help.
    #[error("{reference} has no image for {wanted}; it has {available}")]
    Platform {
        /// The image asked for.
        reference: String,
        /// This machine's platform.
        wanted: String,
        /// What the index offers.
        available: String,
    },
    /// The image's configuration cannot be used. A retry does not help.
    #[error("the configuration of image {image} is unusable: {reason}")]
    Config {
        /// The image's id.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {layer}")]
    Layer {
        /// The layer's digest.
        layer: Digest,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// An archive given for import cannot be used. A retry does not help.
    #[error("{} is not an image archive davit can read: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is not here.
    #[error("no image {name} on this node; pull or import it first")]
    Unknown {
        /// The name or id asked for.
        name: String,
    },
    /// The image cannot be removed yet. A retry helps when the containers are gone.
    #[error("image {name} is used by {}; delete the pods first", users.join(", "))]
    InUse {
        /// The name or id asked for.
        name: String,
        /// Keys of the prepared root file systems.
        users: Vec<String>,
    },
    /// The key of a root file system cannot be a directory name. A retry does not help.
    #[error("{key:?} cannot name a root file system; use letters, digits, '-', '_' and '.'")]
    Key {
        /// The key.
        key: String,
    },
    /// A file of the image store was written by a newer davit. A retry does not help.
    #[error(
        "{} has format version {found}, newer than {known}; use the davit that wrote it",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest this davit knows.
        known: u32,
    },
    /// A file of the image store is not readable as what it is. A retry does not help.
    #[error("{} is damaged ({reason}); move it aside, and images are pulled again; those that were imported are to be imported again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The kernel refused an operation. A retry helps if its cause is gone (a full disk, say).
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
    #[error("the worker that was to {operation} ended without a result")]
    Worker {
        /// The verb.
        operation: &'static str,
    },
}

impl Error {
    /// Wraps an I/O error with what was tried; made for `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Kubernetes' reason on a waiting container: `RegistryUnavailable` or `ErrImagePull`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => "RegistryUnavailable",
            Self::Registry { status: 500.., .. } => "RegistryUnavailable",
            Self::DigestMismatch { .. } => "ErrImagePull",
            _ => "ErrImagePull",
        }
    }
}
