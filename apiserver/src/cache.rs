//! The watch cache: every object's newest version, and the recent changes of each kind, in memory.
//!
//! It reads the store's own watch. The store hands a change to that watch before it answers the write, so
//! a reader that finds the cache behind takes the waiting changes itself ([`Cache::catch_up`]) and never
//! waits for another task: what was acknowledged is seen.

mod change;
mod kind;
mod source;
mod watch;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

pub(crate) use change::{Change, EventType};
pub(crate) use kind::{KindCache, Page};
pub(crate) use watch::{Start, Watcher};

use crate::object::{Object, Paths};
use crate::resource::Registry;
use crate::storage::{Error, Event, KeyValue, Range, Revision, Store, WatchStream};

/// How long changes are kept for watchers at most.
const CHANGES_KEPT: Duration = Duration::from_secs(240);

/// Everything under here is an object.
const ROOT: &str = "/registry/";

/// The newest objects of all kinds.
#[derive(Debug)]
pub struct Cache {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    kinds: RwLock<HashMap<Arc<str>, Arc<KindCache>>>,
    pump: Mutex<Pump>,
    revision: AtomicU64,
    advanced: Notify,
}

/// The store's watch, shared by the task that waits on it and by readers in a hurry.
#[derive(Debug)]
struct Pump {
    stream: Option<WatchStream>,
    /// Wakes the task; readers poll in its name so that it keeps being woken.
    waker: Waker,
}

