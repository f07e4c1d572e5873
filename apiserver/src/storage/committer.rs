//! The one thread that writes: it takes all waiting transactions, decides them against memory, makes them durable with one sync,
//! publishes them and answers. While it waits for the disk the next group gathers, so grouping needs no timer.
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::engine::Engine;
use super::history::Retention;
use super::journal::{CommitError, Journal, Shrink};
use super::waiting::{First, Waiting};
use super::{Error, Op, Revision, Txn, TxnOutcome};

#[cfg(test)]
mod tests;

/// Transactions made durable by one sync, at most.
const GROUP_TXNS: usize = 256;
/// Bytes of values in one group; the transaction that exceeds them is its last.
const GROUP_BYTES: usize = 4 << 20;
/// How long after a failed rebuild the next one is tried.
const REBUILD_PAUSE: Duration = Duration::from_secs(2);
/// How long after the store could not be made smaller that is tried again.
const SHRINK_PAUSE: Duration = Duration::from_secs(10);

/// What is asked of the committer.
#[derive(Debug)]
pub(super) enum Request {
    /// Carry out a transaction.
    Txn {
        /// The transaction.
        txn: Txn,
        /// Who waits for its outcome.
        answer: oneshot::Sender<Result<TxnOutcome, Error>>,
    },
    /// Forget the history up to a revision.
    Compact {
        /// The revision.
        upto: Revision,
        /// Who waits until it is done.
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Write everything anew.
    Rewrite {
        /// Who waits until it is done.
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// A transaction and who waits for its outcome.
type Waiter = (Txn, oneshot::Sender<Result<TxnOutcome, Error>>);

/// The state of the committer thread.
pub(super) struct Committer {
    engine: Arc<Engine>,
    journal: Box<dyn Journal>,
    keep: Retention,
    requests: Waiting,
    fault: Option<Fault>,
    next_shrink: Instant,
}

/// A commit failed and no rebuild has succeeded since.
struct Fault {
    cause: Error,
    retry: Instant,
}

impl Committer {
    pub(super) fn new(
        engine: Arc<Engine>,
        journal: Box<dyn Journal>,
        keep: Retention,
        requests: Waiting,
    ) -> Self {
        Self {
            engine,
            journal,
            keep,
            requests,
            fault: None,
            next_shrink: Instant::now(),
        }
    }

    /// Serves until nobody can ask any more, and everything asked before was answered.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next() {
            self.serve(first);
            self.shrink();
        }
        self.journal.settle();
    }

    /// Waits for a request, doing what was put off when its time comes.
    fn next(&mut self) -> Option<Request> {
        while let Some(at) = self.due() {
            let wait = at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.catch_up();
                continue;
            }
            match self.requests.first_within(wait) {
                First::Request(request) => return Some(request),
                First::None => {}
                First::Over => return None,
            }
        }
        self.requests.first()
    }

    /// When there is something to do without being asked.
    fn due(&self) -> Option<Instant> {
        let retry = self.fault.as_ref().map(|fault| fault.retry);
        self.journal.unsettled().into_iter().chain(retry).min()
    }

    fn catch_up(&mut self) {
        let now = Instant::now();
        if self.journal.unsettled().is_some_and(|at| at <= now) {
            self.journal.settle();
        }
        if self.fault.as_ref().is_some_and(|fault| fault.retry <= now) {
            // Whether it worked is seen by the next who writes, and in the status.
            let _ = self.recover();
        }
    }

    /// Serves a request and those that wait behind it.
    fn serve(&mut self, first: Request) {
        let mut waiters: Vec<Waiter> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let mut patience = None;
        while let Some(request) = next {
            match request {
                Request::Txn { txn, answer } => {
                    bytes += txn.ops.iter().map(op_bytes).sum::<usize>();
                    waiters.push((txn, answer));
                }
                Request::Compact { upto, answer } => {
                    // Nobody is left to hear of it if the receiver is gone.
                    let _ = answer.send(self.compact(upto));
                }
                Request::Rewrite { answer } => {
                    let _ = answer.send(self.rewrite());
                }
            }
            let full = waiters.len() >= GROUP_TXNS || bytes >= GROUP_BYTES;
            next = if full {
                None
            } else {
                self.requests.next(waiters.len(), &mut patience)
            };
        }
        let admitted = self.admit(waiters);
        if !admitted.is_empty() {
            self.answer(admitted);
        }
    }

