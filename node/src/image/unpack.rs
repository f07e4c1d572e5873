//! Unpacking layers.
/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The kernel refused an operation.
    #[error("cannot write {entry:?}")]
    Io {
        /// The entry's name in the archive.
        entry: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}
