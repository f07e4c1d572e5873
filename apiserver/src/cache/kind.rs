//! The objects of one kind in key order, and its recent changes in the order they happened.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use tokio::sync::Notify;

use super::Change;
use crate::object::{Object, Paths};
use crate::resource::Field;
use crate::selection::Selection;
use crate::storage::{Event, KeyValue, Revision};

/// Bytes of recent changes kept per kind. A watcher that needs older ones reads the store's history.
const LOG_BYTES: usize = 4 << 20;
const LOG_CHANGES: usize = 8192;

/// One page of objects.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// The page is what the store held at this revision.
    pub(crate) revision: Revision,
    /// Whether `limit` cut the page short.
    pub(crate) more: bool,
    /// How many objects `limit` cut off; known only when nothing narrows the selection.
    pub(crate) remaining: Option<usize>,
}

/// The cache of one kind.
#[derive(Debug)]
pub(crate) struct KindCache {
    prefix: Arc<str>,
    state: RwLock<State>,
    changed: Notify,
    version: AtomicU64,
}

#[derive(Debug)]
struct State {
    paths: Arc<Paths>,
    objects: BTreeMap<Arc<str>, Object>,
    log: VecDeque<(Instant, Arc<Change>)>,
    log_bytes: usize,
    /// Sequence number of the first change in the log.
    first: u64,
    /// All changes after this revision are in the log.
    since: Revision,
    /// Revision of the newest change.
    newest: Revision,
}

