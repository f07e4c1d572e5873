//! A deduplicating queue of keys: a key waits at most once, is handed to one worker at a time,
//! and can be due later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// First delay after a failed run; doubles with each failure in a row up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Keys added while they were running: queued again when that run ends.
    again: HashSet<K>,
    delayed: BTreeMap<Instant, BTreeSet<K>>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

/// See the module's first lines.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
            }),
            wake: Notify::new(),
        }
    }

    /// Asks for a run over `key` as soon as a worker is free.
    pub(crate) fn add(&self, key: K) {
        let mut state = self.state.lock();
        state.forget_delay(&key);
        state.enqueue(key);
        drop(state);
        self.wake.notify_one();
    }

    /// Asks for a run over `key` after `delay`; the earliest request wins.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        if state.queued.contains(&key) || state.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        state.forget_delay(&key);
        state.due.insert(key.clone(), at);
        state.delayed.entry(at).or_default().insert(key);
        drop(state);
        self.wake.notify_one();
    }

    /// The next key to run over. It stays reserved until [`Queue::done`].
    pub(crate) async fn next(&self) -> K {
        loop {
            let waiting = self.wake.notified();
            let (key, more, next_due) = {
                let mut state = self.state.lock();
                state.release_due(Instant::now());
                let key = state.take();
                (
                    key,
                    !state.ready.is_empty(),
                    state.delayed.keys().next().copied(),
                )
            };
            if let Some(key) = key {
                if more {
                    self.wake.notify_one();
                }
                return key;
            }
            match next_due {
                Some(due) => tokio::select! { () = waiting => {}, () = sleep_until(due) => {} },
                None => waiting.await,
            }
        }
    }

    /// Ends the run over `key`. A failed run is repeated after a jittered, growing delay.
    pub(crate) fn done(&self, key: &K, failed: bool) {
        let mut state = self.state.lock();
        state.running.remove(key);
        let again = state.again.remove(key);
        if !failed {
            state.failures.remove(key);
        }
        if again {
            state.enqueue(key.clone());
            drop(state);
            self.wake.notify_one();
        } else if failed {
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = backoff(*failures, rand::random());
            *failures = failures.saturating_add(1);
            drop(state);
            self.add_after(key.clone(), delay);
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn enqueue(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn forget_delay(&mut self, key: &K) {
        if let Some(due) = self.due.remove(key)
            && let Some(keys) = self.delayed.get_mut(&due)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.delayed.remove(&due);
            }
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if *entry.key() > now {
                break;
            }
            for key in entry.remove() {
                self.due.remove(&key);
                self.enqueue(key);
            }
        }
    }
}

/// Delay before the run that follows `failures` earlier failures; `jitter` spreads it by ±25 %.
fn backoff(failures: u32, jitter: u8) -> Duration {
    let base = MIN_BACKOFF.saturating_mul(1u32.checked_shl(failures.min(24)).unwrap_or(u32::MAX));
    let spread = 0.75 + f64::from(jitter) / 255.0 / 2.0;
    base.min(MAX_BACKOFF).mul_f64(spread)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The next key, if one is ready now.
    fn next(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    /// Makes everything due that is due within `delay`.
    fn pass(queue: &Queue<&'static str>, delay: Duration) {
        queue.state.lock().release_due(Instant::now() + delay);
    }

    #[tokio::test]
    async fn a_key_waits_once_and_runs_again_when_added_during_its_run() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(next(&queue), Some("a"));
        queue.add("a");
        assert_eq!(next(&queue), Some("b"));
        assert_eq!(next(&queue), None);
        queue.done(&"b", false);
        queue.done(&"a", false);
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a", false);
        assert_eq!(next(&queue), None);
    }

    #[tokio::test]
    async fn the_earliest_delay_wins_and_a_plain_add_cancels_it() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(50));
        pass(&queue, Duration::from_secs(4));
        assert_eq!(next(&queue), None);
        pass(&queue, Duration::from_secs(6));
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a", false);
        queue.add_after("a", Duration::from_secs(5));
        queue.add("a");
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a", false);
        pass(&queue, Duration::from_secs(600));
        assert_eq!(next(&queue), None);
    }

    #[tokio::test]
    async fn failures_back_off_and_a_success_forgets_them() {
        let queue = Queue::new();
        queue.add("a");
        for _ in 0..12 {
            assert_eq!(next(&queue), Some("a"));
            queue.done(&"a", true);
            assert_eq!(next(&queue), None);
            pass(&queue, MAX_BACKOFF * 2);
        }
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a", false);
        assert!(queue.state.lock().failures.is_empty());
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken_by_a_due_key() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_millis(5));
        let woken = tokio::time::timeout(Duration::from_secs(10), queue.next()).await;
        assert_eq!(woken, Ok("a"));
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        assert!(backoff(7, 128) > backoff(2, 128) * 8);
        assert!(backoff(u32::MAX, 255) <= MAX_BACKOFF.mul_f64(1.26));
        assert!(backoff(0, 0) >= MIN_BACKOFF / 2);
    }
}
