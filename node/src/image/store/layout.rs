//! Where things are in the store's directory, and how files appear in it whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Limits;
use crate::beneath;
use crate::image::digest::Digest;
use crate::image::error::Error;

/// Paths in the store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
}

impl Layout {
    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("images.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs()
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// A layer's directory: its files in `fs/`, its facts in `layer.json`.
    pub(super) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.layers().join(chain_id.hex())
    }

    pub(super) fn layer_files(&self, chain_id: &Digest) -> PathBuf {
        self.layer(chain_id).join("fs")
    }

    pub(super) fn roots(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub(super) fn root(&self, key: &str) -> PathBuf {
        self.roots().join(key)
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// An empty directory, the lower layer of images that have none.
    pub(super) fn empty(&self) -> PathBuf {
        self.dir.join("empty")
    }

    /// The directories overlayfs stacks, top first.
    pub(super) fn lower(&self, chain: &[Digest]) -> Vec<PathBuf> {
        if chain.is_empty() {
            return vec![self.empty()];
        }
        chain.iter().rev().map(|id| self.layer_files(id)).collect()
    }

    /// Makes all directories; only root may look into them, since layers hold set-id programs.
    pub(super) fn make(&self) -> Result<(), Error> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let blobs = self.blobs();
        let blobs = [blobs.join("sha256"), blobs.join("sha512")];
        let rest = [
            self.dir.clone(),
            self.layers(),
            self.roots(),
            self.tmp(),
            self.empty(),
        ];
        for dir in rest.iter().chain(&blobs) {
            builder.create(dir).map_err(Error::io("make", dir))?;
        }
        Ok(())
    }

    /// A new empty directory in `tmp/` that is removed when dropped.
    pub(super) fn scratch(&self) -> Result<Scratch, Error> {
        loop {
            let path = self.tmp().join(next().to_string());
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Scratch { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("make", &path)(error)),
            }
        }
    }

    /// Moves `path` out of sight, to be removed by the returned guard.
    pub(super) fn discard(&self, path: &Path) -> Result<Scratch, Error> {
        let scratch = self.scratch()?;
        match fs::rename(path, scratch.path.join("discarded")) {
            Ok(()) => Ok(scratch),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(scratch),
            Err(error) => Err(Error::io("discard", path)(error)),
        }
    }

    /// Stores a manifest or configuration under its digest.
    pub(super) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        if path.exists() {
            return Ok(());
        }
        self.write(&path, bytes)
    }

    /// Writes a file so that after any crash there is either the old one or the new one, whole.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.tmp().join(format!("{}.new", next()));
        let write = || -> io::Result<()> {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
        };
        write().map_err(Error::io("write", path))
    }

    /// Bytes of the file system that images may still take.
    pub(super) fn free(&self, limits: &Limits) -> Result<u64, Error> {
        let (_, available) = self.usage()?;
        Ok(available.saturating_sub(limits.keep_free_bytes))
    }

    /// Size and available bytes of the store's file system.
    pub(super) fn usage(&self) -> Result<(u64, u64), Error> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(io::Error::from);
        let stat = stat.map_err(Error::io("ask for the free space of", &self.dir))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
    }

    /// Fails if `needed` bytes would use what images must leave free.
    pub(super) fn check_space(
        &self,
        limits: &Limits,
        what: &str,
        needed: u64,
    ) -> Result<(), Error> {
        let free = self.free(limits)?;
        if needed > free {
            let (what, path) = (what.to_owned(), self.dir.clone());
            return Err(Error::NoSpace {
                what,
                needed,
                free,
                path,
            });
        }
        Ok(())
    }
}

/// A number no other file in `tmp/` has.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A directory in `tmp/`. Dropping it removes it, on a thread that may block.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = beneath::remove_tree(&path) {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot remove it; the next start tries again");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_not_in_a_runtime) => remove(),
        }
    }
}