    /// Answers those that there is no room for, and gives back the others. Deletions have more room than the rest.
    fn admit(&mut self, waiters: Vec<Waiter>) -> Vec<Waiter> {
        if waiters.is_empty() {
            return waiters;
        }
        let Err(full) = self.journal.admit(false) else {
            return waiters;
        };
        let deletions = self.journal.admit(true);
        let mut admitted = Vec::new();
        for (txn, answer) in waiters {
            match (txn.is_deletion(), &deletions) {
                (true, Ok(())) => admitted.push((txn, answer)),
                // Nobody is left to hear of it if the receiver is gone.
                (true, Err(full)) => drop(answer.send(Err(full.clone()))),
                (false, _) => drop(answer.send(Err(full.clone()))),
            }
        }
        admitted
    }

    fn answer(&mut self, waiters: Vec<Waiter>) {
        let (txns, answers): (Vec<_>, Vec<_>) = waiters.into_iter().unzip();
        match self.commit(&txns) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Decides a group and makes it durable and visible.
    fn commit(&mut self, txns: &[Txn]) -> Result<Vec<TxnOutcome>, Error> {
        let group = self.engine.plan(txns);
        if group.changes.is_empty() {
            return Ok(group.outcomes);
        }
        self.recover()?;
        let trim = self.engine.due_trim(self.keep);
        let written = self.journal.commit(&group.changes, trim.as_ref());
        if let Err(error) = self.check(written) {
            if self.fault.is_none() {
                return Err(error);
            }
            // Nothing is left after a rebuild of what may have been written, so the group can be written once more.
            self.recover().map_err(|_| error)?;
            let written = self.journal.commit(&group.changes, trim.as_ref());
            self.check(written)?;
        }
        Ok(self.engine.publish(group, trim.as_ref()))
    }

    fn compact(&mut self, upto: Revision) -> Result<(), Error> {
        let Some(trim) = self.engine.plan_trim(upto)? else {
            return Ok(());
        };
        self.recover()?;
        self.journal.admit(true)?;
        let written = self.journal.commit(&[], Some(&trim));
        self.check(written)?;
        self.engine.publish(Default::default(), Some(&trim));
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), Error> {
        self.recover()?;
        let written = self.engine.inspect(|state| self.journal.rebuild(state));
        self.check(written)
    }

    /// After a failed commit, tries to write what is in memory to a new database before anything else is written.
    fn recover(&mut self) -> Result<(), Error> {
        let Some(fault) = &mut self.fault else {
            return Ok(());
        };
        if Instant::now() >= fault.retry {
            match self.engine.inspect(|state| self.journal.rebuild(state)) {
                Ok(()) => {
                    tracing::info!("the store takes writes again");
                    self.fault = None;
                    self.engine.set_write_fault(None);
                    return Ok(());
                }
                Err(error) => {
                    let error = Error::from(error);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the store still cannot write"
                    );
                    fault.retry = Instant::now() + REBUILD_PAUSE;
                }
            }
        }
        Err(Error::Unwritable {
            cause: Arc::new(fault.cause.clone()),
        })
    }

    fn check(&mut self, written: Result<(), CommitError>) -> Result<(), Error> {
        match written {
            Ok(()) => Ok(()),
            Err(CommitError::Refused(error)) => Err(error),
            Err(CommitError::Failed(cause)) => {
                tracing::error!(error = &cause as &dyn std::error::Error, "a commit failed");
                let error = Error::Unwritable {
                    cause: Arc::new(cause.clone()),
                };
                self.engine.set_write_fault(Some(error.clone()));
                self.fault = Some(Fault {
                    cause,
                    retry: Instant::now(),
                });
                Err(error)
            }
        }
    }

    /// Gives back disk space when much more is used than lives.
    fn shrink(&mut self) {
        if self.fault.is_some() || Instant::now() < self.next_shrink {
            return;
        }
        let (values, history) = self
            .engine
            .inspect(|state| (state.value_bytes(), state.history_bytes() as u64));
        let forgotten = match self.journal.shrink(values, history) {
            Shrink::Nothing => return,
            Shrink::Rebuild => Ok(()),
            Shrink::Forget => self.compact(self.engine.revision()),
        };
        let shrunk = forgotten.and_then(|()| self.rewrite());
        if let Err(error) = shrunk {
            tracing::warn!(%error, "the store could not be rewritten to shrink");
            self.next_shrink = Instant::now() + SHRINK_PAUSE;
        }
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.bytes.len(),
        Op::Delete { key } | Op::Amend { key, .. } => key.len(),
    }
}
