//! Unpacking one layer into a directory that overlayfs can stack.
//!
//! Two steps. [`unpack`] needs only the layer, so layers unpack side by side while others still download; [`adopt`] then
//! gives directories that the layer only implies the owner and mode they have below, and completes hard links
//! to files of lower layers. Rules for names, whiteouts and replaced entries are those of the OCI image
//! specification ("Image Layer Filesystem Changeset") and of Docker where that is silent.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::tar::{Archive, TarError};
use layer::Writer;
use stream::Hashed;

mod adopt;
mod layer;
mod stream;
#[cfg(test)]
mod tests;
mod whiteout;

pub(super) use adopt::adopt;
pub(super) use stream::decompress;

/// Why a layer cannot be unpacked. Only [`UnpackError::Io`] may go away by itself.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is broken.
    #[error("its archive is broken")]
    Archive(#[source] TarError),
    /// A name leads out of the layer.
    #[error("entry {entry:?} leads out of the image's root")]
    Escape {
        /// The entry's name.
        entry: String,
    },
    /// A hard or symbolic link that cannot be.
    #[error("entry {entry:?} links to {target:?}: {reason}")]
    Link {
        /// The entry's name.
        entry: String,
        /// Where it points.
        target: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A whiteout that marks nothing.
    #[error("entry {entry:?} is no valid whiteout")]
    Whiteout {
        /// The entry's name.
        entry: String,
    },
    /// The layer is larger than allowed.
    #[error("it unpacks to more than {limit} bytes, the limit or the free space of this node")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The layer has more entries than allowed.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The unpacked content is not what the image's configuration promises.
    #[error("its content is {actual}, but the image's configuration promises {expected}")]
    DiffId {
        /// The promised digest.
        expected: Digest,
        /// The digest of the archive.
        actual: Digest,
    },
    /// The kernel refused an operation.
    #[error("cannot {operation} {entry:?}")]
    Io {
        /// The verb.
        operation: &'static str,
        /// The entry's name.
        entry: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a layer may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Unpacked bytes, with holes; also the length of the archive itself.
    pub(super) bytes: u64,
    /// Entries.
    pub(super) entries: u64,
}

/// A layer that is written but may still lack what only lower layers know.
#[derive(Clone, Debug, Default)]
pub(super) struct Unpacked {
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// Entries in the archive.
    pub(super) entries: u64,
    /// Directories without an entry of their own, shortest first; the empty path is the root.
    pub(super) implied: Vec<PathBuf>,
    /// Hard links whose target is not in this layer: name and target, both clean.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks a plain, gzip or zstd layer into the empty directory `dir`, and checks it against `diff_id`.
///
/// Blocks; to be called on a thread that may. What is in `dir` after an error is to be thrown away.
///
/// # Errors
/// See [`UnpackError`].
pub(super) fn unpack(
    compressed: impl Read,
    dir: &Path,
    diff_id: &Digest,
    budget: Budget,
) -> Result<Unpacked, UnpackError> {
    let broken = |error| UnpackError::Archive(TarError::Read(error));
    let plain = decompress(BufReader::with_capacity(1 << 16, compressed)).map_err(broken)?;
    let hashed = Hashed::new(plain, diff_id.algorithm(), archive_limit(budget));
    let mut archive = Archive::new(hashed);
    let mut writer = Writer::open(dir, budget)?;
    while let Some(entry) = archive.next_entry().map_err(UnpackError::Archive)? {
        writer.apply(&entry, &mut archive)?;
    }
    let mut hashed = archive.into_inner();
    hashed.drain().map_err(broken)?;
    let actual = hashed.finish();
    if actual != *diff_id {
        return Err(UnpackError::DiffId {
            expected: diff_id.clone(),
            actual,
        });
    }
    writer.finish()
}

/// Headers and padding may triple an archive of tiny files.
fn archive_limit(budget: Budget) -> u64 {
    budget
        .bytes
        .saturating_add(budget.entries.saturating_mul(4096))
        .saturating_add(1 << 20)
}

/// A name for messages: no control characters, not endless.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    shown(path.as_os_str().as_bytes())
}
