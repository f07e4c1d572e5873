//! What can go wrong with keys and certificates.

use std::path::PathBuf;

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
    #[error("{} is damaged ({what}); restore it from a backup, or remove the directory to start with a new certificate authority", path.display())]
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
