//! What the committer needs from whatever makes commits durable.
use std::time::Instant;

use super::Error;
use super::state::{Change, State, Trim};

/// Where commits are kept. Owned and called by the committer thread only.
pub(super) trait Journal: Send {
    /// Whether there is room for writes, or at least for deletions.
    ///
    /// # Errors
    /// [`Error::Full`]; nothing was touched.
    fn admit(&mut self, deletion: bool) -> Result<(), Error>;

    /// Makes all changes and the trim durable, all or nothing.
    fn commit(&mut self, changes: &[Change], trim: Option<&Trim>) -> Result<(), CommitError>;

    /// Starts over with exactly what is in memory, after a failed commit or to shrink. When it is refused, what was there stays.
    fn rebuild(&mut self, state: &State) -> Result<(), CommitError>;

    /// Whether a [`Journal::rebuild`] is worth its time, by the bytes of current and of superseded values.
    fn shrink(&self, values: u64, history: u64) -> Shrink;

    /// When [`Journal::settle`] wants to be called, if it does.
    fn unsettled(&self) -> Option<Instant>;

    /// Does what was put off from the commits.
    fn settle(&mut self);
}

/// What would give room back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shrink {
    /// Nothing that is worth its time.
    Nothing,
    /// A rebuild.
    Rebuild,
    /// A rebuild once the history is forgotten.
    Forget,
}

/// Why a commit or a rebuild did not happen.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was touched; the next one may succeed.
    Refused(Error),
    /// It is unknown what was written; nothing more may be written before a rebuild.
    Failed(Error),
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(error) | CommitError::Failed(error) => error,
        }
    }
}

/// Keeps nothing: the memory backend.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Journal for Nowhere {
    fn admit(&mut self, _: bool) -> Result<(), Error> {
        Ok(())
    }

    fn commit(&mut self, _: &[Change], _: Option<&Trim>) -> Result<(), CommitError> {
        Ok(())
    }

    fn rebuild(&mut self, _: &State) -> Result<(), CommitError> {
        Ok(())
    }

    fn shrink(&self, _: u64, _: u64) -> Shrink {
        Shrink::Nothing
    }

    fn unsettled(&self) -> Option<Instant> {
        None
    }

    fn settle(&mut self) {}
}
