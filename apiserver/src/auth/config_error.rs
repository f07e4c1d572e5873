//! Why a file that configures authentication or authorization cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// A configuration file that cannot be followed. The message says what to change in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file does not say what it has to.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, by field.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn read(path: &Path) -> Result<String, Self> {
        std::fs::read_to_string(path).map_err(|source| Self::Read {
            path: path.to_owned(),
            source,
        })
    }

    pub(super) fn invalid(path: &Path, reason: String) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason,
        }
    }
}
