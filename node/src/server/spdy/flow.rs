//! What the client is told it may send again (SPDY/3.1 §2.6.8).
use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::server::streams::WINDOW;

/// The stream whose number stands for all of them.
pub(super) const ALL: u32 = 0;
/// A client is told of so many bytes at once, before its window is used up.
const STEP: u32 = WINDOW / 2;

/// Bytes that were taken from streams and not told of yet.
#[derive(Debug, Default)]
pub(super) struct Taken {
    counts: Mutex<HashMap<u32, u32>>,
    due: Notify,
}

impl Taken {
    /// So many bytes of a stream have found a reader, or nobody will ever read them.
    pub(super) fn add(&self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut counts = self.counts.lock();
        let count = counts.entry(stream).or_default();
        *count = count.saturating_add(bytes);
        if *count >= STEP {
            self.due.notify_one();
        }
    }

    /// Waits until there is something to tell; streams and bytes.
    pub(super) async fn next(&self) -> Vec<(u32, u32)> {
        loop {
            let due = self.due.notified();
            let told: Vec<_> = self
                .counts
                .lock()
                .extract_if(|_, count| *count >= STEP)
                .collect();
            if !told.is_empty() {
                return told;
            }
            due.await;
        }
    }

    /// The stream is over.
    pub(super) fn forget(&self, stream: u32) {
        self.counts.lock().remove(&stream);
    }
}
