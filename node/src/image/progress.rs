//! What a pull tells its caller while it runs.

use super::digest::Digest;

/// Receives the steps of a pull or an import.
///
/// Called from the pull's own task and from worker threads; it must return at once. Downloads report at most
/// once for each chunk received.
pub trait Progress: Send + Sync {
    /// One step happened.
    fn event(&self, event: PullEvent<'_>);
}

/// The steps of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullEvent<'a> {
    /// The manifest is known: so many layers, so many compressed bytes.
    Resolved {
        /// Digest of the manifest of this machine's platform.
        manifest: &'a Digest,
        /// How many layers the image has.
        layers: usize,
        /// Sum of the layers' compressed sizes in bytes.
        bytes: u64,
    },
    /// A layer is here already.
    Present {
        /// The layer's blob.
        layer: &'a Digest,
    },
    /// Bytes of a layer arrived.
    Downloading {
        /// The layer's blob.
        layer: &'a Digest,
        /// Bytes received so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer's bytes are complete and verified; it is being unpacked.
    Unpacking {
        /// The layer's blob.
        layer: &'a Digest,
    },
    /// A layer is unpacked and verified.
    Unpacked {
        /// The layer's blob.
        layer: &'a Digest,
    },
}

/// Progress nobody wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: PullEvent<'_>) {}
}
