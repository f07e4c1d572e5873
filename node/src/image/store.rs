//! The images of one node, under one directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use super::auth::Credentials;
use super::digest::Digest;
use super::error::Error;
use super::progress::Progress;
use super::reference::Reference;
use crate::runtime::RootFs;

/// How the store behaves. `Default` is right for ordinary nodes.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host[:port]` of registries to be spoken to over plain http. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// Additional certificate authorities, PEM; the system's are always trusted.
    pub extra_roots: Vec<PathBuf>,
    /// The proxy for registries that are not on loopback: `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// What images may cost.
    pub limits: Limits,
}

/// What one image may cost this machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Compressed bytes of one blob.
    pub blob_bytes: u64,
    /// Unpacked bytes of one layer, holes in sparse files counted.
    pub layer_bytes: u64,
    /// Entries of one layer.
    pub layer_entries: u64,
    /// Layers of one image; overlayfs stacks 500 at most.
    pub layers: usize,
    /// Bytes of the file system that images never use, so that a layer cannot fill the disk.
    pub keep_free_bytes: u64,
    /// Layers downloaded at a time.
    pub parallel_downloads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            blob_bytes: 32 * GIB,
            layer_bytes: 64 * GIB,
            layer_entries: 2_000_000,
            layers: 500,
            keep_free_bytes: GIB,
            parallel_downloads: 4,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            extra_roots: Vec::new(),
            proxy: None,
            limits: Limits::default(),
        }
    }
}

/// An image that is here, whole and verified.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of the configuration: Docker's image id, and `status.images`' identity.
    pub id: Digest,
    /// Names with tag, normalized: `docker.io/library/busybox:1.36`. Empty once all tags moved on.
    pub names: Vec<String>,
    /// Names with digest: `docker.io/library/busybox@sha256:…`; the first is `imageID` of container statuses.
    pub repo_digests: Vec<String>,
    /// Bytes on disk, unpacked; layers shared with other images counted in full.
    pub size: u64,
    /// Environment, entry point, user, working directory and the rest.
    pub config: Arc<ImageConfiguration>,
    /// Chain ids of the layers, bottom first.
    pub(crate) layers: Vec<Digest>,
}

/// Which images garbage collection removes: kubelet's thresholds.
#[derive(Clone, Debug)]
pub struct GarbagePolicy {
    /// Percent of the file system in use from which images are removed.
    pub high_percent: u8,
    /// Percent of the file system in use down to which they are removed.
    pub low_percent: u8,
    /// Images younger than this stay.
    pub minimum_age: std::time::Duration,
    /// Images not used for this long are removed whatever the disk says.
    pub maximum_age: Option<std::time::Duration>,
}

/// What a garbage collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Ids of the images that were removed.
    pub images: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
    /// Bytes that should have been freed but are in use.
    pub missing: u64,
}

/// The images of one node. Cheap to clone; all clones are the same store.
///
/// Guarantees: an image that is listed is complete and verified; a crash at any moment leaves either the old or
/// the new state; a layer is downloaded and unpacked once however many pulls want it.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
}

impl ImageStore {
    /// Opens the store in `dir` (made if missing) and removes what a crash left behind.
    ///
    /// # Errors
    /// The directory cannot be used, or its metadata is damaged or too new.
    pub fn open(dir: &Path, _options: Options) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    fn unfinished(&self, operation: &'static str) -> Error {
        Error::Io {
            operation,
            path: self.dir.clone(),
            source: std::io::ErrorKind::Unsupported.into(),
        }
    }

    /// Fetches an image unless it is here in the same version, trying `credentials` in turn (none: anonymously).
    ///
    /// # Errors
    /// See [`Error`]; nothing half-done is listed. Dropping the future is safe.
    pub async fn pull(
        &self,
        _reference: &Reference,
        _credentials: &[Credentials],
        _progress: &dyn Progress,
    ) -> Result<Image, Error> {
        Err(self.unfinished("pull into"))
    }

    /// Loads all images of an OCI archive or a `docker save` archive, plain or compressed.
    ///
    /// # Errors
    /// The file is not such an archive, or an image in it is broken; images before it are kept.
    pub async fn import(
        &self,
        _path: &Path,
        _progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        Err(self.unfinished("import into"))
    }

    /// All images, sorted by name.
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }

    /// The image of a reference: by digest where it has one, otherwise by tag.
    pub fn find(&self, _reference: &Reference) -> Option<Image> {
        None
    }

    /// The image with this id.
    pub fn find_id(&self, _id: &Digest) -> Option<Image> {
        None
    }

    /// Removes a name, or an image by id (with or without `sha256:`, or a unique prefix of at least 4 digits); the image goes
    /// with its last name.
    ///
    /// # Errors
    /// It is unknown, or containers use it.
    pub async fn remove(&self, _name: &str) -> Result<Collected, Error> {
        Err(self.unfinished("remove from"))
    }

    /// Makes the writable part of a container's root file system. The same key again gives the same, with its
    /// changes: a container that is adopted keeps its root.
    ///
    /// # Errors
    /// The image is gone, the key is no file name, or the disk is full.
    pub fn prepare(&self, _image: &Image, _key: &str) -> Result<RootFs, Error> {
        Err(self.unfinished("prepare a root in"))
    }

    /// Removes what [`Self::prepare`] made; fine if there is nothing.
    ///
    /// # Errors
    /// The kernel refuses to remove it.
    pub async fn discard(&self, _key: &str) -> Result<(), Error> {
        Err(self.unfinished("discard a root in"))
    }

    /// Keys of all prepared root file systems, so that those of vanished containers can be discarded.
    pub fn prepared(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes images by policy, and whatever no image needs.
    ///
    /// # Errors
    /// The kernel refuses to tell the usage or to remove something.
    pub async fn collect_garbage(&self, _policy: &GarbagePolicy) -> Result<Collected, Error> {
        Err(self.unfinished("collect garbage in"))
    }
}

/// Makes `davit.local/hello:latest` from the running binary and the libraries it is linked to, and names it in
/// `store`. The same binary makes the same image; nothing is copied if it is there.
///
/// # Errors
/// The binary or a library cannot be read, or the store cannot be written.
pub async fn build_self(store: &ImageStore) -> Result<Image, Error> {
    Err(store.unfinished("build the hello image in"))
}
