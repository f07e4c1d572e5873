//! The images of one node, under one directory.
//!
//! `images.json` names the images, `blobs/` holds their manifests and configurations, `layers/<chain id>/` their unpacked
//! layers, `rootfs/<key>/` what containers write, `tmp/` everything unfinished. Things appear by a rename and
//! are named in `images.json` last, so that a crash leaves at worst something nobody names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;

use super::auth::Credentials;
use super::client::Transport;
use super::config::{self, ImageUser};
use super::digest::Digest;
use super::error::Error;
use super::progress::Progress;
use super::reference::Reference;
use crate::runtime::RootFs;
use index::State;
use layers::Flights;
use layout::Layout;

mod garbage;
mod import;
mod index;
mod layers;
mod layout;
mod open;
mod pull;
mod remove;
mod rootfs;
mod selfmade;
#[cfg(test)]
mod tests;

pub use garbage::{Collected, GarbagePolicy};
pub use selfmade::build_self;

/// How the store behaves. `Default` is right for ordinary nodes.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host[:port]` of registries to be spoken to over plain http. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// Additional certificate authorities, PEM; the system's are always trusted.
    pub extra_roots: Vec<PathBuf>,
    /// Where `<host[:port]>/*.crt` hold authorities for one registry, as Docker has them.
    pub certs_dir: PathBuf,
    /// The proxy for registries that are not on loopback, `http://[user:password@]host:port`; without one, the
    /// process's `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count, as for other container tools.
    pub proxy: Option<String>,
    /// Hosts, domains and networks `proxy` is not used for, separated by commas.
    pub no_proxy: Option<String>,
    /// What images may cost.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            extra_roots: Vec::new(),
            certs_dir: PathBuf::from("/etc/docker/certs.d"),
            proxy: None,
            no_proxy: None,
            limits: Limits::default(),
        }
    }
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

impl Image {
    /// What container statuses show as `imageID`: a pullable name with digest, or the id if there is none.
    pub fn status_id(&self) -> String {
        self.repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| self.id.to_string())
    }

    /// The user the image runs as, for `runAsNonRoot`.
    pub fn user(&self) -> ImageUser {
        let config = self.config.config().as_ref();
        let user = config
            .and_then(|config| config.user().as_deref())
            .unwrap_or_default();
        // Checked when the image was stored.
        config::parse_user(user).unwrap_or(ImageUser::Unset)
    }
}

/// The images of one node. Cheap to clone; all clones are the same store.
///
/// Guarantees: an image that is listed is complete and verified; a crash at any moment leaves either the old or
/// the new state; a layer is downloaded and unpacked once however many pulls want it.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    options: Arc<Options>,
    transport: Transport,
    state: Mutex<State>,
    /// Held while `images.json` is written, so that an older state never replaces a newer one.
    saving: Mutex<()>,
    flights: Flights,
    /// Holds the lock on the directory.
    _lock: File,
}

impl ImageStore {
    /// Opens the store in `dir` (made if missing) and removes what a crash left behind. Blocks on the disk.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it open, or its metadata is damaged or too new.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::new(open::open(dir, options)?),
        })
    }

    /// Fetches an image unless it is here in the same version, trying `credentials` in turn (none: anonymously).
    /// `davit.local` is this machine: its images are not fetched, and `davit.local/hello` is made ([`build_self`]).
    ///
    /// # Errors
    /// See [`Error`]; nothing half-done is listed. Dropping the future is safe.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &[Credentials],
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        pull::pull(&self.inner, reference, credentials, progress).await
    }

    /// Loads all images of an OCI archive or a `docker save` archive, plain or compressed. An image without a name gets
    /// `davit.local/<file name>`.
    ///
    /// # Errors
    /// The file is not such an archive, or an image in it is broken; images before it are kept.
    pub async fn import(&self, path: &Path, progress: &dyn Progress) -> Result<Vec<Image>, Error> {
        import::import(&self.inner, path, progress).await
    }

    /// All images, sorted by name.
    pub fn list(&self) -> Vec<Image> {
        let mut images: Vec<_> = self
            .inner
            .state
            .lock()
            .records()
            .map(index::Record::image)
            .collect();
        images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
        images
    }

    /// The image of a reference: by digest where it has one, otherwise by tag.
    pub fn find(&self, reference: &Reference) -> Option<Image> {
        self.inner
            .state
            .lock()
            .find(reference)
            .map(index::Record::image)
    }

    /// The image with this id.
    pub fn find_id(&self, id: &Digest) -> Option<Image> {
        self.inner.state.lock().get(id).map(index::Record::image)
    }

    /// Removes a name, or an image by id (with or without `sha256:`, or a unique prefix of at least 4 digits); the
    /// image goes with its last name.
    ///
    /// # Errors
    /// It is unknown, or containers use it.
    pub async fn remove(&self, name: &str) -> Result<Collected, Error> {
        remove::remove(&self.inner, name).await
    }

    /// Makes the writable part of a container's root file system. The same key again gives the same directories, with
    /// what is in them: a container that is adopted keeps its root.
    ///
    /// # Errors
    /// The image is gone, the key is no file name, or the disk is full.
    pub fn prepare(&self, image: &Image, key: &str) -> Result<RootFs, Error> {
        rootfs::prepare(&self.inner, image, key)
    }

    /// Removes what [`Self::prepare`] made; fine if there is nothing.
    ///
    /// # Errors
    /// The kernel refuses to remove it.
    pub async fn discard(&self, key: &str) -> Result<(), Error> {
        rootfs::discard(&self.inner, key).await
    }

    /// Keys of all prepared root file systems, so that those of vanished containers can be discarded.
    pub fn prepared(&self) -> Vec<String> {
        self.inner.state.lock().prepared.keys().cloned().collect()
    }

    /// Removes images by policy, and whatever no image needs.
    ///
    /// # Errors
    /// The kernel refuses to tell the usage or to remove something.
    pub async fn collect_garbage(&self, policy: &GarbagePolicy) -> Result<Collected, Error> {
        garbage::collect(&self.inner, policy).await
    }
}

/// Runs blocking work on a thread that may block.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panic| Error::Worker { operation })?
}

/// Images by the keys of the roots that use them.
fn users_of<'s>(
    prepared: &'s BTreeMap<String, Digest>,
    image: &'s Digest,
) -> impl Iterator<Item = &'s String> {
    prepared
        .iter()
        .filter(move |(_, used)| *used == image)
        .map(|(key, _)| key)
}

/// Layers that any of these images needs.
fn needed<'s>(records: impl Iterator<Item = &'s index::Record>) -> BTreeSet<&'s Digest> {
    records.flat_map(|record| &record.layers).collect()
}
