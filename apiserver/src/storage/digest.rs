//! A running digest of which keys live at which revision. It is written with every change, so that reading a database back
//! shows a key that was lost or came back, whatever the database itself believes.
use super::KeyValue;

/// The number of live keys and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) live: u64,
    pub(super) sum: u64,
}

impl Digest {
    /// A key began to live in this version.
    pub(super) fn add(&mut self, kv: &KeyValue) {
        self.live += 1;
        self.sum = self.sum.wrapping_add(hash(kv));
    }

    /// A key lives no longer in this version.
    pub(super) fn remove(&mut self, kv: &KeyValue) {
        self.live -= 1;
        self.sum = self.sum.wrapping_sub(hash(kv));
    }

    /// How many keys live.
    pub(super) fn live(&self) -> usize {
        self.live as usize
    }
}

/// FNV-1a over key and revision, with its bits mixed once more because the hashes are summed.
fn hash(kv: &KeyValue) -> u64 {
    let bytes = kv
        .key
        .as_bytes()
        .iter()
        .copied()
        .chain(kv.mod_revision.to_le_bytes());
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
