//! The file of a plugin on this node.

use crate::engine::{LoadError, MAX_FILE_BYTES};
use davit_api::PluginSource;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// A file that was read, and is the one that was meant.
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// sha256, hexadecimal.
    pub(super) digest: String,
}

impl File {
    pub(super) async fn read(source: &PluginSource) -> Result<Self, LoadError> {
        let source = source.clone();
        let joined = tokio::task::spawn_blocking(move || read(&source)).await;
        joined.map_err(|error| LoadError::Invalid(error.to_string()))?
    }
}

fn read(source: &PluginSource) -> Result<File, LoadError> {
    let path = Path::new(&source.file);
    let unreadable = |cause: String| LoadError::Unreadable {
        path: source.file.clone(),
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
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let digest = hex::encode(Sha256::digest(&bytes));
    match &source.digest {
        Some(wanted) if *wanted != format!("sha256:{digest}") => Err(LoadError::Digest {
            found: digest,
            wanted: wanted.clone(),
        }),
        _ => Ok(File { bytes, digest }),
    }
}
