//! What can go wrong in the store, and whether trying again helps.
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Revision;

/// An error of the store. Cheap to clone, because one failed commit answers many waiting transactions.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The history needed was compacted away. List anew and watch from there.
    #[error("revision {requested} was compacted; the oldest that can be read is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest one that can be had.
        oldest: Revision,
    },
    /// The revision has not happened yet. Trying again helps once it has.
    #[error("revision {requested} is in the future; the newest is {current}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest one.
        current: Revision,
    },
    /// The transaction can never be carried out. A mistake of the caller.
    #[error("the transaction is not valid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A value is over the limit. A mistake of the caller.
    #[error("the value of {key} has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Whose value.
        key: Arc<str>,
        /// Its bytes.
        size: usize,
        /// The most bytes.
        limit: usize,
    },
    /// Another process has the store open.
    #[error(
        "the store in {} is in use by another davit{}; stop that one, or choose another --data-dir",
        dir.display(), process_hint(*holder)
    )]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The other process, if it said who it is.
        holder: Option<u32>,
    },
    /// The store was written by a newer davit.
    #[error(
        "the store in {} has format {found}, this davit knows formats up to {supported}; use the newer davit that wrote it",
        dir.display()
    )]
    TooNew {
        /// The store's directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// The database is older than what was acknowledged: writes were lost beneath the store.
    #[error(
        "the store in {} ends at revision {found}, but revision {expected} was acknowledged; \
         put a newer copy in its place, or make an empty file named accept-loss there to go on without the revisions in between",
        dir.display()
    )]
    Stale {
        /// The store's directory.
        dir: PathBuf,
        /// The newest revision in the database.
        found: Revision,
        /// The newest revision known to have been acknowledged.
        expected: Revision,
    },
    /// What is on disk cannot be what was written.
    #[error(
        "the store in {} is damaged: {detail}; nothing in it was changed. Put a copy from a backup in its place, or move it aside \
         and keep it, to start without objects, which ends all pods",
        dir.display()
    )]
    Corrupt {
        /// The store's directory.
        dir: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Values on disk are sealed with a key that is not there, or were changed.
    #[error("sealed values in {} cannot be opened with {}: {detail}; put the right key file back", dir.display(), keys.display())]
    Sealed {
        /// The store's directory.
        dir: PathBuf,
        /// The file of the keys.
        keys: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The keys that values are sealed with cannot be read or written.
    #[error("cannot use the keys of sealed values")]
    Keys {
        /// The cause.
        #[source]
        cause: Arc<crate::pki::Error>,
    },
    /// A store is to be made where there is one.
    #[error("there is a store in {} already; choose another --data-dir", dir.display())]
    Occupied {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A backup cannot be read.
    #[error("the backup is not usable: {detail}")]
    BadBackup {
        /// What was found.
        detail: String,
    },
    /// The file system is nearly full; nothing was touched. Trying again helps once there is room.
    #[error("no room for the store in {}: {free} bytes are free, {needed} are needed; free some on its file system", dir.display())]
    Full {
        /// The store's directory.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must be.
        needed: u64,
    },
    /// The operating system refused.
    #[error("cannot {operation}")]
    Io {
        /// What was tried, with its object.
        operation: String,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database gave up in the middle of something.
    #[error("the database failed: {detail}")]
    Database {
        /// Its own words.
        detail: String,
    },
    /// An earlier commit failed, so nothing can be written until the store has made itself a new database. It tries by itself,
    /// so trying again helps once the cause is gone.
    #[error("the store takes no writes since a commit failed; free or repair its disk")]
    Unwritable {
        /// What failed.
        #[source]
        cause: Arc<Error>,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// This watcher took its events too slowly. List anew and watch from there.
    #[error("the watch fell behind and was ended")]
    Lagged,
}

impl Error {
    pub(crate) fn keys(cause: crate::pki::Error) -> Self {
        Self::Keys {
            cause: Arc::new(cause),
        }
    }

    /// An error of the operating system during an operation ("write the mark of …").
    pub(crate) fn io(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            operation: operation.into(),
            source: Arc::new(source),
        }
    }
}

fn process_hint(holder: Option<u32>) -> String {
    holder
        .map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}
