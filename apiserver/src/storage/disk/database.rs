//! One sled database: records in the order of their revisions, in pieces small enough that sled keeps them in its log.
//!
//! sled puts what exceeds a quarter of a segment into files of their own and never syncs those, and it rewrites up to
//! some twenty neighbouring values at once. So a piece is small against a segment.
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sled::{Batch, IVec};

use super::super::digest::Digest;
use super::super::record::{Record, largest_bytes};
use super::super::state::{Dropped, Place, State};
use super::super::{Error, Options, Revision};
use super::guard::fenced;
use super::sync;

/// sled writes and reuses its file in pieces of this size, and holds one or two of them in memory.
const SEGMENT_BYTES: usize = 2 << 20;
/// The largest value given to sled: at most some twenty are written as one message, which must stay under a quarter segment.
const PIECE_BYTES: usize = 16 << 10;
/// How often sled looks for segments worth emptying.
const CLEAN_EVERY_MS: u64 = 2000;
/// Bytes written between two syncs while a database is made.
const COPY_BYTES: usize = 4 << 20;

const FLOOR_KEY: &[u8] = &[0];
const RECORD_TAG: u8 = 1;
const KEY_BYTES: usize = 1 + 8 + 4 + 2;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    db: sled::Db,
    dir: PathBuf,
}

/// Writes that become durable together.
#[derive(Debug, Default)]
pub(super) struct Writes {
    batch: Batch,
    bytes: usize,
}

impl Writes {
    /// Writes a record.
    pub(super) fn put(&mut self, record: &Record) {
        let bytes = record.encode();
        self.bytes += bytes.len();
        for (piece, part) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
            self.batch.insert(&key(record.place, piece), part);
        }
    }

    /// Removes the record of a version.
    pub(super) fn drop_version(&mut self, dropped: &Dropped) {
        let bytes = largest_bytes(dropped.key_bytes, dropped.value_bytes);
        for piece in 0..bytes.div_ceil(PIECE_BYTES) as u16 {
            self.batch.remove(&key(dropped.place, piece));
        }
    }

    /// Sets the oldest revision, with the digest of what lived then.
    pub(super) fn set_floor(&mut self, floor: Revision, digest: Digest) {
        let words = [floor, digest.live, digest.sum].map(u64::to_le_bytes);
        self.batch.insert(FLOOR_KEY, words.concat());
    }
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
        writes.set_floor(state.floor(), state.floor_digest());
        let seeds = state.seeds().map(|(kv, op)| Record::alone(kv, op));
        for record in seeds.chain(state.changes().map(Record::of)) {
            writes.put(&record);
            if writes.bytes >= COPY_BYTES {
                self.write(std::mem::take(&mut writes))?;
            }
        }
        self.write(writes)
    }

    /// Opens a database, or makes an empty one.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(CLEAN_EVERY_MS));
        let db = flatten(dir, fenced(|| config.open()))?;
        let database = Self {
            db,
            dir: dir.to_owned(),
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

    /// Makes writes durable, all or none of them. After an error nothing more may be written, and the database is abandoned.
    pub(super) fn write(&self, writes: Writes) -> Result<(), Error> {
        let before = sync::syncs();
        let written = fenced(|| {
            self.db.apply_batch(writes.batch)?;
            self.db.flush()
        });
        flatten(&self.dir, written)?;
        if sync::syncs() == before {
            return Err(Error::Database {
                detail: "it answered without syncing its file".to_owned(),
            });
        }
        Ok(())
    }

    /// Reads everything back and checks that nothing is missing, old or changed.
    pub(super) fn load(&self) -> Result<State, Error> {
        let corrupt = |detail: String| Error::Corrupt {
            dir: self.dir.clone(),
            detail,
        };
        let loaded = fenced(|| {
            let mut entries = self.db.iter();
            let first = entries
                .next()
                .transpose()
                .map_err(|error| describe(&self.dir, error))?;
            let Some((key, value)) = first else {
                return Err(corrupt("its database is empty".to_owned()));
            };
            let (floor, digest) = read_floor(&key, &value).map_err(corrupt)?;
            let mut loader = Loader::new(floor, digest);
            for entry in entries {
                let (key, value) = entry.map_err(|error| describe(&self.dir, error))?;
                loader.take(&key, &value).map_err(corrupt)?;
            }
            loader.finish().map_err(corrupt)
        });
        loaded.map_err(corrupt)?
    }

    /// Bytes of its file.
    pub(super) fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.join("db")).map_or(0, |metadata| metadata.len())
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

    /// Leaves a database that failed. Closing it may try once more to write, and wait for ever, so a thread of its own does it.
    pub(super) fn abandon(self) {
        let thread = std::thread::Builder::new().name("store-abandon".to_owned());
        if let Err(error) = thread.spawn(move || self.close()) {
            tracing::warn!(%error, "a failed database could not be closed");
        }
    }
}

