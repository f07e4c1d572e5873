//! A database with a log in front: commits are durable once they are in the log.
use std::path::Path;

use sled::Batch;

use super::super::state::State;
use super::super::{Error, Options};
use super::database::{Database, Loaded, behind};
use super::fold::Fold;
use super::format::LOGGED;
use super::log::{Log, Number, Opened};
use super::writes::Writes;

/// An open database and its log.
#[derive(Debug)]
pub(super) struct Logged {
    log: Log,
    fold: Fold,
    dir: std::path::PathBuf,
    /// Commits that are in the log and that the database was not given yet.
    held: Vec<(Number, Writes)>,
    /// The newest commit that it was given.
    given: Number,
}

impl Logged {
    /// Makes a database that holds exactly `state`, durably.
    pub(super) fn create(dir: &Path, state: &State, options: &Options) -> Result<Self, Error> {
        let database = Database::create(dir, state, options)?;
        match Log::create(dir, options.log_bytes) {
            Ok(log) => Self::over(dir, database, log),
            Err(error) => {
                database.abandon();
                Err(error)
            }
        }
    }

    /// Opens a database of some format, lets it catch up with its log, and reads it.
    pub(super) fn open(
        dir: &Path,
        format: u32,
        options: &Options,
    ) -> Result<(Self, Loaded), Error> {
        let opened = Log::open(dir, options.log_bytes)?;
        if opened.is_none() && format >= LOGGED {
            return Err(Error::Corrupt {
                dir: dir.to_owned(),
                detail: "its log is missing".to_owned(),
            });
        }
        let database = Database::open(dir, options)?;
        match Self::catch_up(dir, &database, opened, options) {
            Ok((log, loaded)) => Ok((Self::over(dir, database, log)?, loaded)),
            Err(error) => {
                database.abandon();
                Err(error)
            }
        }
    }

    fn catch_up(
        dir: &Path,
        database: &Database,
        opened: Option<Opened>,
        options: &Options,
    ) -> Result<(Log, Loaded), Error> {
        let (log, unsettled) = match opened {
            Some(opened) => (opened.log, opened.unsettled),
            None => (Log::create(dir, options.log_bytes)?, Vec::new()),
        };
        let mut batch = Batch::default();
        let found = !unsettled.is_empty();
        for payload in unsettled {
            let read = Writes::from_bytes(payload).add_to(&mut batch);
            read.ok_or_else(|| Error::Corrupt {
                dir: dir.to_owned(),
                detail: "a commit in its log makes no sense".to_owned(),
            })?;
        }
        if found {
            database.apply_durably(batch)?;
        }
        Ok((log, database.load()?))
    }

    fn over(dir: &Path, database: Database, log: Log) -> Result<Self, Error> {
        let given = log.number();
        Ok(Self {
            fold: Fold::start(database, given)?,
            log,
            dir: dir.to_owned(),
            held: Vec::new(),
            given,
        })
    }

    /// Makes writes durable, all or none of them. After an error nothing more may be written, and the database is abandoned.
    ///
    /// The log takes no room, but the database does. So without room it is given what is written as late as can be, and never if
    /// it is made anew before.
    pub(super) fn write(&mut self, writes: Writes, has_room: bool) -> Result<(), Error> {
        if let Some(awaited) = self.log.awaits() {
            self.give();
            // What the full file holds is settled while the other one fills.
            self.fold.settle();
            self.fold.wait(awaited)?;
        }
        let settled = self.fold.settled()?;
        let number = self.log.append(writes.bytes(), settled).map_err(|error| {
            Error::io(format!("write the log in {}", self.dir.display()), error)
        })?;
        self.held.push((number, writes));
        if has_room {
            self.give();
        }
        Ok(())
    }

    fn give(&mut self) {
        for (number, writes) in self.held.drain(..) {
            self.fold.write(number, writes);
            self.given = number;
        }
    }

    /// Room that opening a database may need: its log taken in, its last segment written out, its pages listed.
    pub(super) fn opening_bytes(dir: &Path) -> u64 {
        2 * Log::file_bytes(dir) + Database::opening_bytes(dir)
    }

    /// What a database made anew for so many bytes usually takes, beside its log.
    pub(super) fn new_bytes(live: u64) -> u64 {
        Database::new_bytes(live)
    }

    /// What the log of a database takes.
    pub(super) fn log_bytes(options: &Options) -> u64 {
        2 * options.log_bytes
    }

    /// Bytes of the database's file.
    pub(super) fn file_bytes(&self) -> u64 {
        Database::file_bytes(&self.dir)
    }

    /// Closes a database that works. It need not catch up with its log when it is opened again, but for what it was not given.
    pub(super) fn close(mut self) {
        let (database, settled) = self.fold.finish(self.given);
        let noted = settled.map(|settled| self.log.append(&[], settled));
        match noted {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the log did not close cleanly; what was acknowledged is safe")
            }
            Err(error) => {
                tracing::warn!(%error, "the database did not close cleanly; what was acknowledged is safe")
            }
        }
        database.into_iter().for_each(Database::close_in_time);
    }

    /// Leaves a database that failed. It may try once more to write, and wait for ever, so a thread of its own does it.
    pub(super) fn abandon(self) {
        behind(move || {
            let (database, _) = self.fold.finish(self.given);
            database.into_iter().for_each(Database::close);
        });
    }
}
