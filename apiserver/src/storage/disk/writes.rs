//! The writes of one commit, as bytes: for the log, and for the database that takes them from there.
use bytes::{Buf as _, BufMut as _};
use sled::Batch;

use super::super::clock::Millis;
use super::super::digest::Digest;
use super::super::record::{Record, largest_bytes};
use super::super::state::Dropped;
use super::super::{Error, Keyring, Revision};
use super::layout::{self, PIECE_BYTES};

/// Stands for the length of a value that is removed.
const REMOVED: u32 = u32::MAX;

/// Writes that become durable together: the length of a key and of its value, then both, for each.
#[derive(Debug, Default)]
pub(super) struct Writes(Vec<u8>);

impl Writes {
    /// Reads what was written to a log.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes a record.
    pub(super) fn put(&mut self, record: &Record, seal: Option<&Keyring>) -> Result<(), Error> {
        let bytes = record.encode(seal)?;
        for (piece, part) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
            self.insert(&layout::key(record.place, piece), part);
        }
        Ok(())
    }

    /// Removes the record of a version.
    pub(super) fn drop_version(&mut self, dropped: &Dropped) {
        let bytes = largest_bytes(dropped.key_bytes, dropped.value_bytes);
        for piece in 0..bytes.div_ceil(PIECE_BYTES) as u16 {
            let key = layout::key(dropped.place, piece);
            self.head(&key, REMOVED);
        }
    }

    /// Sets the oldest revision, with the digest of what lived then and when it was made.
    pub(super) fn set_floor(&mut self, floor: Revision, digest: Digest, time: Millis) {
        self.insert(layout::FLOOR_KEY, &layout::floor(floor, digest, time));
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.head(key, value.len() as u32);
        self.0.put_slice(value);
    }

    fn head(&mut self, key: &[u8], length: u32) {
        self.0.put_u8(key.len() as u8);
        self.0.put_u32_le(length);
        self.0.put_slice(key);
    }

    /// Adds these writes to a batch, or says that they are none.
    pub(super) fn add_to(&self, batch: &mut Batch) -> Option<()> {
        self.each(|key, value| match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        })
    }

    /// Shows every key with its value, or without one if it is removed.
    fn each(&self, mut show: impl FnMut(&[u8], Option<&[u8]>)) -> Option<()> {
        let mut rest = &self.0[..];
        while !rest.is_empty() {
            let (key_bytes, length) = (rest.try_get_u8().ok()?, rest.try_get_u32_le().ok()?);
            let (key, after) = rest.split_at_checked(key_bytes.into())?;
            rest = after;
            if length == REMOVED {
                show(key, None);
            } else {
                let (value, after) = rest.split_at_checked(length as usize)?;
                rest = after;
                show(key, Some(value));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_as_they_were_written() {
        let mut writes = Writes::default();
        writes.insert(b"a", b"1");
        writes.insert(b"bb", b"");
        writes.head(b"c", REMOVED);
        let mut read = Vec::new();
        Writes::from_bytes(writes.bytes().to_vec())
            .each(|key, value| read.push((key.to_vec(), value.map(<[u8]>::to_vec))))
            .unwrap();
        let text = |text: &str| text.as_bytes().to_vec();
        let expected = [
            (text("a"), Some(text("1"))),
            (text("bb"), Some(text(""))),
            (text("c"), None),
        ];
        assert_eq!(read, expected);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..64)) {
            let _ = Writes::from_bytes(bytes).each(|_, _| ());
        }
    }
}
