//! One sled database: records in the order of their revisions, in pieces small enough that sled keeps them in its log.
//!
//! sled puts what exceeds a quarter of a segment into files of their own and never syncs those, and it rewrites up to
//! some twenty neighbouring values at once. So a piece is small against a segment.
use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled::Batch;

use super::super::record::{Flaw, Record};
use super::super::state::State;
use super::super::{Error, Keyring, Options};
use super::fold::PATIENCE;
use super::guard::fenced;
use super::load::Loader;
use super::snapshot;
use super::sync;
use super::writes::Writes;

/// sled writes and reuses its file in pieces of this size, and holds one or two of them in memory.
const SEGMENT_BYTES: usize = 2 << 20;
/// How often sled looks for segments worth emptying, and syncs its file, also when nothing happens.
const CLEAN_EVERY_MS: u64 = 5000;
/// How long a database that was just closed may stay locked.
const LET_GO: Duration = Duration::from_secs(10);
/// Bytes written between two syncs while a database is made.
const COPY_BYTES: usize = 4 << 20;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    db: sled::Db,
    dir: PathBuf,
    seal: Option<Arc<Keyring>>,
}

/// What a database holds.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: State,
    /// Values that are to be sealed but are not, or not with the newest key.
    pub(super) unsealed: usize,
}

impl Database {
    /// Makes a database that holds exactly `state`, durably.
    pub(super) fn create(dir: &Path, state: &State, options: &Options) -> Result<Self, Error> {
        sync::create_dir(dir)
            .map_err(|error| Error::io(format!("make {}", dir.display()), error))?;
        let database = Self::open(dir, options)?;
        match database.fill(state) {
            Ok(()) => Ok(database),
            Err(error) => {
                database.abandon();
                Err(error)
            }
        }
    }

    fn fill(&self, state: &State) -> Result<(), Error> {
        let mut writes = Writes::default();
        writes.set_floor(state.floor(), state.floor_digest(), state.floor_time());
        let seeds = state.seeds().map(|(kv, op)| Record::alone(kv, op));
        for record in seeds.chain(state.changes().map(Record::of)) {
            writes.put(&record, self.seal.as_deref())?;
            if writes.bytes().len() >= COPY_BYTES {
                self.write(&std::mem::take(&mut writes))?;
            }
        }
        self.write(&writes)
    }