impl Cache {
    /// Loads every object of the store.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn load(store: Arc<dyn Store>, registry: Arc<Registry>) -> Result<Arc<Self>, Error> {
        let cache = Arc::new(Self {
            store,
            registry,
            kinds: RwLock::default(),
            pump: Mutex::new(Pump {
                stream: None,
                waker: Waker::noop().clone(),
            }),
            revision: AtomicU64::new(0),
            advanced: Notify::new(),
        });
        cache.resync().await?;
        Ok(cache)
    }

    /// Follows the store until it closes. Run it in one task.
    pub async fn run(self: Arc<Self>) {
        loop {
            let error = std::future::poll_fn(|context| {
                let mut pump = self.pump.lock();
                pump.waker = context.waker().clone();
                self.drain(&mut pump).map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            if matches!(error, Error::Closed) {
                return;
            }
            tracing::warn!(%error, "the watch cache lost its place and reads everything again");
            while let Err(error) = self.resync().await {
                tracing::error!(%error, "the watch cache cannot read the store");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Forgets changes that every watcher with a pulse has seen, every now and then; one that was away for longer reads the
    /// store's history. Run it in one task.
    pub(crate) async fn age(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CHANGES_KEPT / 4).await;
            if let Some(before) = Instant::now().checked_sub(CHANGES_KEPT) {
                self.forget(before);
            }
        }
    }

    fn forget(&self, before: Instant) {
        let kinds: Vec<_> = self.kinds.read().values().cloned().collect();
        kinds.iter().for_each(|kind| kind.forget(before));
    }

    /// Every change up to here is in the cache.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Takes all changes the store has acknowledged.
    pub fn catch_up(&self) {
        if self.revision() < self.store.revision() {
            let mut pump = self.pump.lock();
            if let Some(error) = self.drain(&mut pump) {
                tracing::debug!(%error, "the watch cache is behind");
                pump.waker.wake_by_ref();
            }
        }
    }

    /// Returns once changes up to `revision` are in; false when that takes longer than `patience`.
    pub(crate) async fn wait_for(&self, revision: Revision, patience: Duration) -> bool {
        let reached = async {
            loop {
                let advanced = self.advanced.notified();
                tokio::pin!(advanced);
                advanced.as_mut().enable();
                self.catch_up();
                if self.revision() >= revision {
                    return;
                }
                advanced.await;
            }
        };
        tokio::time::timeout(patience, reached).await.is_ok()
    }

    /// The objects under a kind's prefix; made empty when there are none yet.
    pub(crate) fn kind(&self, prefix: &str) -> Arc<KindCache> {
        if let Some(kind) = self.kinds.read().get(prefix) {
            return kind.clone();
        }
        let fields = self.registry.snapshot().fields(prefix);
        let fresh = || Arc::new(KindCache::new(prefix, Paths::new(fields), self.revision()));
        self.kinds
            .write()
            .entry(prefix.into())
            .or_insert_with(fresh)
            .clone()
    }

    /// Reads the objects under a prefix again after their selectable fields changed.
    pub(crate) fn refresh_fields(&self, prefix: &str) {
        let fields = self.registry.snapshot().fields(prefix);
        self.kind(prefix).set_fields(fields);
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// How many objects there are of each kind, by store prefix.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let kinds = self.kinds.read();
        let mut counts: Vec<_> = kinds
            .iter()
            .map(|(prefix, kind)| (prefix.clone(), kind.len()))
            .collect();
        counts.sort();
        counts
    }

    /// Takes what waits in the stream; an error means the stream is over.
    fn drain(&self, pump: &mut Pump) -> Option<Error> {
        let waker = pump.waker.clone();
        // The runtime's budget for a task must not make changes that are there look absent.
        let drained = tokio::task::unconstrained(std::future::poll_fn(|context| {
            Poll::Ready(self.drain_all(pump, context))
        }));
        match std::pin::pin!(drained).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(end) => end,
            Poll::Pending => None,
        }
    }

    fn drain_all(&self, pump: &mut Pump, context: &mut Context<'_>) -> Option<Error> {
        let stream = pump.stream.as_mut()?;
        loop {
            match Pin::new(&mut *stream).poll_next(context) {
                Poll::Ready(Some(Ok(batch))) => self.apply(&batch),
                Poll::Ready(Some(Err(error))) => {
                    pump.stream = None;
                    return Some(error);
                }
                Poll::Ready(None) => {
                    pump.stream = None;
                    return Some(Error::Closed);
                }
                Poll::Pending => break,
            }
        }
        if let Some(revision) = stream.progress() {
            self.advance(revision);
        }
        None
    }

    /// Carries a batch over, kind by kind, so that no reader sees half a transaction of one kind.
    fn apply(&self, batch: &[Event]) {
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let prefix = kind_prefix(first.key());
            let same = rest
                .iter()
                .take_while(|event| kind_prefix(event.key()) == prefix)
                .count();
            let (now, later) = rest.split_at(same);
            self.kind(prefix).apply(now);
            rest = later;
        }
        if let Some(last) = batch.last() {
            self.advance(last.revision());
        }
    }

    fn advance(&self, revision: Revision) {
        if self.revision.fetch_max(revision, Ordering::AcqRel) < revision {
            self.advanced.notify_waiters();
        }
    }

    /// Reads everything, compares it with what is here, and follows from there.
    async fn resync(&self) -> Result<(), Error> {
        let range = Range {
            prefix: ROOT.into(),
            ..Range::default()
        };
        let response = self.store.range(range).await?;
        let stream = self.store.watch(ROOT, response.revision)?;
        let mut by_kind: HashMap<&str, Vec<KeyValue>> = HashMap::new();
        for kv in &response.kvs {
            by_kind
                .entry(kind_prefix(&kv.key))
                .or_default()
                .push(kv.clone());
        }
        let known: Vec<Arc<KindCache>> = self.kinds.read().values().cloned().collect();
        for kind in known {
            if !by_kind.contains_key(kind.prefix()) {
                kind.reset(Vec::new(), response.revision);
            }
        }
        for (prefix, kvs) in by_kind {
            self.kind(prefix).reset(kvs, response.revision);
        }
        let mut pump = self.pump.lock();
        pump.stream = Some(stream);
        self.advance(response.revision);
        Ok(())
    }
}

/// `/registry/<group>/<plural>/` of a key.
fn kind_prefix(key: &str) -> &str {
    let end = key
        .match_indices('/')
        .nth(3)
        .map_or(key.len(), |(at, _)| at + 1);
    key.get(..end).unwrap_or(key)
}

/// An object of the cache or of the store's past.
pub(crate) fn object(kv: KeyValue, kind: &KindCache) -> Object {
    Object::new(kv, &kind.paths())
}

#[cfg(test)]
mod tests;
