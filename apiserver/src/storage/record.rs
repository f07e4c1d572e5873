//! How one change is written as bytes: in the database, in pieces, and in backups.
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, TryGetError};

use super::clock::Millis;
use super::digest::Digest;
use super::state::{Change, Place};
use super::{Error, Event, KeyValue, Keyring, MAX_VALUE_BYTES, seal};

/// Bytes of a record before its key.
const HEADER_BYTES: usize = 4 + 1 + 8 + 4 + 8 + 8 + 16 + 4 + 4;
const FLAG_LAST: u8 = 1;
const FLAG_LIVE: u8 = 2;
const FLAG_PACKED: u8 = 4;
const FLAG_SEALED: u8 = 8;
/// The time follows the header.
const FLAG_TIMED: u8 = 16;
const TIME_BYTES: usize = 8;
/// The longest value there can be, its revision filled in.
const LONGEST_VALUE: usize = MAX_VALUE_BYTES + 20;
/// Values smaller than this are not worth compressing.
const PACK_BYTES: usize = 256;

/// A change as it stands in the journal: what the key is from then on, without what it was before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) place: Place,
    /// Whether it is the last change of its revision.
    pub(super) last: bool,
    pub(super) key: Arc<str>,
    /// `None` when the key was deleted.
    pub(super) kv: Option<KeyValue>,
    /// Of all live keys after this change; of no meaning for a key that is written down alone.
    pub(super) digest: Digest,
    /// When the change was decided; 0 when that is not known, as for a key that is written down alone.
    pub(super) at: Millis,
}

impl Record {
    /// What history keeps of a change.
    pub(super) fn of(change: &Change) -> Self {
        let kv = match &change.event {
            Event::Put { kv, .. } => Some(kv.clone()),
            Event::Delete { .. } => None,
        };
        let Change {
            place,
            last,
            digest,
            at,
            ..
        } = *change;
        Self {
            place,
            last,
            key: change.event.key().clone(),
            kv,
            digest,
            at,
        }
    }

    /// A key alone, its history being forgotten.
    pub(super) fn alone(kv: &KeyValue, op: u32) -> Self {
        let place = Place {
            revision: kv.mod_revision,
            op,
        };
        let digest = Digest::default();
        Self {
            place,
            last: false,
            key: kv.key.clone(),
            kv: Some(kv.clone()),
            digest,
            at: 0,
        }
    }

    /// The record as bytes, a checksum first; its value sealed if the ring covers its key.
    pub(super) fn encode(&self, ring: Option<&Keyring>) -> Result<Vec<u8>, Error> {
        let value = self.kv.as_ref().map(|kv| &kv.value[..]).unwrap_or_default();
        let (create, version) = self
            .kv
            .as_ref()
            .map_or((0, 0), |kv| (kv.create_revision, kv.version));
        let mut flags = if self.last { FLAG_LAST } else { 0 };
        flags |= if self.kv.is_some() { FLAG_LIVE } else { 0 };
        flags |= if self.at > 0 { FLAG_TIMED } else { 0 };
        let covering = ring.filter(|ring| ring.covers(&self.key));
        let changed = match (covering, &self.kv) {
            (Some(ring), Some(kv)) => {
                flags |= FLAG_SEALED;
                Some(ring.seal(kv)?)
            }
            _ => pack(value).inspect(|_| flags |= FLAG_PACKED),
        };
        let stored = changed.as_deref().unwrap_or(value);
        let mut out = Vec::with_capacity(largest_bytes(self.key.len(), stored.len()));
        out.put_u32_le(0);
        out.put_u8(flags);
        out.put_u64_le(self.place.revision);
        out.put_u32_le(self.place.op);
        out.put_u64_le(create);
        out.put_u64_le(version);
        out.put_u64_le(self.digest.live);
        out.put_u64_le(self.digest.sum);
        out.put_u32_le(self.key.len() as u32);
        out.put_u32_le(value.len() as u32);
        if self.at > 0 {
            out.put_u64_le(self.at);
        }
        out.put_slice(self.key.as_bytes());
        out.put_slice(stored);
        let sum = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    /// Reads what [`Record::encode`] wrote, and whether it is sealed as it would be now; anything else is an error in words.
    pub(super) fn decode(bytes: &[u8], ring: Option<&Keyring>) -> Result<(Self, bool), Flaw> {
        let Some((sum, content)) = bytes.split_first_chunk::<4>() else {
            return Err("a record is cut short".to_owned().into());
        };
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return Err("a record has the wrong checksum".to_owned().into());
        }
        let parsed = parse(content).map_err(|_| "a record is cut short".to_owned())?;
        let (mut record, sealed) = parsed.ok_or_else(|| "a record makes no sense".to_owned())?;
        let Some(kv) = record.kv.as_mut() else {
            return Ok((record, true));
        };
        if !sealed {
            let settled = !ring.is_some_and(|ring| ring.covers(&kv.key));
            return Ok((record, settled));
        }
        let ring = ring.ok_or_else(|| Flaw::Sealed("there are no keys".to_owned()))?;
        let (value, settled) = ring.open(kv, &kv.value).map_err(Flaw::Sealed)?;
        kv.value = value.into();
        let settled = settled && ring.covers(&record.key);
        Ok((record, settled))
    }
}

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// They are not what was written.
    Damaged(String),
    /// The value in them is sealed, and its key is not there or does not fit.
    Sealed(String),
}