/// Takes the entries of a database in order and builds the state.
struct Loader {
    state: State,
    expected: Digest,
    /// The record whose pieces are being gathered.
    place: Option<Place>,
    pieces: Vec<u8>,
    next_piece: u16,
    /// Where the previous change stood, and whether it ended its revision.
    previous: Option<(Place, bool)>,
    now: Instant,
}

impl Loader {
    fn new(floor: Revision, expected: Digest) -> Self {
        Self {
            state: State::at(floor),
            expected,
            place: None,
            pieces: Vec::new(),
            next_piece: 0,
            previous: None,
            now: Instant::now(),
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (place, piece) = read_key(key).ok_or("its database has an entry of another kind")?;
        if self.place != Some(place) {
            self.complete()?;
            self.place = Some(place);
        }
        if piece != self.next_piece {
            return Err(format!("a part of revision {} is missing", place.revision));
        }
        self.next_piece += 1;
        self.pieces.extend_from_slice(value);
        Ok(())
    }

    /// Takes in the record whose pieces are all there.
    fn complete(&mut self) -> Result<(), String> {
        let Some(place) = self.place.take() else {
            return Ok(());
        };
        let record = Record::decode(&self.pieces)?;
        self.pieces.clear();
        self.next_piece = 0;
        if record.place != place {
            return Err(format!(
                "revision {} stands in the place of another",
                place.revision
            ));
        }
        match record.kv {
            Some(kv) if place.revision <= self.state.floor() => self.state.seed(kv, place.op),
            _ => self.replay(record),
        }
    }

    fn replay(&mut self, record: Record) -> Result<(), String> {
        let place = record.place;
        let follows = match self.previous {
            None => {
                self.check_floor()?;
                place.op == 0 && place.revision == self.state.floor() + 1
            }
            Some((before, true)) => place.op == 0 && place.revision == before.revision + 1,
            Some((before, false)) => place.revision == before.revision && place.op == before.op + 1,
        };
        if !follows {
            return Err(format!(
                "a change before revision {} is missing",
                place.revision
            ));
        }
        let change = self
            .state
            .change(place, record.last, &record.key, record.kv)?;
        if change.digest != record.digest {
            return Err(format!(
                "a key was lost or came back before revision {}",
                place.revision
            ));
        }
        self.previous = Some((place, record.last));
        self.state.apply(change, self.now);
        Ok(())
    }

    fn check_floor(&self) -> Result<(), String> {
        if self.state.digest() == self.expected {
            return Ok(());
        }
        let (found, expected) = (self.state.keys(), self.expected.live());
        let floor = self.state.floor();
        Err(format!(
            "revision {floor} has {found} keys that are not the {expected} written"
        ))
    }

    fn finish(mut self) -> Result<State, String> {
        self.complete()?;
        match self.previous {
            None => self.check_floor()?,
            Some((place, false)) => {
                return Err(format!("revision {} is there only in part", place.revision));
            }
            Some((_, true)) => {}
        }
        Ok(self.state)
    }
}

fn key(place: Place, piece: u16) -> [u8; KEY_BYTES] {
    let mut key = [RECORD_TAG; KEY_BYTES];
    key[1..9].copy_from_slice(&place.revision.to_be_bytes());
    key[9..13].copy_from_slice(&place.op.to_be_bytes());
    key[13..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn read_key(key: &[u8]) -> Option<(Place, u16)> {
    let (&tag, rest) = key.split_first()?;
    let (revision, rest) = rest.split_first_chunk()?;
    let (op, piece) = rest.split_first_chunk()?;
    let place = Place {
        revision: u64::from_be_bytes(*revision),
        op: u32::from_be_bytes(*op),
    };
    let piece = u16::from_be_bytes(piece.try_into().ok()?);
    (tag == RECORD_TAG).then_some((place, piece))
}

fn read_floor(key: &[u8], value: &IVec) -> Result<(Revision, Digest), String> {
    let words: Vec<u64> = value
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    match words[..] {
        [floor, live, sum] if key == FLOOR_KEY && value.len() == 24 => {
            Ok((floor, Digest { live, sum }))
        }
        _ => Err("its database does not say where its history begins".to_owned()),
    }
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