impl KindCache {
    pub(super) fn new(prefix: &str, paths: Paths, since: Revision) -> Self {
        Self {
            prefix: prefix.into(),
            state: RwLock::new(State {
                paths: Arc::new(paths),
                objects: BTreeMap::new(),
                log: VecDeque::new(),
                log_bytes: 0,
                first: 0,
                since,
                newest: 0,
            }),
            changed: Notify::new(),
            version: AtomicU64::new(0),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn paths(&self) -> Arc<Paths> {
        self.state.read().paths.clone()
    }

    /// The selectable fields, in the order the objects' envelopes have them.
    pub(crate) fn fields(&self) -> Arc<[Field]> {
        self.state.read().paths.fields.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Object> {
        self.state.read().objects.get(key).cloned()
    }

    /// Revision of the newest change; grows with every change.
    pub(crate) fn newest(&self) -> Revision {
        self.state.read().newest
    }

    /// Grows with every change; readable without a lock.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// The selected objects after `start_after`, at most `limit` of them (0: all). `floor` is a revision
    /// that the cache had reached before the call.
    pub(crate) fn page(
        &self,
        selection: &Selection,
        start_after: Option<&str>,
        limit: usize,
        floor: Revision,
    ) -> Page {
        let state = self.state.read();
        let revision = floor.max(state.newest);
        if let Some(key) = &selection.key {
            let found = state
                .objects
                .get(&**key)
                .filter(|object| selection.has(object));
            let objects = found
                .filter(|_| start_after.is_none())
                .cloned()
                .into_iter()
                .collect();
            return Page {
                objects,
                revision,
                more: false,
                remaining: None,
            };
        }
        let whole = selection.is_whole();
        let mut rest = state
            .under(&selection.prefix, start_after)
            .filter(|object| whole || selection.has(object));
        let wanted = if limit == 0 { usize::MAX } else { limit };
        let objects: Vec<Object> = rest.by_ref().take(wanted).cloned().collect();
        let remaining = if limit == 0 { 0 } else { rest.count() };
        Page {
            objects,
            revision,
            more: remaining > 0,
            remaining: (whole && remaining > 0).then_some(remaining),
        }
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<Arc<str>> {
        self.state.read().objects.keys().cloned().collect()
    }

    /// The bytes of all objects under a prefix.
    pub(crate) fn bytes_under(&self, prefix: &str) -> Vec<bytes::Bytes> {
        self.state
            .read()
            .under(prefix, None)
            .map(|object| object.bytes.clone())
            .collect()
    }

    /// Where a watcher of changes after `revision` begins in the log; `None` when the log begins later.
    pub(super) fn seek(&self, revision: Revision) -> Option<u64> {
        let state = self.state.read();
        if revision < state.since {
            return None;
        }
        let skip = state
            .log
            .partition_point(|(_, change)| change.revision <= revision);
        Some(state.first + skip as u64)
    }

    /// Up to `most` changes from a place in the log; `None` when they are forgotten.
    pub(super) fn read_log(&self, from: u64, most: usize) -> Option<Vec<Arc<Change>>> {
        let state = self.state.read();
        let skip = usize::try_from(from.checked_sub(state.first)?).ok()?;
        let changes = state.log.iter().map(|(_, change)| change);
        Some(changes.skip(skip).take(most).cloned().collect())
    }

    pub(super) fn apply(&self, events: &[Event]) {
        let mut state = self.state.write();
        for event in events {
            state.apply(event);
        }
        state.trim();
        drop(state);
        self.notify();
    }

    /// Forgets changes from before some time, and gives their room back.
    pub(super) fn forget(&self, before: Instant) {
        let mut state = self.state.write();
        while state.log.front().is_some_and(|(at, _)| *at < before) {
            state.forget_first();
        }
        let spare = state.log.capacity() / 2;
        if state.log.len() < spare / 2 {
            state.log.shrink_to(spare);
        }
    }

    /// Replaces everything by what the store holds at `revision`.
    pub(super) fn reset(&self, kvs: Vec<KeyValue>, revision: Revision) {
        let mut state = self.state.write();
        let paths = state.paths.clone();
        state.objects = kvs
            .into_iter()
            .map(|kv| (kv.key.clone(), Object::new(kv, &paths)))
            .collect();
        state.first += state.log.len() as u64 + 1;
        state.log.clear();
        state.log_bytes = 0;
        state.since = revision;
        state.newest = state
            .objects
            .values()
            .map(|object| object.revision)
            .max()
            .unwrap_or(0);
        drop(state);
        self.notify();
    }

    pub(super) fn set_fields(&self, fields: Arc<[Field]>) {
        let mut state = self.state.write();
        if state.paths.fields == fields {
            return;
        }
        state.paths = Arc::new(Paths::new(fields));
        let paths = state.paths.clone();
        for object in state.objects.values_mut() {
            let kv = KeyValue {
                key: object.key.clone(),
                value: object.bytes.clone(),
                create_revision: 0,
                mod_revision: object.revision,
                version: 0,
            };
            *object = Object::new(kv, &paths);
        }
    }

    fn notify(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

impl State {
    fn apply(&mut self, event: &Event) {
        let change = match event {
            Event::Put { kv, .. } => {
                let object = Object::new(kv.clone(), &self.paths);
                let before = self.objects.insert(kv.key.clone(), object.clone());
                Change::new(kv.mod_revision, Some(object), before)
            }
            Event::Delete { key, revision, .. } => {
                let Some(before) = self.objects.remove(key) else {
                    return;
                };
                Change::new(*revision, None, Some(before))
            }
        };
        self.newest = change.revision;
        self.log_bytes += change.weight();
        self.log.push_back((Instant::now(), Arc::new(change)));
    }

    fn trim(&mut self) {
        while self.log_bytes > LOG_BYTES || self.log.len() > LOG_CHANGES {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((_, change)) = self.log.pop_front() else {
            return;
        };
        self.log_bytes -= change.weight();
        self.first += 1;
        self.since = change.revision;
    }

    /// Objects whose keys start with `prefix`, after `start_after`.
    fn under<'s>(
        &'s self,
        prefix: &'s str,
        start_after: Option<&'s str>,
    ) -> impl Iterator<Item = &'s Object> {
        let from = match start_after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        self.objects
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(move |object| object.key.starts_with(prefix))
    }
}
