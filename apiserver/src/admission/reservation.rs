//! What a write takes from another object, such as a share of a quota.

use std::fmt;
use std::sync::Arc;

use super::Error;
use crate::storage::{Amend, Op, Value};

type Take = dyn Fn(&[u8]) -> Result<Value, Error> + Send + Sync;

/// A change of another object that happens in the transaction of the write itself, or the write does not happen.
///
/// # Guarantees
/// The change is computed from what the store holds at the moment of the commit, one write after the other, so
/// concurrent writes can never take more than there is.
#[derive(Clone)]
pub struct Reservation {
    key: Arc<str>,
    take: Arc<Take>,
}

impl Reservation {
    /// `take` turns the stored object at `key` into what it is after the write, or says why the write is refused.
    /// It must be quick and depend on nothing else: it runs while no other write can.
    pub fn new(
        key: Arc<str>,
        take: impl Fn(&[u8]) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> Self {
        let take = Arc::new(take);
        Self { key, take }
    }

    /// The key of the other object.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// What becomes of the other object when it holds these bytes.
    ///
    /// # Errors
    /// The refusal of the write.
    pub fn take(&self, stored: &[u8]) -> Result<Value, Error> {
        (self.take)(stored)
    }

    /// Both changes of the same object, one after the other.
    pub(crate) fn and(self, next: Self) -> Self {
        let (first, second) = (self.take, next.take);
        let take = move |stored: &[u8]| second(&first(stored)?.bytes);
        Self::new(self.key, take)
    }

    /// The part of the transaction.
    pub(crate) fn op(&self) -> Op {
        let take = self.take.clone();
        Op::Amend {
            key: self.key.clone(),
            amend: Amend::new(move |stored| take(stored).ok()),
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
