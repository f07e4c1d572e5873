//! Watchers: who wants which changes, and the stream each of them reads.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use super::{Error, Event, Revision};

/// Commit groups a watcher may fall behind before it is cut off.
pub(super) const QUEUE_GROUPS: usize = 4096;

/// Changes in order, one batch for each group of transactions that were committed together. Ends with one error: [`Error::Lagged`]
/// when the reader was too slow, [`Error::Closed`] when the store closed.
#[derive(Debug)]
pub struct WatchStream {
    backlog: Option<Arc<[Event]>>,
    receiver: mpsc::Receiver<Arc<[Event]>>,
    lagged: Arc<AtomicBool>,
    newest: Arc<AtomicU64>,
    ended: bool,
}

impl WatchStream {
    /// A revision up to which every change was already yielded, or `None` while changes wait to be taken. A write's revision is
    /// reached here at the latest when the write was answered and the stream is drained.
    pub fn progress(&self) -> Option<Revision> {
        // The revision is read first: whatever belongs to it was queued before it became visible.
        let newest = self.newest.load(Ordering::Acquire);
        (self.backlog.is_none() && self.receiver.is_empty() && !self.ended).then_some(newest)
    }
}

impl Stream for WatchStream {
    type Item = Result<Arc<[Event]>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = self.backlog.take() {
            return Poll::Ready(Some(Ok(batch)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(batch) = std::task::ready!(self.receiver.poll_recv(cx)) else {
            self.ended = true;
            let lagged = self.lagged.load(Ordering::Acquire);
            return Poll::Ready(Some(Err(if lagged {
                Error::Lagged
            } else {
                Error::Closed
            })));
        };
        Poll::Ready(Some(Ok(batch)))
    }
}

/// All watchers of a store.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    sender: mpsc::Sender<Arc<[Event]>>,
    lagged: Arc<AtomicBool>,
}

impl Watchers {
    /// Adds a watcher that first gets `backlog` and then all that is published from now on.
    pub(super) fn add(
        &mut self,
        prefix: &str,
        backlog: Vec<Event>,
        newest: Arc<AtomicU64>,
    ) -> WatchStream {
        self.all.retain(|watcher| !watcher.sender.is_closed());
        let (sender, receiver) = mpsc::channel(QUEUE_GROUPS);
        let lagged = Arc::new(AtomicBool::new(false));
        self.all.push(Watcher {
            prefix: prefix.into(),
            sender,
            lagged: lagged.clone(),
        });
        let backlog = (!backlog.is_empty()).then(|| backlog.into());
        WatchStream {
            backlog,
            receiver,
            lagged,
            newest,
            ended: false,
        }
    }

    /// Hands the changes of a group to those who want them. Never waits: who cannot take more is cut off.
    pub(super) fn publish(&mut self, events: &Arc<[Event]>) {
        self.all.retain(|watcher| watcher.offer(events));
    }
}

impl Watcher {
    /// Whether the watcher is still there afterwards.
    fn offer(&self, events: &Arc<[Event]>) -> bool {
        let wanted = events
            .iter()
            .filter(|event| event.key().starts_with(&*self.prefix))
            .count();
        let batch = match wanted {
            0 => return true,
            all if all == events.len() => events.clone(),
            _ => events
                .iter()
                .filter(|e| e.key().starts_with(&*self.prefix))
                .cloned()
                .collect(),
        };
        match self.sender.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}
