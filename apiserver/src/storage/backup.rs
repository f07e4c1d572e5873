//! Logical backup: every key with its revisions, independent of the database beneath. A restored store goes on counting where
//! the backup was made; its history begins there.
use std::io::Read;
use std::path::Path;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::digest::Digest;
use super::record::{Flaw, Record, largest_bytes};
use super::state::State;
use super::{
    Error, KeyValue, Keyring, MAX_KEY_BYTES, MAX_VALUE_BYTES, Options, Range, Revision, Store, disk,
};

const TITLE: &[u8] = b"davit-backup 1\n";

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupSummary {
    /// The revision at which it was made.
    pub revision: Revision,
    /// How many keys it has.
    pub keys: u64,
}

/// Writes all keys as they are at one revision, confidential values sealed with the ring's newest key. Writers and readers of
/// the store are not held up. Restoring needs the ring's file too.
///
/// # Errors
/// [`Error::Io`] when `out` fails, and those of [`Store::range`].
pub async fn backup(
    store: &dyn Store,
    seal: Option<&Keyring>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> Result<BackupSummary, Error> {
    let found = store.range(Range::default()).await?;
    let mut kvs = found.kvs;
    kvs.sort_by_key(|kv| kv.mod_revision);
    let mut digest = Digest::default();
    kvs.iter().for_each(|kv| digest.add(kv));
    let failed = |error| Error::io("write the backup", error);
    out.write_all(&head([found.revision, digest.live, digest.sum]))
        .await
        .map_err(failed)?;
    for (kv, op) in number(&kvs) {
        let record = Record::alone(kv, op).encode(seal)?;
        out.write_all(&(record.len() as u32).to_le_bytes())
            .await
            .map_err(failed)?;
        out.write_all(&record).await.map_err(failed)?;
    }
    out.flush().await.map_err(failed)?;
    Ok(BackupSummary {
        revision: found.revision,
        keys: digest.live,
    })
}

/// Makes a store of a backup in a directory that has none. Nothing is left there when the backup is not whole.
///
/// # Errors
/// [`Error::BadBackup`], [`Error::Occupied`], and those of opening a store.
pub fn restore(
    dir: &Path,
    input: &mut impl Read,
    options: &Options,
) -> Result<BackupSummary, Error> {
    let [revision, keys, sum] = read_head(input)?;
    let mut state = State::at(revision, 0);
    for _ in 0..keys {
        let record = next_record(input, options.seal.as_deref())?;
        let Some(kv) = record.kv else {
            return Err(bad("it has a deleted key"));
        };
        state.seed(kv, record.place.op).map_err(bad)?;
    }
    if state.digest() != (Digest { live: keys, sum }) {
        return Err(bad("its keys are not those that were written"));
    }
    disk::create(dir, &state, options)?;
    Ok(BackupSummary { revision, keys })
}

/// Numbers the keys of each revision, which must come sorted.
fn number(kvs: &[KeyValue]) -> impl Iterator<Item = (&KeyValue, u32)> {
    kvs.chunk_by(|a, b| a.mod_revision == b.mod_revision)
        .flat_map(|of_one| of_one.iter().zip(0..))
}

fn next_record(input: &mut impl Read, seal: Option<&Keyring>) -> Result<Record, Error> {
    let mut length = [0; 4];
    read(input, &mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > largest_bytes(MAX_KEY_BYTES, MAX_VALUE_BYTES + 32) {
        return Err(bad("it has a record that is too long"));
    }
    let mut bytes = vec![0; length];
    read(input, &mut bytes)?;
    let (record, _) = Record::decode(&bytes, seal).map_err(|flaw| match flaw {
        Flaw::Damaged(detail) => bad(detail),
        Flaw::Sealed(detail) => bad(format!(
            "it has sealed values and the key file does not fit: {detail}; put the key file of its store in place"
        )),
    })?;
    Ok(record)
}

/// Title, revision, number of keys, their sum; and a checksum of it all.
fn head(words: [u64; 3]) -> Vec<u8> {
    let mut head = [TITLE, &words.map(u64::to_le_bytes).concat()].concat();
    head.extend(crc32fast::hash(&head).to_le_bytes());
    head
}

fn read_head(input: &mut impl Read) -> Result<[u64; 3], Error> {
    let mut title = [0; TITLE.len()];
    read(input, &mut title)?;
    if title != TITLE {
        return Err(bad("it does not begin like one of davit's"));
    }
    let mut words = [[0; 8]; 3];
    words.iter_mut().try_for_each(|word| read(input, word))?;
    let words = words.map(u64::from_le_bytes);
    let mut sum = [0; 4];
    read(input, &mut sum)?;
    if !head(words).ends_with(&sum) {
        return Err(bad("its head has the wrong checksum"));
    }
    Ok(words)
}

fn read(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => bad("it ends too early"),
        _ => Error::io("read the backup", error),
    })
}

fn bad(detail: impl Into<String>) -> Error {
    Error::BadBackup {
        detail: detail.into(),
    }
}
