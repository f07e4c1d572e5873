//! The store: keys and bytes with etcd's semantics, over a journal that decides what durable means.
//!
//! One global revision counts transactions. A transaction compares and writes several keys at once; it is acknowledged only
//! when the journal has made it durable. Every current value and a bounded history live in memory, so reads and watches never
//! wait for a disk and never see half a transaction. One committer thread owns the journal: it takes all waiting transactions,
//! decides them against memory, makes them durable together and only then publishes them.
//!
//! Reads at an old revision and watches from one work as far back as [`Options::history_bytes`] and [`Options::history_age`]
//! reach (or as [`Store::compact`] was told); beyond that they answer [`Error::Compacted`].
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Clock;

mod amend;
mod backup;
mod clock;
mod committer;
#[cfg(test)]
mod contract;
mod digest;
mod disk;
mod engine;
mod error;
mod history;
mod journal;
mod local;
#[cfg(test)]
mod model;
mod plan;
mod record;
mod seal;
mod state;
mod waiting;
mod watch;

pub use amend::Amend;
pub use backup::{BackupSummary, backup, restore};
pub use error::Error;
pub use seal::Keyring;
pub use waiting::Announced;
pub use watch::WatchStream;

/// Counts transactions that changed something. An empty store is at 1, so the first write gets 2, as in etcd; it never goes
/// back, not over restarts either.
pub type Revision = u64;

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 2048;
/// The longest value in bytes.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// The most operations in one transaction.
pub const MAX_OPS: usize = 1024;

/// The bytes of an object, with a hole where its own revision goes.
#[derive(Debug, Clone)]
pub struct Value {
    /// The object as it is written.
    pub bytes: Bytes,
    /// The transaction's revision is inserted here in decimal digits, so that an object can hold its own resourceVersion.
    pub revision_slot: Option<u32>,
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            revision_slot: None,
        }
    }
}

/// One key with its value at some revision. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Arc<str>,
    /// The value as readers see it, with the revision filled in.
    pub value: Bytes,
    /// The revision that made the key (anew, if it was deleted before).
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// How often the key was written since it was made, from 1.
    pub version: u64,
}

/// One write of a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    /// Makes the key or replaces its value.
    Put {
        /// The key.
        key: Arc<str>,
        /// What it shall hold.
        value: Value,
    },
    /// Deletes the key; nothing happens if it is absent.
    Delete {
        /// The key.
        key: Arc<str>,
    },
    /// Replaces the key's value by one made from it at the moment of the commit. The transaction conflicts if the key is
    /// absent or the change is refused.
    Amend {
        /// The key.
        key: Arc<str>,
        /// The change.
        amend: Amend,
    },
}

impl Op {
    /// The key this operation writes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Amend { key, .. } => key,
        }
    }
}

/// Holds when the key's `mod_revision` is the given one; 0 means that the key is absent.
#[derive(Debug, Clone)]
pub struct Compare {
    /// The key.
    pub key: Arc<str>,
    /// The `mod_revision` it must have.
    pub mod_revision: Revision,
}

/// All writes happen if all compares hold and no change is refused, at one revision; otherwise none does. A key may be written once in a transaction.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is then written.
    pub ops: Vec<Op>,
    /// Whether it is a step of deleting something, such as noting that an object is to go. A full store takes those still.
    pub deletion: bool,
}

impl Txn {
    /// Whether it may use the room that is kept for deletions.
    fn is_deletion(&self) -> bool {
        self.deletion || !self.ops.iter().any(|op| matches!(op, Op::Put { .. }))
    }
}

/// How a transaction ended.
#[derive(Debug, Clone)]
pub enum TxnOutcome {
    /// The writes are durable and visible.
    Committed {
        /// Their revision. A transaction that changes nothing takes none and answers the newest.
        revision: Revision,
        /// What each `Op::Put` and `Op::Amend` wrote, in their order.
        puts: Vec<KeyValue>,
    },
    /// A compare did not hold or a change was refused; nothing was written.
    Conflict {
        /// The keys whose compare failed or whose change was refused, with what they hold.
        current: Vec<(Arc<str>, Option<KeyValue>)>,
    },
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was made or replaced.
    Put {
        /// What it holds now.
        kv: KeyValue,
        /// What it held before.
        prev: Option<KeyValue>,
    },
    /// The key was deleted.
    Delete {
        /// The key.
        key: Arc<str>,
        /// What it held.
        prev: KeyValue,
        /// The revision of the deletion.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// A read of all keys with a prefix, in order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// What the keys start with.
    pub prefix: String,
    /// Only keys greater than this one, to go on after a page.
    pub start_after: Option<String>,
    /// The most keys to answer; 0 is all.
    pub limit: usize,
    /// The revision to read at; `None` is the newest.
    pub at: Option<Revision>,
}

/// What a [`Range`] found.
#[derive(Debug, Clone)]
pub struct RangeResponse {
    /// The keys in order.
    pub kvs: Vec<KeyValue>,
    /// The revision at which they were read; a next page asks for this one.
    pub revision: Revision,
    /// Whether `limit` cut the answer short.
    pub more: bool,
    /// How many keys `limit` cut off.
    pub remaining: usize,
}

/// What a store is doing, for health checks and metrics.
#[derive(Debug, Clone)]
pub struct Status {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that can be read or watched from.
    pub oldest: Revision,
    /// How many keys there are.
    pub keys: usize,
    /// When that revision was made; `None` if it was made by a davit that did not note times, or restored from a backup.
    pub oldest_time: Option<SystemTime>,
    /// When the newest revision was made, if that is known.
    pub newest_time: Option<SystemTime>,
    /// Bytes of all current values.
    pub value_bytes: u64,
    /// Bytes of superseded values kept for reads and watches in the past.
    pub history_bytes: u64,
    /// Why no write is possible at the moment, if so.
    pub write_fault: Option<Error>,
}

/// Keys and values with etcd's semantics.
///
/// # Guarantees
/// - Transactions are serializable and take effect in the order of their revisions.
/// - What [`Store::txn`] answered as committed survives a crash of the process and of the machine (as far as the backend is
///   durable at all), is visible to every later read, and was handed to every watcher before the answer.
/// - A watch yields each change after its start exactly once, in order, all changes of a transaction in one batch.
/// - Reads and watches go on when writing has failed.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// The newest committed revision.
    fn revision(&self) -> Revision;

