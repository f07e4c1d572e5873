//! The store in a directory: `lock`, `format` (which database is the current one), `mark` (what it must at least contain) and
//! `sled-<number>/`, a database with a log in front. A directory without a format file is not a store yet: making one can be interrupted anywhere.
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::journal::{CommitError, Journal, Shrink};
use super::local::LocalStore;
use super::record::Record;
use super::state::{Change, State, Trim};
use super::{Error, Keyring, Options};

mod database;
mod fold;
mod format;
mod guard;
mod layout;
mod load;
mod lock;
mod log;
mod logged;
mod mark;
mod room;
mod snapshot;
mod sync;
#[cfg(test)]
mod tests;
mod writes;

use database::Loaded;
use format::Format;
use lock::DirLock;
use logged::Logged;
use mark::Mark;
use room::Room;
use writes::Writes;

/// A file is worth rewriting when it has grown over this many times what lives in it, and some more.
const BLOAT_FACTOR: u64 = 6;
const BLOAT_BYTES: u64 = 256 << 20;
/// Without room for writes it is worth it for less: for so many bytes, and an eighth of the file.
const GAIN_BYTES: u64 = 4 << 20;

/// Opens the store of a directory, or makes an empty one there.
pub(super) fn open(dir: &Path, options: &Options) -> Result<LocalStore, Error> {
    let (lock, format) = enter(dir)?;
    let (journal, state) = match format {
        Some(format) => DiskJournal::open(dir, lock, format, options)?,
        None => {
            let state = State::empty();
            (DiskJournal::create(dir, lock, &state, options)?, state)
        }
    };
    LocalStore::start(state, Box::new(journal), options)
}

/// Makes a store of a state in a directory that has none.
pub(super) fn create(dir: &Path, state: &State, options: &Options) -> Result<(), Error> {
    let (lock, format) = enter(dir)?;
    if format.is_some() {
        return Err(Error::Occupied {
            dir: dir.to_owned(),
        });
    }
    let mut journal = DiskJournal::create(dir, lock, state, options)?;
    journal.settle();
    Ok(())
}

/// Locks a directory and finds out whether it is a store.
fn enter(dir: &Path) -> Result<(DirLock, Option<Format>), Error> {
    let failed = |error| Error::io(format!("use {}", dir.display()), error);
    sync::create_dir(dir).map_err(failed)?;
    let lock = DirLock::take(dir)?;
    if !sync::is_linked(lock.file()).map_err(failed)? {
        let detail = "this build of davit would not sync it; it is not usable".to_owned();
        return Err(Error::Database { detail });
    }
    let format = Format::read(dir)?;
    if format.is_none() && Mark::open(dir)?.is_some_and(|mark| mark.revision() > 0) {
        let detail = "its format file is missing".to_owned();
        return Err(Error::Corrupt {
            dir: dir.to_owned(),
            detail,
        });
    }
    Ok((lock, format))
}

/// The journal in a directory.
#[derive(Debug)]
struct DiskJournal {
    dir: PathBuf,
    options: Options,
    /// Missing only after a failed commit.
    database: Option<Logged>,
    number: u64,
    mark: Mark,
    room: Room,
    /// Bytes of the file and of what lived in it when it was last made by this process.
    made: Option<(u64, u64)>,
    _lock: DirLock,
}

impl DiskJournal {
    fn create(dir: &Path, lock: DirLock, state: &State, options: &Options) -> Result<Self, Error> {
        let number = 1;
        save_keys(options)?;
        // Leftovers of a making that was interrupted; nothing in them was ever acknowledged.
        remove_databases(dir, None)?;
        let database = Logged::create(&database_dir(dir, number), state, options)?;
        let mut mark = Mark::create(dir)?;
        Format::newest(number).write(dir)?;
        note(&mut mark, state.revision());
        let database = Some(database);
        let mut room = Room::of(dir, options.reserve_bytes);
        room.restock();
        Ok(Self {
            dir: dir.to_owned(),
            options: options.clone(),
            database,
            number,
            mark,
            room,
            made: None,
            _lock: lock,
        })
    }

