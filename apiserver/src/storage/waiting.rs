//! What the committer waits for: requests in their order, and writes that are said to be on their way.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::committer::Request;

/// How long a group waits for writes that are announced. One sync costs a busy machine more than these writes wait.
const GATHER: Duration = Duration::from_millis(2);

/// A write that is being prepared.
#[derive(Debug, Default)]
#[must_use = "it counts until it is dropped"]
pub struct Announced(Option<Arc<AtomicUsize>>);

impl Announced {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Some(count.clone()))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The queue of the committer.
#[derive(Debug)]
pub(super) struct Waiting {
    requests: Receiver<Request>,
    announced: Arc<AtomicUsize>,
}

/// What came first.
pub(super) enum First {
    Request(Request),
    /// Nothing in time.
    None,
    /// Nobody can ask any more.
    Over,
}

impl Waiting {
    pub(super) fn new(requests: Receiver<Request>, announced: Arc<AtomicUsize>) -> Self {
        Self {
            requests,
            announced,
        }
    }

    /// The next request, however long it takes; `None` when nobody can ask any more.
    pub(super) fn first(&self) -> Option<Request> {
        self.requests.recv().ok()
    }

    /// The next request if it comes in time.
    pub(super) fn first_within(&self, wait: Duration) -> First {
        match self.requests.recv_timeout(wait) {
            Ok(request) => First::Request(request),
            Err(RecvTimeoutError::Timeout) => First::None,
            Err(RecvTimeoutError::Disconnected) => First::Over,
        }
    }

    /// The next request of a group that has so many writes already. Who writes alone waits for nobody. `patience` is
    /// the end of waiting, set by the first call that has to wait.
    pub(super) fn next(&self, have: usize, patience: &mut Option<Instant>) -> Option<Request> {
        if let Ok(request) = self.requests.try_recv() {
            return Some(request);
        }
        if have == 0 || have >= self.announced.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        let end = *patience.get_or_insert(now + GATHER);
        self.requests
            .recv_timeout(end.saturating_duration_since(now))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::sync::oneshot;

    use super::*;

    fn request() -> Request {
        let (answer, _) = oneshot::channel();
        Request::Rewrite { answer }
    }

    #[test]
    fn a_group_waits_only_for_what_is_announced() {
        let (requests, receiver) = channel();
        let count = Arc::default();
        let waiting = Waiting::new(receiver, Arc::clone(&count));
        let mut patience = None;
        let own = Announced::new(&count);
        assert!(waiting.next(1, &mut patience).is_none());
        assert_eq!(patience, None, "nobody else writes");
        let other = Announced::new(&count);
        let late = std::thread::spawn(move || {
            requests.send(request()).ok();
            requests
        });
        // Both come in the end, or the patience does.
        let got = waiting.next(1, &mut patience);
        assert!(got.is_some() || patience.is_some());
        let requests = late.join().unwrap();
        drop((own, other));
        requests.send(request()).unwrap();
        assert!(
            waiting.next(1, &mut patience).is_some(),
            "what is there is taken"
        );
    }
}