    /// One key, now or at a revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for a revision out of reach.
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, Error>;

    /// All keys with a prefix, now or at a revision, whole or by pages. All pages read at one revision are one snapshot.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn range(&self, range: Range) -> Result<RangeResponse, Error>;

    /// Writes several keys if all compares hold. Durable when it answers. Dropping the future does not take the write back.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::TooLarge`] for a transaction that can never be; [`Error::Full`] before anything was
    /// touched; [`Error::Unwritable`] and [`Error::Closed`] when the outcome is unknown: the writes are not visible now but may
    /// be found after a restart.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error>;

    /// Says that a write is being prepared, until what it returns is dropped. A store that makes many writes durable at
    /// once waits a moment for those that are announced. Writes need not be announced.
    fn announce(&self) -> Announced {
        Announced::default()
    }

    /// Every change of the keys with a prefix after a revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] when changes after `after` are no longer known, [`Error::Future`] when it has not happened yet.
    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error>;

    /// The newest revision that there was at a time, by the clock of the machine that wrote; `None` when history
    /// does not reach back so far. Known over restarts as far as the history is.
    fn revision_at(&self, time: SystemTime) -> Option<Revision>;

    /// Forgets the history before a revision: reads at older ones and watches from them then fail. Nothing happens if it is
    /// forgotten already.
    ///
    /// # Errors
    /// [`Error::Future`] for a revision that does not exist yet, and those of [`Store::txn`].
    async fn compact(&self, upto: Revision) -> Result<(), Error>;

    /// Writes everything on disk anew, as it would be written now: with the newest key, for instance.
    ///
    /// # Errors
    /// [`Error::Full`] without room for a second copy; what was there stays.
    async fn rewrite(&self) -> Result<(), Error>;

    /// How the store is doing.
    fn status(&self) -> Status;
}

/// What a store may use. `Default` suits one machine with some thousand objects.
#[derive(Debug, Clone)]
pub struct Options {
    /// Superseded values kept for reads and watches in the past, in bytes of memory.
    pub history_bytes: usize,
    /// How long they are kept at most.
    pub history_age: Duration,
    /// The page cache of the database, in bytes. Nothing is read from it after the start, so little is enough.
    pub cache_bytes: u64,
    /// The size of each of the two files of the log in front of the database.
    pub log_bytes: u64,
    /// Writes are refused while the file system has less room than this. Half of it is kept in a file that is given back for
    /// deletions and for opening.
    pub reserve_bytes: u64,
    /// Seals confidential values on disk; `None` seals nothing.
    pub seal: Option<Arc<Keyring>>,
    /// Says when revisions are made.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_bytes: 8 << 20,
            history_age: Duration::from_secs(3600),
            cache_bytes: 2 << 20,
            log_bytes: 4 << 20,
            reserve_bytes: 64 << 20,
            seal: None,
            clock: Clock::default(),
        }
    }
}

/// A store that forgets everything when it is dropped.
///
/// # Errors
/// [`Error::Io`] when its thread cannot be started.
pub fn memory(options: &Options) -> Result<Arc<dyn Store>, Error> {
    let store =
        local::LocalStore::start(state::State::empty(), Box::new(journal::Nowhere), options)?;
    Ok(Arc::new(store))
}

/// Opens or makes the store in a directory.
///
/// # Guarantees
/// One process at a time; what is opened is whole and not older than what was acknowledged, or it is refused.
///
/// # Errors
/// [`Error::Locked`], [`Error::TooNew`], [`Error::Stale`], [`Error::Corrupt`], [`Error::Sealed`], [`Error::Io`]; each says what to do.
pub fn open_sled(dir: &Path, options: &Options) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(disk::open(dir, options)?))
}
