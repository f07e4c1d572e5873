//! The thread that takes commits from the log into the database, behind the backs of those who commit.
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sled::Batch;

use super::super::Error;
use super::database::Database;
use super::log::Number;
use super::writes::Writes;

/// Commits that are given to the database as one.
const TOGETHER: usize = 64;
/// A database that does nothing for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Job {
    Write(Number, Writes),
    /// Make durable what was written.
    Settle,
}

/// The thread and how far it has come.
#[derive(Debug)]
pub(super) struct Fold {
    jobs: Option<Sender<Job>>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    reached: Mutex<Reached>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Reached {
    /// The newest commit that the database holds durably.
    settled: Number,
    /// How often it took something.
    taken: u64,
    /// Why there will be no further progress.
    failed: Option<Error>,
    /// Nobody waits for the database.
    left: bool,
    /// The database, once the thread is done with it.
    back: Option<Database>,
}

impl Progress {
    /// A database that nobody waits for is closed here: dropped as the result of a thread, a panic of it would end the process.
    fn give_back(&self, database: Database) {
        let mut reached = self.reached.lock();
        if !reached.left {
            reached.back = Some(database);
            return;
        }
        drop(reached);
        database.close();
    }
}

impl Fold {
    /// Starts over a database that holds all commits up to a number durably.
    pub(super) fn start(database: Database, settled: Number) -> Result<Self, Error> {
        let (jobs, receiver) = channel();
        let progress = Arc::new(Progress::default());
        progress.reached.lock().settled = settled;
        let theirs = Arc::clone(&progress);
        let thread = std::thread::Builder::new()
            .name("store-fold".to_owned())
            .spawn(move || {
                if let Err(error) = fold(&database, settled, &receiver, &theirs) {
                    theirs.reached.lock().failed = Some(error);
                    theirs.changed.notify_all();
                }
                theirs.give_back(database);
            })
            .map_err(|error| Error::io("start a thread of the store", error))?;
        Ok(Self {
            jobs: Some(jobs),
            progress,
            thread: Some(thread),
        })
    }

    /// Takes over a commit that is in the log.
    pub(super) fn write(&self, number: Number, writes: Writes) {
        self.send(Job::Write(number, writes));
    }

    /// Begins to make durable what was taken over so far.
    pub(super) fn settle(&self) {
        self.send(Job::Settle);
    }

    /// A thread that failed takes nothing; that it did is seen by the next who asks how far it has come.
    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// The newest commit that the database holds durably.
    ///
    /// # Errors
    /// The database failed; it will take nothing more.
    pub(super) fn settled(&self) -> Result<Number, Error> {
        let reached = self.progress.reached.lock();
        reached.failed.clone().map_or(Ok(reached.settled), Err)
    }

    /// Waits until the database holds a commit durably.
    ///
    /// # Errors
    /// The database failed, or has done nothing for so long that it never will: sled may wait for ever after its disk has failed.
    pub(super) fn wait(&self, number: Number) -> Result<(), Error> {
        let mut reached = self.progress.reached.lock();
        loop {
            if let Some(error) = &reached.failed {
                return Err(error.clone());
            }
            if reached.settled >= number {
                return Ok(());
            }
            let taken = reached.taken;
            let waited = self.progress.changed.wait_for(&mut reached, PATIENCE);
            if waited.timed_out() && reached.taken == taken {
                let detail = "it takes nothing any more".to_owned();
                return Err(Error::Database { detail });
            }
        }
    }

    /// Gives the database back once it holds all commits up to a number durably, or has failed. One that hangs is left to itself.
    pub(super) fn finish(mut self, newest: Number) -> (Option<Database>, Result<Number, Error>) {
        self.settle();
        let waited = self.wait(newest);
        self.jobs = None;
        let hangs = waited.is_err() && self.settled().is_ok();
        if let Some(thread) = self.thread.take().filter(|_| !hangs) {
            // A panic of the thread was already reported by the panic hook.
            let _ = thread.join();
        }
        let mut reached = self.progress.reached.lock();
        reached.left = true;
        let database = reached.back.take();
        drop(reached);
        (database, waited.and_then(|()| self.settled()))
    }
}

fn fold(
    database: &Database,
    mut newest: Number,
    jobs: &Receiver<Job>,
    progress: &Progress,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    while let Ok(first) = jobs.recv() {
        let mut settles = false;
        for job in std::iter::once(first).chain(jobs.try_iter().take(TOGETHER)) {
            match job {
                Job::Write(number, writes) => {
                    writes.add_to(&mut batch).ok_or_else(|| Error::Database {
                        detail: format!("commit {number} cannot be read"),
                    })?;
                    newest = number;
                }
                Job::Settle => settles = true,
            }
        }
        database.apply(mem::take(&mut batch))?;
        progress.reached.lock().taken += 1;
        if settles {
            database.flush()?;
            progress.reached.lock().settled = newest;
            progress.changed.notify_all();
        }
    }
    Ok(())
}
