//! What the committer needs from whatever makes commits durable.
use std::time::Instant;

use super::Error;
use super::state::{Change, State, Trim};

/// Where commits are kept. Owned and called by the committer thread only.
pub(super) trait Journal: Send {
    /// Makes all changes and the trim durable, all or nothing.
    fn commit(&mut self, changes: &[Change], trim: Option<&Trim>) -> Result<(), CommitError>;

    /// Starts over with exactly what is in memory, after a failed commit or to shrink. On an error what was there stays.
    fn rebuild(&mut self, state: &State) -> Result<(), Error>;

    /// Whether it has grown so much over `live_bytes` that a [`Journal::rebuild`] is worth its time.
    fn bloated(&self, live_bytes: u64) -> bool;

    /// When [`Journal::settle`] wants to be called, if it does.
    fn unsettled(&self) -> Option<Instant>;

    /// Does what was put off from the commits.
    fn settle(&mut self);
}

/// Why a commit did not happen.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was touched; the next one may succeed.
    Refused(Error),
    /// It is unknown what was written; nothing more may be written before a rebuild.
    Failed(Error),
}

/// Keeps nothing: the memory backend.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Journal for Nowhere {
    fn commit(&mut self, _: &[Change], _: Option<&Trim>) -> Result<(), CommitError> {
        Ok(())
    }

    fn rebuild(&mut self, _: &State) -> Result<(), Error> {
        Ok(())
    }

    fn bloated(&self, _: u64) -> bool {
        false
    }

    fn unsettled(&self) -> Option<Instant> {
        None
    }

    fn settle(&mut self) {}
}
