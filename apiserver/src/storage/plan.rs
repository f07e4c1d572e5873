//! The rules of a transaction, as a pure function of the state and the transactions that wait.
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Millis;
use super::digest::Digest;
use super::state::{Change, Place, State};
use super::{Event, KeyValue, Op, Revision, Txn, TxnOutcome, Value};

/// What an `Op::Amend` came to, by its place in the transaction.
type Amended = HashMap<usize, Value>;

/// What a group of transactions comes to, before it is durable.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) changes: Vec<Change>,
    /// One for each transaction.
    pub(super) outcomes: Vec<TxnOutcome>,
}

/// Decides transactions one after the other, each seeing the writes of those before it. `now` is the time they
/// are known by, or that of the newest revision if the clock went back.
pub(super) fn plan<'a>(
    state: &State,
    txns: impl IntoIterator<Item = &'a Txn>,
    now: Millis,
) -> Group {
    let mut planner = Planner {
        state,
        written: HashMap::new(),
        revision: state.revision(),
        digest: state.digest(),
        at: now.max(state.time()),
        group: Group::default(),
    };
    for txn in txns {
        planner.decide(txn);
    }
    planner.group
}

/// Decides the transactions of a group.
struct Planner<'s> {
    state: &'s State,
    written: HashMap<Arc<str>, Option<KeyValue>>,
    revision: Revision,
    digest: Digest,
    at: Millis,
    group: Group,
}

impl Planner<'_> {
    fn current(&self, key: &str) -> Option<&KeyValue> {
        match self.written.get(key) {
            Some(written) => written.as_ref(),
            None => self.state.current(key),
        }
    }

    fn decide(&mut self, txn: &Txn) {
        let failed = txn.compares.iter().filter_map(|compare| {
            let current = self.current(&compare.key);
            let found = current.map_or(0, |kv| kv.mod_revision);
            (found != compare.mod_revision).then(|| (compare.key.clone(), current.cloned()))
        });
        let mut current: Vec<_> = failed.collect();
        let amended = self.amend(&txn.ops, &mut current);
        let outcome = if current.is_empty() {
            self.write(&txn.ops, &amended)
        } else {
            TxnOutcome::Conflict { current }
        };
        self.group.outcomes.push(outcome);
    }

    /// Makes the changes that depend on what is there. Those that are refused go to `failed`.
    fn amend(&self, ops: &[Op], failed: &mut Vec<(Arc<str>, Option<KeyValue>)>) -> Amended {
        let mut amended = Amended::new();
        for (place, op) in ops.iter().enumerate() {
            let Op::Amend { key, amend } = op else {
                continue;
            };
            let current = self.current(key);
            match current.and_then(|kv| amend.apply(&kv.value)) {
                Some(value) => drop(amended.insert(place, value)),
                None => failed.push((key.clone(), current.cloned())),
            }
        }
        amended
    }

    fn write(&mut self, ops: &[Op], amended: &Amended) -> TxnOutcome {
        let revision = self.revision + 1;
        let first = self.group.changes.len();
        let mut puts = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let place = Place {
                revision,
                op: (self.group.changes.len() - first) as u32,
            };
            let prev = self.current(op.key()).cloned();
            let value = match op {
                Op::Put { value, .. } => Some(value),
                Op::Amend { .. } => amended.get(&index),
                Op::Delete { .. } => None,
            };
            let event = match (value, prev) {
                (Some(value), prev) => {
                    let kv = put(op.key(), value, prev.as_ref(), revision);
                    puts.push(kv.clone());
                    Event::Put { kv, prev }
                }
                (None, Some(prev)) => Event::Delete {
                    key: op.key().clone(),
                    prev,
                    revision,
                },
                (None, None) => continue,
            };
            self.record(place, event);
        }
        if let Some(last) = self.group.changes[first..].last_mut() {
            last.last = true;
            self.revision = revision;
        }
        TxnOutcome::Committed {
            revision: self.revision,
            puts,
        }
    }

    fn record(&mut self, place: Place, event: Event) {
        match &event {
            Event::Put { kv, prev } => {
                prev.iter().for_each(|prev| self.digest.remove(prev));
                self.digest.add(kv);
                self.written.insert(kv.key.clone(), Some(kv.clone()));
            }
            Event::Delete { key, prev, .. } => {
                self.digest.remove(prev);
                self.written.insert(key.clone(), None);
            }
        }
        self.group.changes.push(Change {
            place,
            last: false,
            event,
            digest: self.digest,
            at: self.at,
        });
    }
}

/// The key after a write at a revision.
fn put(key: &Arc<str>, value: &Value, prev: Option<&KeyValue>, revision: Revision) -> KeyValue {
    KeyValue {
        key: prev.map_or(key, |prev| &prev.key).clone(),
        value: splice(value, revision),
        create_revision: prev.map_or(revision, |prev| prev.create_revision),
        mod_revision: revision,
        version: prev.map_or(1, |prev| prev.version + 1),
    }
}

/// The value with the revision written into its hole. Always copied, so that it keeps no larger buffer alive that it was cut from.
fn splice(value: &Value, revision: Revision) -> Bytes {
    let slot = value
        .revision_slot
        .and_then(|slot| value.bytes.split_at_checked(slot as usize));
    let Some((before, after)) = slot else {
        return Bytes::copy_from_slice(&value.bytes);
    };
    let mut digits = itoa::Buffer::new();
    [before, digits.format(revision).as_bytes(), after]
        .concat()
        .into()
}
