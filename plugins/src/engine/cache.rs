//! Compiled components on disk, by the digest of the file they were made of.
//!
//! Loading machine code trusts it, so only files that this engine wrote itself are taken: they lie in
//! a directory of its own, carry a digest of their contents, and name the exact engine they fit.

use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use wasmtime::component::Component;

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

    /// The component made of a file, if it is here and whole.
    pub(super) fn load(&self, digest: &str, engine: &wasmtime::Engine) -> Option<Component> {
        let file = fs::read(self.path(digest)).ok()?;
        let (written, compiled) = file.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(compiled)[..] != *written {
            tracing::warn!(digest, "a compiled plugin is damaged; compiling it again");
            return None;
        }
        deserialize(engine, compiled).ok()
    }

    /// Keeps a compiled component. What a crash leaves half written is refused by its digest.
    pub(super) fn store(&self, digest: &str, compiled: &[u8]) -> io::Result<()> {
        let fresh = self.directory.join(format!("{digest}.{}.new", self.engine));
        let mut file = File::create(&fresh)?;
        file.write_all(&Sha256::digest(compiled))?;
        file.write_all(compiled)?;
        drop(file);
        fs::rename(fresh, self.path(digest))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.directory
            .join(format!("{digest}.{}.cwasm", self.engine))
    }
}

/// Loads machine code that [`super::compile`] made, directly or by way of the cache.
pub(super) fn deserialize(
    engine: &wasmtime::Engine,
    compiled: &[u8],
) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts machine code; see the safety note"
    )]
    // SAFETY: the bytes are what `precompile_component` of an engine with these settings returned,
    // in this process, in its compiler child, or earlier into the cache, which only this user can
    // write and whose digest was checked. wasmtime itself refuses code of another version.
    unsafe {
        Component::deserialize(engine, compiled)
    }
}
