//! The file of a plugin: on this node's disk, or inside this binary.

use crate::bundled::BUNDLED;
use crate::engine::{LoadError, MAX_FILE_BYTES};
use davit_api::PluginSource;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A file that was read, and is the one that was meant.
pub(super) struct File {
    pub(super) bytes: Cow<'static, [u8]>,
    /// sha256, hexadecimal.
    pub(super) digest: String,
}

/// How a file looks from outside: two looks that differ saw two files, or one written over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// `None` inside while it cannot be looked at.
    pub(super) fn of(file: &str) -> Self {
        let metadata = std::fs::metadata(file).ok();
        Self(metadata.map(|metadata| {
            let (device, number) = (metadata.dev(), metadata.ino());
            let (second, nano) = (metadata.mtime(), metadata.mtime_nsec());
            (device, number, metadata.len(), second, nano)
        }))
    }
}

impl File {
    /// Reads the one source that is given.
    pub(super) async fn read(source: &PluginSource) -> Result<Self, LoadError> {
        let wanted = source.digest.as_deref();
        match (&source.file, &source.bundled) {
            (Some(path), None) => {
                let path = path.clone();
                let joined = tokio::task::spawn_blocking(move || read(&path)).await;
                let bytes = joined.map_err(|error| LoadError::Invalid(error.to_string()))??;
                Self::checked(Cow::Owned(bytes), wanted)
            }
            (None, Some(name)) => Self::checked(Cow::Borrowed(inside(name)?), wanted),
            _ => Err(LoadError::Source),
        }
    }

    fn checked(bytes: Cow<'static, [u8]>, wanted: Option<&str>) -> Result<Self, LoadError> {
        let digest = hex::encode(Sha256::digest(&bytes));
        match wanted {
            Some(wanted) if wanted != format!("sha256:{digest}") => Err(LoadError::Digest {
                found: digest,
                wanted: wanted.to_owned(),
            }),
            _ => Ok(Self { bytes, digest }),
        }
    }
}

fn inside(name: &str) -> Result<&'static [u8], LoadError> {
    let found = BUNDLED.iter().find(|bundled| bundled.name == name);
    let unknown = || LoadError::NotBundled {
        name: name.to_owned(),
        known: BUNDLED.map(|bundled| bundled.name).join(", "),
    };
    found.map(|bundled| bundled.file).ok_or_else(unknown)
}

fn read(file: &str) -> Result<Vec<u8>, LoadError> {
    let path = Path::new(file);
    let unreadable = |cause: String| LoadError::Unreadable {
        path: file.to_owned(),
        cause,
    };
    if !path.is_absolute() {
        return Err(unreadable(
            "spec.source.file must be an absolute path".to_owned(),
        ));
    }
    // A pipe or a device could be read for ever.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge(size));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}
