//! Artifacts on disk, by the digest of the file they were made of.
//!
//! Loading machine code trusts it, so only files that this engine wrote itself are taken: they lie in
//! a directory of its own, carry a digest of their contents, and name the exact engine they fit.

use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

const DIGEST_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    /// Differs between engines that cannot load each other's code.
    engine: String,
}

impl Cache {
    pub(super) fn open(directory: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = format!("{:016x}", hasher.finish());
        Ok(Self {
            directory: directory.to_owned(),
            engine,
        })
    }

    /// The artifact of a file, if it is here and whole.
    pub(super) fn load(&self, digest: &str) -> Option<Vec<u8>> {
        let mut file = fs::read(self.path(digest)).ok()?;
        let (written, artifact) = file.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(artifact)[..] != *written {
            tracing::warn!(digest, "a compiled plugin is damaged; compiling it again");
            return None;
        }
        file.drain(..DIGEST_BYTES);
        Some(file)
    }

    /// Keeps an artifact. What a crash leaves half written is refused by its digest.
    pub(super) fn store(&self, digest: &str, artifact: &[u8]) -> io::Result<()> {
        let own = format!("{digest}.{}.{}.new", self.engine, std::process::id());
        let fresh = self.directory.join(own);
        let mut file = File::create(&fresh)?;
        file.write_all(&Sha256::digest(artifact))?;
        file.write_all(artifact)?;
        drop(file);
        fs::rename(fresh, self.path(digest))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.directory
            .join(format!("{digest}.{}.cwasm", self.engine))
    }
}