    fn open(
        dir: &Path,
        lock: DirLock,
        format: Format,
        options: &Options,
    ) -> Result<(Self, State), Error> {
        let missing = |what: &str| Error::Corrupt {
            dir: dir.to_owned(),
            detail: format!("its {what} is missing"),
        };
        let mut mark = Mark::open(dir)?.ok_or_else(|| missing("mark of the highest revision"))?;
        let path = database_dir(dir, format.database);
        if !path.join("db").is_file() {
            return Err(missing("database"));
        }
        let mut room = Room::of(dir, options.reserve_bytes);
        let needed = Logged::opening_bytes(&path);
        room.clear(needed)?;
        let opened = Logged::open(&path, format.format, options);
        let (database, Loaded { state, unsealed }) =
            opened.map_err(|error| room.blame(error, needed))?;
        if state.revision() < mark.revision() {
            let (found, expected) = (state.revision(), mark.revision());
            if !accept_loss(dir)? {
                return Err(Error::Stale {
                    dir: dir.to_owned(),
                    found,
                    expected,
                });
            }
            tracing::warn!(
                found,
                expected,
                "the store goes on without its newest revisions, as told"
            );
            mark = Mark::create(dir)?;
        }
        note(&mut mark, state.revision());
        remove_databases(dir, Some(format.database))?;
        save_keys(options)?;
        let (database, number) = (Some(database), format.database);
        if format.format < format::NEWEST {
            Format::newest(number).write(dir)?;
        }
        room.restock();
        let mut journal = Self {
            dir: dir.to_owned(),
            options: options.clone(),
            database,
            number,
            mark,
            room,
            made: None,
            _lock: lock,
        };
        if unsealed > 0 {
            journal.seal_all(&state, unsealed);
        }
        Ok((journal, state))
    }

    /// Seals what an older davit left open, or an older key sealed. Without room for it, it waits for the next start.
    fn seal_all(&mut self, state: &State, unsealed: usize) {
        match self.rebuild(state) {
            Ok(()) => tracing::info!(unsealed, "values were sealed with the newest key"),
            Err(error) => {
                let error = Error::from(error);
                tracing::warn!(%error, unsealed, "values are not yet sealed with the newest key");
            }
        }
    }
}

impl DiskJournal {
    /// Room that a database made anew for so many bytes needs.
    fn copy_bytes(&self, live: u64) -> u64 {
        Logged::new_bytes(live) + Logged::log_bytes(&self.options)
    }
}

impl Journal for DiskJournal {
    fn admit(&mut self, deletion: bool) -> Result<(), Error> {
        self.room.admit(deletion)
    }

    fn commit(&mut self, changes: &[Change], trim: Option<&Trim>) -> Result<(), CommitError> {
        let Some(database) = &mut self.database else {
            return Err(CommitError::Failed(Error::Closed));
        };
        let mut writes = Writes::default();
        for change in changes {
            writes
                .put(&Record::of(change), self.options.seal.as_deref())
                .map_err(CommitError::Refused)?;
        }
        if let Some(trim) = trim {
            trim.dropped
                .iter()
                .for_each(|dropped| writes.drop_version(dropped));
            writes.set_floor(trim.floor, trim.digest, trim.time);
        }
        if let Err(error) = database.write(writes, !self.room.is_short()) {
            self.database.take().into_iter().for_each(Logged::abandon);
            return Err(CommitError::Failed(error));
        }
        if let Some(change) = changes.last() {
            note(&mut self.mark, change.place.revision);
        }
        Ok(())
    }