    /// Opens a database, or makes an empty one.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(CLEAN_EVERY_MS));
        snapshot::tidy(dir)
            .map_err(|error| Error::io(format!("tidy up {}", dir.display()), error))?;
        let db = open_unlocked(dir, &config)?;
        let database = Self {
            db,
            dir: dir.to_owned(),
            seal: options.seal.clone(),
        };
        match database.sync_files() {
            Ok(()) => Ok(database),
            Err(error) => {
                database.abandon();
                Err(error)
            }
        }
    }

    /// Makes the files durable that sled made or renamed while opening.
    fn sync_files(&self) -> Result<(), Error> {
        let files = ["conf", "db", "blobs", "."];
        files
            .into_iter()
            .map(|name| self.dir.join(name))
            .try_for_each(|path| {
                sync::sync_dir(&path)
                    .map_err(|error| Error::io(format!("sync {}", path.display()), error))
            })
    }

    /// Makes writes durable at once.
    fn write(&self, writes: &Writes) -> Result<(), Error> {
        let mut batch = Batch::default();
        writes.add_to(&mut batch).ok_or_else(|| Error::Database {
            detail: "writes that were just made cannot be read".to_owned(),
        })?;
        let before = sync::syncs();
        self.apply_durably(batch)?;
        if sync::syncs() == before {
            return Err(Error::Database {
                detail: "it answered without syncing its file".to_owned(),
            });
        }
        Ok(())
    }

    /// Takes in writes and makes them durable, for those who cannot wait for ever: sled may after its disk has failed.
    pub(super) fn apply_durably(&self, batch: Batch) -> Result<(), Error> {
        let (done, answered) = std::sync::mpsc::channel();
        let db = self.db.clone();
        behind(move || {
            let written = fenced(|| db.apply_batch(batch).and_then(|()| db.flush()));
            // Dropped before the answer: whoever closes the database then has the last handle.
            drop(db);
            let _ = done.send(written);
        });
        match answered.recv_timeout(PATIENCE) {
            Ok(written) => flatten(&self.dir, written).map(drop),
            Err(_) => Err(Error::Database {
                detail: "it takes nothing any more".to_owned(),
            }),
        }
    }

    /// Takes in writes, all or none of them, which are durable after some [`flush`](Self::flush). After an error nothing more may
    /// be written.
    pub(super) fn apply(&self, batch: Batch) -> Result<(), Error> {
        flatten(&self.dir, fenced(|| self.db.apply_batch(batch)))
    }

    /// Makes durable what was taken in.
    pub(super) fn flush(&self) -> Result<(), Error> {
        flatten(&self.dir, fenced(|| self.db.flush())).map(drop)
    }

    /// Reads everything back and checks that nothing is missing, old or changed.
    pub(super) fn load(&self) -> Result<Loaded, Error> {
        let corrupt = |detail: String| Error::Corrupt {
            dir: self.dir.clone(),
            detail,
        };
        let flawed = |flaw: Flaw| flaw.in_store(&self.dir, self.seal.as_deref());
        let loaded = fenced(|| {
            let mut entries = self.db.iter();
            let first = entries
                .next()
                .transpose()
                .map_err(|error| describe(&self.dir, error))?;
            let Some((key, value)) = first else {
                return Err(corrupt("its database is empty".to_owned()));
            };
            let mut loader = Loader::new(&key, &value, self.seal.as_deref()).map_err(corrupt)?;
            for entry in entries {
                let (key, value) = entry.map_err(|error| describe(&self.dir, error))?;
                loader.take(&key, &value).map_err(flawed)?;
            }
            let (state, unsealed) = loader.finish().map_err(flawed)?;
            Ok(Loaded { state, unsealed })
        });
        loaded.map_err(corrupt)?
    }

    /// Bytes that the file of a database in a directory takes on its disk.
    pub(super) fn file_bytes(dir: &Path) -> u64 {
        std::fs::metadata(dir.join("db")).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Room that opening a database may need: sled writes its last segment out and lists its pages.
    pub(super) fn opening_bytes(dir: &Path) -> u64 {
        2 * SEGMENT_BYTES as u64 + Self::file_bytes(dir) / 64
    }

    /// What a database made for so many bytes usually takes.
    pub(super) fn new_bytes(live: u64) -> u64 {
        2 * live + 3 * SEGMENT_BYTES as u64
    }

    /// Closes a database that works.
    pub(super) fn close(self) {
        if let Err(panic) = fenced(move || drop(self.db)) {
            tracing::warn!(
                panic,
                "the database did not close cleanly; what was acknowledged is safe"
            );
        }
    }

    /// Closes a database that works, and leaves it if that takes too long; what was acknowledged is in its log.
    pub(super) fn close_in_time(self) {
        let (done, closed) = std::sync::mpsc::channel();
        behind(move || {
            self.close();
            // Nobody waits any more if it took too long.
            let _ = done.send(());
        });
        if closed.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("the database does not close; what was acknowledged is safe");
        }
    }

    /// Leaves a database that failed. Closing it may try once more to write, and wait for ever, so a thread of its own does it.
    pub(super) fn abandon(self) {
        behind(move || self.close());
    }
}

/// Does in a thread of its own what may wait for ever.
pub(super) fn behind(close: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("store-abandon".to_owned());
    if let Err(error) = thread.spawn(close) {
        tracing::warn!(%error, "a thread of the store could not be started");
    }
}

/// Opens sled's files. Its threads may hold the lock of a database that this process has just closed for a moment longer; no
/// other process can, because the store's own lock is taken before.
fn open_unlocked(dir: &Path, config: &sled::Config) -> Result<sled::Db, Error> {
    let begun = Instant::now();
    loop {
        match fenced(|| config.open()) {
            Ok(Err(sled::Error::Io(error))) if is_locked(&error) && begun.elapsed() < LET_GO => {
                std::thread::sleep(LET_GO / 1000);
            }
            opened => return flatten(dir, opened),
        }
    }
}

/// sled says so in words only.
fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// What sled answered, or its panic, as an error of the store.
fn flatten<T>(dir: &Path, result: Result<sled::Result<T>, String>) -> Result<T, Error> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(describe(dir, error)),
        Err(panic) => Err(broken(dir, panic)),
    }
}

fn describe(dir: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => {
            Error::io(format!("use the database in {}", dir.display()), error)
        }
        sled::Error::Corruption { .. } => broken(dir, "a page has the wrong checksum"),
        other => Error::Database {
            detail: other.to_string(),
        },
    }
}

fn broken(dir: &Path, detail: impl Display) -> Error {
    Error::Corrupt {
        dir: dir.to_owned(),
        detail: format!("its database cannot be read ({detail})"),
    }
}
