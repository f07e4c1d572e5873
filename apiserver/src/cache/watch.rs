//! A watcher: first the state it asked for, then every change, from the log or, if it is behind the log,
//! from the store's own history.

use std::sync::Arc;

use futures::StreamExt;

use super::{Cache, Change, KindCache};
use crate::object::Object;
use crate::selection::Selection;
use crate::storage::{Error, Event, Revision, WatchStream};

/// Changes taken from the log at once.
const BATCH: usize = 256;

/// Where a watcher begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// With the state now, then its changes.
    Now,
    /// With the changes after a revision.
    After(Revision),
}

/// What a watcher reads.
#[derive(Debug)]
enum Source {
    /// The kind's log, from this sequence number.
    Log(u64),
    /// The store's history, because the log begins later.
    Store(WatchStream),
}

/// Reads the changes of a selection in order, each exactly once.
#[derive(Debug)]
pub(crate) struct Watcher {
    cache: Arc<Cache>,
    kind: Arc<KindCache>,
    selection: Selection,
    source: Source,
    /// Every change up to here was read.
    position: Revision,
}

impl Watcher {
    /// A watcher, and the objects it begins with ([`Start::Now`]).
    ///
    /// # Errors
    /// [`Error::Compacted`] when the changes are no longer known.
    pub(crate) fn open(
        cache: Arc<Cache>,
        kind: Arc<KindCache>,
        selection: Selection,
        start: Start,
    ) -> Result<(Self, Vec<Object>), Error> {
        cache.catch_up();
        let (position, objects) = match start {
            Start::After(revision) => (revision, Vec::new()),
            Start::Now => {
                let page = kind.page(&selection, None, 0, cache.revision());
                (page.revision, page.objects)
            }
        };
        let source = match kind.seek(position) {
            Some(sequence) => Source::Log(sequence),
            None => Source::Store(cache.store().watch(&selection.prefix, position)?),
        };
        Ok((
            Self {
                cache,
                kind,
                selection,
                source,
                position,
            },
            objects,
        ))
    }

    /// Every change up to here was returned.
    pub(crate) fn position(&self) -> Revision {
        self.position
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Waits for the next changes of the kind. They may or may not concern the selection.
    ///
    /// Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the watcher was so slow that changes it needs are gone.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<Change>>, Error> {
        loop {
            match &mut self.source {
                Source::Log(sequence) => {
                    let kind = self.kind.clone();
                    let changed = kind.changed();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    // Read first: every change up to it is in the log by now.
                    let reached = self.cache.revision();
                    match kind.read_log(*sequence, BATCH) {
                        None => self.fall_back()?,
                        Some(changes) if changes.is_empty() => {
                            self.position = self.position.max(reached);
                            changed.await;
                        }
                        Some(changes) => {
                            *sequence += changes.len() as u64;
                            if let Some(last) = changes.last() {
                                self.position = last.revision;
                            }
                            return Ok(changes);
                        }
                    }
                }
                Source::Store(stream) => {
                    let batch = stream.next().await.unwrap_or(Err(Error::Closed));
                    match batch {
                        Ok(events) => return Ok(self.take(&events)),
                        Err(Error::Lagged) => self.fall_back()?,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Brings [`Watcher::position`] up to date without waiting; false when changes wait to be read.
    pub(crate) fn settle(&mut self) -> bool {
        self.cache.catch_up();
        let reached = self.cache.revision();
        let Source::Log(sequence) = &self.source else {
            return false;
        };
        let idle = self
            .kind
            .read_log(*sequence, 1)
            .is_some_and(|changes| changes.is_empty());
        if idle {
            self.position = self.position.max(reached);
        }
        idle
    }

    fn fall_back(&mut self) -> Result<(), Error> {
        let store = self.cache.store();
        self.source = Source::Store(store.watch(&self.selection.prefix, self.position)?);
        Ok(())
    }

    /// Changes from the store; goes over to the log as soon as that reaches back far enough.
    fn take(&mut self, events: &[Event]) -> Vec<Arc<Change>> {
        let object = |kv: &crate::storage::KeyValue| super::object(kv.clone(), &self.kind);
        let changes: Vec<Arc<Change>> = events
            .iter()
            .map(|event| match event {
                Event::Put { kv, prev } => {
                    Change::new(kv.mod_revision, Some(object(kv)), prev.as_ref().map(object))
                }
                Event::Delete { prev, revision, .. } => {
                    Change::new(*revision, None, Some(object(prev)))
                }
            })
            .map(Arc::new)
            .collect();
        if let Some(last) = changes.last() {
            self.position = last.revision;
        }
        if let Some(sequence) = self.kind.seek(self.position) {
            self.source = Source::Log(sequence);
        }
        changes
    }
}