    fn rebuild(&mut self, state: &State) -> Result<(), CommitError> {
        let live = state.value_bytes() + state.history_bytes() as u64;
        let number = self.number + 1;
        remove_database(&self.dir, number).map_err(CommitError::Refused)?;
        // The old one gives its room back, so this may use what is kept for deletions.
        let needed = self.copy_bytes(live);
        self.room.clear(needed).map_err(CommitError::Refused)?;
        let made = Logged::create(&database_dir(&self.dir, number), state, &self.options);
        let database = made.map_err(|error| {
            // Half of a copy would only take the room that is missing.
            if let Err(error) = remove_database(&self.dir, number) {
                tracing::debug!(%error, "an unfinished database is left behind");
            }
            CommitError::Refused(error)
        })?;
        self.number = number;
        if let Err(error) = Format::newest(number).write(&self.dir) {
            // It is unknown which database a restart would open, so neither may be written to.
            database.abandon();
            self.database.take().into_iter().for_each(Logged::abandon);
            return Err(CommitError::Failed(error));
        }
        self.database
            .replace(database)
            .into_iter()
            .for_each(Logged::close);
        if let Err(error) = remove_databases(&self.dir, Some(number)) {
            tracing::warn!(%error, "an old database of the store is left behind until the next start");
        }
        self.made = self
            .database
            .as_ref()
            .map(|database| (database.file_bytes(), live));
        self.room.restock();
        Ok(())
    }

    fn shrink(&self, values: u64, history: u64) -> Shrink {
        let file = self.database.as_ref().map_or(0, Logged::file_bytes);
        if file > BLOAT_FACTOR * (values + history) + BLOAT_BYTES {
            return Shrink::Rebuild;
        }
        if !self.room.is_short() {
            return Shrink::Nothing;
        }
        let pays = |live: u64| {
            gain(file, self.made, live) >= GAIN_BYTES.max(file / 8)
                && self.room.can_clear(self.copy_bytes(live))
        };
        match (pays(values + history), pays(values)) {
            (true, _) => Shrink::Rebuild,
            (_, true) => Shrink::Forget,
            _ => Shrink::Nothing,
        }
    }

    fn unsettled(&self) -> Option<Instant> {
        self.mark.sync_at()
    }

    fn settle(&mut self) {
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "the mark of the highest revision could not be synced");
        }
        self.room.restock();
    }
}

/// Bytes that a file of so many would lose if it were made anew for `live` bytes. What was learnt when it was last made counts
/// more than what is usual, so that nothing is made anew over and over.
fn gain(file: u64, made: Option<(u64, u64)>, live: u64) -> u64 {
    let learnt = made.map_or(0, |(file, lived)| {
        file.saturating_sub(lived.saturating_sub(live))
    });
    file.saturating_sub(Logged::new_bytes(live).max(learnt))
}

impl Drop for DiskJournal {
    fn drop(&mut self) {
        self.settle();
        self.database.take().into_iter().for_each(Logged::close);
    }
}

/// Notes a revision that is durable. Without the note the database is safe still, only its age is not proven.
fn note(mark: &mut Mark, revision: super::Revision) {
    if let Err(error) = mark.raise(revision) {
        tracing::warn!(%error, revision, "the mark of the highest revision could not be written");
    }
}

/// Keys are on disk before anything is sealed with them.
fn save_keys(options: &Options) -> Result<(), Error> {
    options.seal.as_deref().map_or(Ok(()), Keyring::save)
}

/// Whether somebody put the file there that says to go on with an older database. It counts once.
fn accept_loss(dir: &Path) -> Result<bool, Error> {
    let path = dir.join("accept-loss");
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("remove {}", path.display()), error)),
    }
}

fn database_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("sled-{number}"))
}

/// Removes all databases but one.
fn remove_databases(dir: &Path, keep: Option<u64>) -> Result<(), Error> {
    let failed = |error| Error::io(format!("list {}", dir.display()), error);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("sled-")?.parse().ok());
        match number {
            Some(number) if Some(number) != keep => remove_database(dir, number)?,
            _ => {}
        }
    }
    Ok(())
}

fn remove_database(dir: &Path, number: u64) -> Result<(), Error> {
    let path = database_dir(dir, number);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}
