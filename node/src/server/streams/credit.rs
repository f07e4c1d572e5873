//! How much may still be sent: on each channel of a connection, and on all of them together.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What both sides begin with (SPDY/3.1 §2.6.8).
pub(in crate::server) const WINDOW: u32 = 64 << 10;

/// The account of a connection. Nothing holds a sender up until the other side has shown that it keeps accounts, since
/// there are clients that never give anything back.
#[derive(Debug)]
pub(in crate::server) struct Credits {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug)]
struct State {
    obeyed: bool,
    /// What every channel begins with.
    initial: i64,
    /// For all channels together.
    all: i64,
}

/// The account of one channel.
#[derive(Debug)]
pub(in crate::server) struct Credit {
    credits: Arc<Credits>,
    /// What was given back less what was sent; changed under the lock of the connection's account.
    own: AtomicI64,
}

impl Credits {
    pub(in crate::server) fn new() -> Arc<Self> {
        let window = i64::from(WINDOW);
        Arc::new(Self {
            state: Mutex::new(State {
                obeyed: false,
                initial: window,
                all: window,
            }),
            more: Notify::new(),
        })
    }

    /// The account of a new channel.
    pub(in crate::server) fn open(self: &Arc<Self>) -> Arc<Credit> {
        Arc::new(Credit {
            credits: Arc::clone(self),
            own: AtomicI64::new(0),
        })
    }

    /// The other side took bytes of whatever channel.
    pub(in crate::server) fn give_back(&self, count: u32) {
        self.change(|state| state.all = state.all.saturating_add(count.into()));
    }

    /// Every channel, open or not, begins with this instead.
    pub(in crate::server) fn begin_with(&self, window: u32) {
        self.change(|state| state.initial = window.into());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        state.obeyed = true;
        change(&mut state);
        drop(state);
        self.more.notify_waiters();
    }
}

impl Credit {
    /// The other side took bytes of this channel.
    pub(in crate::server) fn give_back(&self, count: u32) {
        self.credits.change(|_| {
            self.own.fetch_add(count.into(), Ordering::Relaxed);
        });
    }

    /// Waits until something may be sent; how many of the wanted bytes, at least one.
    pub(in crate::server) async fn take(&self, wanted: usize) -> usize {
        loop {
            let more = self.credits.more.notified();
            tokio::pin!(more);
            // What is given back from here on wakes.
            more.as_mut().enable();
            if let Some(count) = self.try_take(wanted) {
                return count;
            }
            more.await;
        }
    }

    fn try_take(&self, wanted: usize) -> Option<usize> {
        let mut state = self.credits.state.lock();
        let room = state
            .all
            .min(state.initial + self.own.load(Ordering::Relaxed));
        let count = match usize::try_from(room) {
            _ if !state.obeyed => wanted,
            Ok(room @ 1..) => wanted.min(room),
            _ => return None,
        };
        let spent = i64::try_from(count).unwrap_or(i64::MAX);
        state.all = state.all.saturating_sub(spent);
        self.own.fetch_sub(spent, Ordering::Relaxed);
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_channel_waits_for_its_own_window_and_for_that_of_all() {
        let credits = Credits::new();
        let (one, other) = (credits.open(), credits.open());
        // Nobody keeps accounts yet.
        assert_eq!(one.take(100_000).await, 100_000);
        credits.give_back(100_000 + WINDOW);
        assert_eq!(one.try_take(1), None, "100,000 were sent before");
        assert_eq!(other.take(100_000).await, 65_536);
        assert_eq!(other.try_take(1), None);
        one.give_back(100_000);
        let waiting = tokio::spawn(async move { other.take(7).await });
        tokio::task::yield_now().await;
        credits.begin_with(WINDOW + 5);
        assert_eq!(waiting.await.unwrap(), 5);
        assert_eq!(one.take(100_000).await, 65_531, "all together");
        assert_eq!(one.try_take(1), None);
    }
}
