//! The keys in memory with all their versions that are still known.
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::clock::{self, Millis};
use super::digest::Digest;
use super::history::{History, Retention};
use super::{Error, Event, KeyValue, Range, RangeResponse, Revision};

/// Where a change stands: its revision, and its place among the changes of that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) revision: Revision,
    pub(super) op: u32,
}

/// One change as history and journal keep it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) place: Place,
    /// Whether it is the last change of its revision.
    pub(super) last: bool,
    pub(super) event: Event,
    /// Of all live keys, after this change.
    pub(super) digest: Digest,
    /// When it was decided; 0 if that is not known. Never goes back.
    pub(super) at: Millis,
}

/// What forgetting the history up to a revision comes to.
#[derive(Debug)]
pub(super) struct Trim {
    /// The new oldest revision.
    pub(super) floor: Revision,
    /// Of all keys that live at the floor.
    pub(super) digest: Digest,
    /// When the floor was the newest revision; 0 if that is not known.
    pub(super) time: Millis,
    /// The versions that nothing can ask for any more.
    pub(super) dropped: Vec<Dropped>,
}

/// A version that is forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) place: Place,
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
}

/// A version of a key; a deletion is one too.
#[derive(Debug, Clone)]
struct Version {
    kv: KeyValue,
    op: u32,
    live: bool,
}

impl Version {
    fn alive(&self) -> Option<&KeyValue> {
        self.live.then_some(&self.kv)
    }
}

/// The versions of one key, oldest first, never empty.
type Chain = SmallVec<[Version; 1]>;

/// All that is known at the newest revision and back to the floor.
#[derive(Debug)]
pub(super) struct State {
    chains: BTreeMap<Arc<str>, Chain>,
    history: History,
    digest: Digest,
    floor_digest: Digest,
    revision: Revision,
    floor: Revision,
    /// When the newest revision and the floor were made; 0 if that is not known.
    time: Millis,
    floor_time: Millis,
    value_bytes: u64,
}

impl State {
    /// A new store.
    pub(super) fn empty() -> Self {
        Self::at(1, clock::millis(std::time::SystemTime::now()))
    }

    /// A store without keys whose history begins at `floor`, which was made at a time (0: not known).
    pub(super) fn at(floor: Revision, time: Millis) -> Self {
        Self {
            chains: BTreeMap::new(),
            history: History::default(),
            digest: Digest::default(),
            floor_digest: Digest::default(),
            revision: floor,
            floor,
            time,
            floor_time: time,
            value_bytes: 0,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    /// When the newest revision was made; 0 if that is not known.
    pub(super) fn time(&self) -> Millis {
        self.time
    }

    /// When the floor was made; 0 if that is not known.
    pub(super) fn floor_time(&self) -> Millis {
        self.floor_time
    }

    /// The newest revision that there was at a time; nothing if history does not reach back to it.
    pub(super) fn revision_at(&self, time: Millis) -> Option<Revision> {
        let known = self.floor_time > 0 && self.floor_time <= time;
        self.history.upto_time(time).or(known.then_some(self.floor))
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn floor_digest(&self) -> Digest {
        self.floor_digest
    }

    /// Bytes of all current values.
    pub(super) fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// Bytes of superseded values.
    pub(super) fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> usize {
        self.digest.live()
    }

    /// The current value of a key.
    pub(super) fn current(&self, key: &str) -> Option<&KeyValue> {
        self.chains.get(key)?.last()?.alive()
    }

    /// A key at a revision.
    pub(super) fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, Error> {
        let at = self.readable(at)?;
        Ok(self
            .chains
            .get(key)
            .and_then(|chain| alive_at(chain, at))
            .cloned())
    }

    /// The keys of a range.
    pub(super) fn range(&self, range: &Range) -> Result<RangeResponse, Error> {
        let at = self.readable(range.at)?;
        let mut found = self.walk(&range.prefix, range.start_after.as_deref(), at);
        let limit = if range.limit == 0 {
            usize::MAX
        } else {
            range.limit
        };
        let kvs: Vec<KeyValue> = found.by_ref().take(limit).cloned().collect();
        let remaining = found.count();
        Ok(RangeResponse {
            kvs,
            revision: at,
            more: remaining > 0,
            remaining,
        })
    }

    fn walk<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        at: Revision,
    ) -> impl Iterator<Item = &'a KeyValue> {
        let start = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.chains
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(_, chain)| alive_at(chain, at))
    }

    /// The changes of the keys with a prefix after a revision.
    pub(super) fn changes_after(&self, prefix: &str, after: Revision) -> Result<Vec<Event>, Error> {
        self.readable(Some(after))?;
        let changes = self.history.after(after).map(|change| &change.event);
        Ok(changes
            .filter(|event| event.key().starts_with(prefix))
            .cloned()
            .collect())
    }

    fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        let at = at.unwrap_or(self.revision);
        if at > self.revision {
            return Err(Error::Future {
                requested: at,
                current: self.revision,
            });
        }
        if at < self.floor {
            return Err(Error::Compacted {
                requested: at,
                oldest: self.floor,
            });
        }
        Ok(at)
    }

    /// Takes in a change that is durable.
    pub(super) fn apply(&mut self, change: Change, now: Instant) {
        let version = match &change.event {
            Event::Put { kv, prev } => {
                self.value_bytes += kv.value.len() as u64;
                self.value_bytes -= prev.as_ref().map_or(0, |prev| prev.value.len() as u64);
                Version {
                    kv: kv.clone(),
                    op: change.place.op,
                    live: true,
                }
            }
            Event::Delete {
                key,
                prev,
                revision,
            } => {
                self.value_bytes -= prev.value.len() as u64;
                Version::deletion(key, *revision, change.place.op)
            }
        };
        self.chains
            .entry(version.kv.key.clone())
            .or_default()
            .push(version);
        self.digest = change.digest;
        self.revision = change.place.revision;
        self.time = change.at;
        self.history.push(change, now);
    }

    /// Takes in a key as it was at the floor, before any change. They come in the order of their places.
    pub(super) fn seed(&mut self, kv: KeyValue, op: u32) -> Result<(), String> {
        if kv.mod_revision > self.floor || self.chains.contains_key(&kv.key) {
            return Err(format!(
                "{} is there twice before revision {}",
                kv.key, self.floor
            ));
        }
        self.digest.add(&kv);
        self.floor_digest = self.digest;
        self.value_bytes += kv.value.len() as u64;
        self.chains
            .entry(kv.key.clone())
            .or_default()
            .push(Version { kv, op, live: true });
        Ok(())
    }

    /// The change that writing (`Some`) or deleting a key at a place makes to this state.
    pub(super) fn change(
        &self,
        place: Place,
        last: bool,
        key: &Arc<str>,
        kv: Option<KeyValue>,
        at: Millis,
    ) -> Result<Change, String> {
        let prev = self.current(key).cloned();
        let mut digest = self.digest;
        prev.iter().for_each(|prev| digest.remove(prev));
        kv.iter().for_each(|kv| digest.add(kv));
        let event = match (kv, prev) {
            (Some(kv), prev) => Event::Put { kv, prev },
            (None, Some(prev)) => Event::Delete {
                key: key.clone(),
                prev,
                revision: place.revision,
            },
            (None, None) => return Err(format!("{key} is deleted but was not there")),
        };
        Ok(Change {
            place,
            last,
            event,
            digest,
            at,
        })
    }

    /// The keys as they were at the floor, with the place of each among the changes of its revision.
    pub(super) fn seeds(&self) -> impl Iterator<Item = (&KeyValue, u32)> {
        let versions = self.chains.values().flatten();
        let floor = self.floor;
        versions
            .filter(move |v| v.live && v.kv.mod_revision <= floor)
            .map(|v| (&v.kv, v.op))
    }

    /// All changes since the floor.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.history.after(self.floor)
    }

    /// The revision up to which history should be forgotten by now.
    pub(super) fn due(&self, keep: Retention, now: Instant) -> Option<Revision> {
        self.history.due(keep, now)
    }

    /// What forgetting the history up to `floor` means. Changes nothing.
    pub(super) fn plan_trim(&self, floor: Revision) -> Trim {
        let (mut digest, mut time) = (self.floor_digest, self.floor_time);
        let mut keys = BTreeSet::new();
        for change in self.history.upto(floor) {
            (digest, time) = (change.digest, change.at);
            keys.insert(change.event.key());
        }
        let mut dropped = Vec::new();
        for key in keys {
            let chain = self
                .chains
                .get(key)
                .map(|chain| &chain[..])
                .unwrap_or_default();
            dropped.extend(
                chain[..superseded(chain, floor)]
                    .iter()
                    .map(|version| Dropped {
                        place: Place {
                            revision: version.kv.mod_revision,
                            op: version.op,
                        },
                        key_bytes: version.kv.key.len(),
                        value_bytes: version.kv.value.len(),
                    }),
            );
        }
        Trim {
            floor,
            digest,
            time,
            dropped,
        }
    }

    /// Forgets what was planned.
    pub(super) fn trim(&mut self, trim: &Trim) {
        let keys: BTreeSet<Arc<str>> = self
            .history
            .upto(trim.floor)
            .map(|change| change.event.key().clone())
            .collect();
        for key in keys {
            if let Some(chain) = self.chains.get_mut::<str>(key.borrow()) {
                chain.drain(..superseded(chain, trim.floor));
                chain.shrink_to_fit();
                if chain.is_empty() {
                    self.chains.remove::<str>(key.borrow());
                }
            }
        }
        self.history.forget(trim.floor);
        self.floor = trim.floor;
        self.floor_digest = trim.digest;
        self.floor_time = trim.time;
    }
}

impl Version {
    fn deletion(key: &Arc<str>, revision: Revision, op: u32) -> Self {
        let kv = KeyValue {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: revision,
            version: 0,
        };
        Self {
            kv,
            op,
            live: false,
        }
    }
}

/// The key's value at a revision.
fn alive_at(chain: &[Version], at: Revision) -> Option<&KeyValue> {
    chain
        .iter()
        .rev()
        .find(|version| version.kv.mod_revision <= at)?
        .alive()
}

/// How many of the oldest versions nothing at or after `floor` can see.
fn superseded(chain: &[Version], floor: Revision) -> usize {
    let known = chain.partition_point(|version| version.kv.mod_revision <= floor);
    match known.checked_sub(1).and_then(|newest| chain.get(newest)) {
        Some(newest) if newest.live => known - 1,
        _ => known,
    }
}
