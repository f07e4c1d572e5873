//! State and watchers behind their locks: what readers and the committer share.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::clock::{self, Millis};
use super::history::Retention;
use super::plan::{Group, plan};
use super::state::{State, Trim};
use super::watch::Watchers;
use super::{
    Error, Event, KeyValue, Range, RangeResponse, Revision, Status, Txn, TxnOutcome, WatchStream,
};
use crate::clock::Clock;

/// What readers and the committer share. Locks are taken in the order of the fields.
#[derive(Debug)]
pub(super) struct Engine {
    watchers: Mutex<Watchers>,
    state: RwLock<State>,
    write_fault: Mutex<Option<Error>>,
    revision: Arc<AtomicU64>,
    clock: Clock,
}

impl Engine {
    pub(super) fn new(state: State, clock: Clock) -> Self {
        Self {
            clock,
            watchers: Mutex::default(),
            revision: Arc::new(AtomicU64::new(state.revision())),
            state: RwLock::new(state),
            write_fault: Mutex::default(),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, Error> {
        self.state.read().get(key, at)
    }

    pub(super) fn range(&self, range: &Range) -> Result<RangeResponse, Error> {
        self.state.read().range(range)
    }

    pub(super) fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        // No group is published between reading the past and being registered for the future.
        let mut watchers = self.watchers.lock();
        let backlog = self.state.read().changes_after(prefix, after)?;
        Ok(watchers.add(prefix, backlog, self.revision.clone()))
    }

    pub(super) fn plan<'a>(&self, txns: impl IntoIterator<Item = &'a Txn>) -> Group {
        let now = clock::millis(self.clock.now());
        plan(&self.state.read(), txns, now)
    }

    /// The newest revision that there was at a time, if that is still known.
    pub(super) fn revision_at(&self, time: Millis) -> Option<Revision> {
        self.state.read().revision_at(time)
    }

    /// What forgetting up to `floor` means; nothing if that is forgotten already.
    pub(super) fn plan_trim(&self, floor: Revision) -> Result<Option<Trim>, Error> {
        let state = self.state.read();
        if floor > state.revision() {
            return Err(Error::Future {
                requested: floor,
                current: state.revision(),
            });
        }
        Ok((floor > state.floor()).then(|| state.plan_trim(floor)))
    }

    /// The trim that is due by now.
    pub(super) fn due_trim(&self, keep: Retention) -> Option<Trim> {
        let state = self.state.read();
        state
            .due(keep, Instant::now())
            .map(|floor| state.plan_trim(floor))
    }

    /// Makes a durable group visible to readers and watchers, and gives back the outcomes.
    pub(super) fn publish(&self, group: Group, trim: Option<&Trim>) -> Vec<TxnOutcome> {
        let now = Instant::now();
        let events: Arc<[Event]> = group
            .changes
            .iter()
            .map(|change| change.event.clone())
            .collect();
        let mut watchers = self.watchers.lock();
        let mut state = self.state.write();
        for change in group.changes {
            state.apply(change, now);
        }
        trim.into_iter().for_each(|trim| state.trim(trim));
        let revision = state.revision();
        drop(state);
        if !events.is_empty() {
            watchers.publish(&events);
        }
        // Last, so that who sees the revision finds its events queued: WatchStream::progress relies on it.
        self.revision.store(revision, Ordering::Release);
        group.outcomes
    }

    /// Reads the whole state at once.
    pub(super) fn inspect<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read())
    }

    pub(super) fn set_write_fault(&self, fault: Option<Error>) {
        *self.write_fault.lock() = fault;
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state.read();
        Status {
            revision: state.revision(),
            oldest: state.floor(),
            oldest_time: clock::time(state.floor_time()),
            newest_time: clock::time(state.time()),
            keys: state.keys(),
            value_bytes: state.value_bytes(),
            history_bytes: state.history_bytes() as u64,
            write_fault: self.write_fault.lock().clone(),
        }
    }
}