impl From<String> for Flaw {
    fn from(detail: String) -> Self {
        Self::Damaged(detail)
    }
}

impl Flaw {
    /// The flaw of a record in a store's directory.
    pub(super) fn in_store(self, dir: &Path, ring: Option<&Keyring>) -> Error {
        let dir = dir.to_owned();
        match self {
            Self::Damaged(detail) => Error::Corrupt { dir, detail },
            Self::Sealed(detail) => Error::Sealed {
                dir,
                keys: ring.map_or_else(|| "no key file".into(), |ring| ring.path().to_owned()),
                detail,
            },
        }
    }
}

/// The record, its value still sealed if it says so.
fn parse(mut content: &[u8]) -> Result<Option<(Record, bool)>, TryGetError> {
    let flags = content.try_get_u8()?;
    let place = Place {
        revision: content.try_get_u64_le()?,
        op: content.try_get_u32_le()?,
    };
    let create_revision = content.try_get_u64_le()?;
    let version = content.try_get_u64_le()?;
    let digest = Digest {
        live: content.try_get_u64_le()?,
        sum: content.try_get_u64_le()?,
    };
    let key_bytes = content.try_get_u32_le()? as usize;
    let value_bytes = content.try_get_u32_le()? as usize;
    let at = if flags & FLAG_TIMED == 0 {
        0
    } else {
        content.try_get_u64_le()?
    };
    let Some((key, stored)) = content.split_at_checked(key_bytes) else {
        return Ok(None);
    };
    let Ok(key) = std::str::from_utf8(key) else {
        return Ok(None);
    };
    let sealed = flags & FLAG_SEALED != 0;
    let value = if sealed {
        let whole = stored.len() == value_bytes + seal::OVERHEAD;
        whole.then(|| Bytes::copy_from_slice(stored))
    } else {
        unpack(stored, flags & FLAG_PACKED != 0, value_bytes)
    };
    let Some(value) = value else {
        return Ok(None);
    };
    let key: Arc<str> = key.into();
    let kv = (flags & FLAG_LIVE != 0).then(|| KeyValue {
        key: key.clone(),
        value,
        create_revision,
        mod_revision: place.revision,
        version,
    });
    let record = Record {
        place,
        last: flags & FLAG_LAST != 0,
        key,
        kv,
        digest,
        at,
    };
    Ok(Some((record, sealed)))
}

/// The value compressed, if that makes it clearly smaller. It saves the database memory and disk more than it costs time.
fn pack(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < PACK_BYTES {
        return None;
    }
    let packed = lz4_flex::block::compress(value);
    (packed.len() < value.len() - value.len() / 8).then_some(packed)
}

/// The value of so many bytes that was stored, or nothing if it has another length.
fn unpack(stored: &[u8], packed: bool, bytes: usize) -> Option<Bytes> {
    let value: Bytes = if packed {
        if bytes > LONGEST_VALUE {
            return None;
        }
        lz4_flex::block::decompress(stored, bytes).ok()?.into()
    } else {
        Bytes::copy_from_slice(stored)
    };
    (value.len() == bytes).then_some(value)
}

/// How many bytes a record takes at most.
pub(super) fn largest_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    HEADER_BYTES + TIME_BYTES + key_bytes + value_bytes + seal::OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let place = (1..u64::MAX, any::<u32>());
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(0..4_u8, 200..3000),
        ];
        let value = prop::option::of((bytes, any::<(u64, u64)>()));
        (
            place,
            any::<bool>(),
            ".{1,40}",
            value,
            any::<(u64, u64, u64)>(),
        )
            .prop_map(|((revision, op), last, key, value, (live, sum, at))| {
                let key: Arc<str> = key.into();
                let kv = value.map(|(value, (create_revision, version))| KeyValue {
                    key: key.clone(),
                    value: value.into(),
                    create_revision,
                    mod_revision: revision,
                    version,
                });
                Record {
                    place: Place { revision, op },
                    last,
                    key,
                    kv,
                    digest: Digest { live, sum },
                    at,
                }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in record()) {
            let bytes = record.encode(None).unwrap();
            let value_bytes = record.kv.as_ref().map_or(0, |kv| kv.value.len());
            prop_assert!(bytes.len() <= largest_bytes(record.key.len(), value_bytes));
            prop_assert_eq!(Record::decode(&bytes, None), Ok((record, true)));
        }

        #[test]
        fn a_flipped_bit_or_a_missing_byte_is_noticed(record in record(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = record.encode(None).unwrap();
            let at = at.index(bytes.len());
            prop_assert!(Record::decode(&bytes[..at], None).is_err());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Record::decode(&bytes, None).is_err());
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = crc32fast::hash(&content).to_le_bytes().to_vec();
            bytes.extend(content);
            let _ = Record::decode(&bytes, None);
        }
    }
}
