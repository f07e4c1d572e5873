//! What can go wrong with keys and certificates.

use std::path::{Path, PathBuf};

/// A failure of the certificate authority. None of them heals by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A key or the CA certificate on disk cannot be used. It is never replaced silently, because
    /// everything issued with it would become invalid.
    #[error("{} is damaged ({what}); put your copy of it back, or {}", path.display(), without(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file of the keys that confidential values are sealed with cannot be used. It is never replaced.
    #[error("{} is damaged ({what}); put back your copy of it, without it sealed values cannot be opened", path.display())]
    DamagedKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A certificate could not be made.
    #[error("cannot issue a certificate for {subject}")]
    Issue {
        /// Whom it was for.
        subject: String,
        /// The reason.
        #[source]
        source: rcgen::Error,
    },
    /// The TLS library refused a certificate or key.
    #[error("cannot set up TLS with the certificate of {subject}")]
    Tls {
        /// Whose certificate.
        subject: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How to go on without a copy of a file. Nothing is to be deleted, and nothing else moved: the directory also holds the keys that
/// sealed values in the store are opened with.
fn without(path: &Path) -> &'static str {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("ca.crt") => {
            "move this one file out of its directory: a new one is made with ca.key, and what was issued stays valid"
        }
        Some("service-account.key") => {
            "move this one file out of its directory: a new key is made, and pods get new tokens"
        }
        _ => {
            "move this file and ca.crt, and nothing else, out of their directory: a new certificate authority is made, and \
             clients and nodes elsewhere need new kubeconfigs"
        }
    }
}
