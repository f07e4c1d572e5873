//! The circuit breaker of one driver: after repeated traps it is left alone for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failures that open the breaker, within [`WINDOW`].
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Time between two tries while it is open.
const RETRY: Duration = Duration::from_secs(30);

/// Counts failures and says whether a call may be made. Pure: time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: VecDeque<Instant>,
    /// While open: when the next call is let through.
    next_try: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made now, else how long to wait. While open, one call every
    /// thirty seconds is let through to see whether the driver works again.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.next_try {
            Some(next) if now < next => Err(next - now),
            Some(_) => {
                self.next_try = Some(now + RETRY);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A call trapped or timed out. Returns whether this opened the breaker.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        if self.next_try.is_some() {
            self.next_try = Some(now + RETRY);
            return false;
        }
        self.failures.push_back(now);
        while self
            .failures
            .front()
            .is_some_and(|first| now - *first > WINDOW)
        {
            self.failures.pop_front();
        }
        let opened = self.failures.len() >= FAILURES;
        if opened {
            self.failures.clear();
            self.next_try = Some(now + RETRY);
        }
        opened
    }

    /// A call came back. Returns whether this closed the breaker.
    pub(crate) fn answered(&mut self) -> bool {
        self.next_try.take().is_some()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.next_try.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_minute_open_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::default();
        for second in [0, 20, 40, 61, 62] {
            assert!(!breaker.failed(at(second)), "{second}");
        }
        assert!(breaker.failed(at(63)));
        assert_eq!(breaker.admit(at(73)), Err(Duration::from_secs(20)));
        assert_eq!(breaker.admit(at(93)), Ok(()));
        assert!(breaker.admit(at(94)).is_err(), "one try at a time");
        assert!(!breaker.failed(at(95)));
        assert!(breaker.admit(at(110)).is_err());
        assert_eq!(breaker.admit(at(125)), Ok(()));
        assert!(breaker.answered());
        assert_eq!(breaker.admit(at(126)), Ok(()));
        assert!(!breaker.failed(at(127)), "counting starts again");
    }
}
