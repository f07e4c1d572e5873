//! Exponential backoff as Kubernetes' `flowcontrol.Backoff` does it, as plain data that can be saved and tested.
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How a kind of retry grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The first delay.
    pub initial: SignedDuration,
    /// No delay grows beyond it; twice this long without a failure forgets the history.
    pub max: SignedDuration,
}

/// Restarts of containers and pulls of images: 10 s doubling to 5 min, as kubelet.
pub const CRASH: Limits = Limits {
    initial: SignedDuration::from_secs(10),
    max: SignedDuration::from_mins(5),
};

/// Volumes, sandboxes, networks and container configuration: 1 s doubling to 2 min.
pub const SETUP: Limits = Limits {
    initial: SignedDuration::from_secs(1),
    max: SignedDuration::from_mins(2),
};

/// One subject's history of failures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    delay_ms: i64,
    updated: Option<Timestamp>,
}

impl Backoff {
    /// The delay now in force; zero before the first failure.
    pub fn delay(&self) -> SignedDuration {
        SignedDuration::from_millis(self.delay_ms)
    }

    /// Until when a retry after an event at `event` has to wait, `None` when it may go on at once.
    pub fn waits_until(
        &self,
        event: Timestamp,
        now: Timestamp,
        limits: Limits,
    ) -> Option<Timestamp> {
        let updated = self.updated?;
        if expired(event, updated, limits) {
            return None;
        }
        let until = event.checked_add(self.delay()).ok()?;
        (now < until).then_some(until)
    }

    /// Until when a retry after the newest failure has to wait, `None` when it may go on at once.
    pub fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.updated?.checked_add(self.delay()).ok()?;
        (now < until).then_some(until)
    }

    /// Records an attempt after an event at `event`: the next delay doubles, or starts anew after a quiet time.
    pub fn advance(&mut self, event: Timestamp, now: Timestamp, limits: Limits) {
        let fresh = self
            .updated
            .is_none_or(|updated| expired(event, updated, limits));
        let next = if fresh {
            limits.initial
        } else {
            (self.delay() * 2).min(limits.max)
        };
        self.delay_ms = i64::try_from(next.as_millis()).unwrap_or(i64::MAX);
        self.updated = Some(now);
    }

    /// Forgets every failure.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A history is void when the event came later than twice the longest delay after it.
fn expired(event: Timestamp, updated: Timestamp, limits: Limits) -> bool {
    event.duration_since(updated) > limits.max * 2
}

/// A duration as Go prints it in kubelet's messages: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{millis}ms"),
        (0, 0, s) if millis > 0 => format!("{}s", trimmed(s, millis)),
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

fn trimmed(seconds: i64, millis: i32) -> String {
    format!("{seconds}.{millis:03}")
        .trim_end_matches('0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn crash_delays_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..8 {
            let exit = at(now);
            if let Some(until) = backoff.waits_until(exit, exit, CRASH) {
                delays.push(until.duration_since(exit).as_secs());
                now = until.as_second() - 1_700_000_000;
            } else {
                delays.push(0);
            }
            backoff.advance(exit, at(now), CRASH);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_forget_the_history() {
        let mut backoff = Backoff::default();
        backoff.advance(at(0), at(0), CRASH);
        backoff.advance(at(10), at(10), CRASH);
        assert_eq!(backoff.delay().as_secs(), 20);
        assert_eq!(backoff.waits_until(at(611), at(611), CRASH), None);
        backoff.advance(at(611), at(611), CRASH);
        assert_eq!(backoff.delay().as_secs(), 10);
    }

    #[test]
    fn durations_read_as_in_go() {
        let cases = [
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_661_000, "1h1m1s"),
            (250, "250ms"),
            (1_250, "1.25s"),
        ];
        for (millis, text) in cases {
            assert_eq!(go_duration(SignedDuration::from_millis(millis)), text);
        }
    }
}
