//! Seats and queues of the priority levels: who is served now, who waits, who is sent away.
//!
//! A level's own seats are its share of all. When they are taken it borrows seats that others lend and do
//! not use; a lender that needs its seats again takes them at once, even while they are still out, so for a
//! moment more requests may be served than the total. Waiting flows are dealt to a few of a level's queues
//! (shuffle sharding), and the queues are served in turn, so one busy flow does not keep out the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::work::MOST;

/// What a level may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Its part of all seats, against the other levels' shares.
    pub(super) shares: u32,
    /// How many of its seats in a hundred others may use.
    pub(super) lendable_percent: u32,
    /// How many seats it may borrow, in hundredths of its own; `None` is any number.
    pub(super) borrowing_percent: Option<u32>,
    /// Queues; 0 sends away whoever gets no seat.
    pub(super) queues: u32,
    /// Queues a flow is dealt.
    pub(super) hand: u32,
    /// Requests in one queue.
    pub(super) queue_length: u32,
}

/// Why a request is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The level has no queues and no seat.
    NoSeat,
    /// Its queue is full.
    QueueFull,
    /// It waited too long.
    TimedOut,
}

impl Refusal {
    pub(super) const ALL: [Self; 3] = [Self::NoSeat, Self::QueueFull, Self::TimedOut];

    /// The reason in Kubernetes' metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoSeat => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimedOut => "time-out",
        }
    }
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Outcome {
    Seated(Permit),
    /// The seat comes through here.
    Queued(oneshot::Receiver<Permit>),
    Refused(Refusal),
}

/// The seats of a request; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Permit {
    seats: Arc<Seats>,
    level: usize,
    width: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.seats.give_back(self.level, self.width);
    }
}

/// The seats of all levels.
#[derive(Debug)]
pub(super) struct Seats {
    total: u32,
    hall: Mutex<Hall>,
}

#[derive(Debug, Default)]
struct Hall {
    numbers: HashMap<String, usize>,
    levels: Vec<Level>,
    /// Seats lent out now.
    borrowed: u32,
}

#[derive(Debug, Default)]
struct Level {
    limits: Limits,
    own: u32,
    lendable: u32,
    borrowable: u32,
    used: u32,
    /// Requests that sit in them.
    served: u32,
    waiting: usize,
    queues: Vec<Queue>,
    /// How often the queue that was last served had been served.
    round: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    /// Seats given to its requests, for the turns.
    served: u64,
}

/// A request that waits for so many seats.
#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Permit>,
    width: u32,
}

impl Level {
    /// Seats it lends and does not use.
    fn spare(&self) -> u32 {
        self.own.saturating_sub(self.used).min(self.lendable)
    }

    fn borrowed(&self) -> u32 {
        self.used.saturating_sub(self.own)
    }

    /// The shortest of the queues dealt to a flow.
    fn queue_for(&self, hash: u64) -> Option<usize> {
        let hand = deal(hash, self.queues.len(), self.limits.hand as usize);
        hand.into_iter()
            .min_by_key(|at| self.queues.get(*at).map_or(usize::MAX, |q| q.waiters.len()))
    }

    /// A request takes no more than this, so that a level that is nearly idle can always serve it.
    fn widest(&self) -> u32 {
        (u64::from(self.own) * 15 / 100).clamp(1, MOST.into()) as u32
    }

    /// The queue whose turn it is. Whoever gave up costs nobody a turn.
    fn turn(&mut self) -> Option<&mut Queue> {
        for queue in &mut self.queues {
            let before = queue.waiters.len();
            while queue.waiters.front().is_some_and(|w| w.sender.is_closed()) {
                queue.waiters.pop_front();
            }
            self.waiting -= before - queue.waiters.len();
        }
        let waiting = self.queues.iter_mut().filter(|q| !q.waiters.is_empty());
        waiting.min_by_key(|queue| queue.served)
    }

    /// The seats that the next request needs.
    fn wanted(&mut self) -> Option<u32> {
        Some(self.turn()?.waiters.front()?.width)
    }

    /// The request whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let queue = self.turn()?;
        let waiter = queue.waiters.pop_front()?;
        queue.served += u64::from(waiter.width);
        self.round = queue.served;
        self.waiting -= 1;
        Some(waiter)
    }
}

impl Hall {
    fn has_seats(&self, at: usize, width: u32) -> bool {
        let Some(level) = self.levels.get(at) else {
            return false;
        };
        if level.used + width <= level.own {
            return true;
        }
        let others = self.levels.iter().enumerate().filter(|(of, _)| *of != at);
        let spare: u32 = others.map(|(_, other)| other.spare()).sum();
        let borrowed = level.used + width - level.own;
        let more = borrowed - level.borrowed();
        borrowed <= level.borrowable && self.borrowed + more <= spare
    }

    fn sit(&mut self, at: usize, width: u32) {
        if let Some(level) = self.levels.get_mut(at) {
            let before = level.borrowed();
            level.used += width;
            level.served += 1;
            self.borrowed += level.borrowed() - before;
        }
    }

    fn stand_up(&mut self, at: usize, width: u32) {
        if let Some(level) = self.levels.get_mut(at) {
            let before = level.borrowed();
            level.used -= width;
            level.served -= 1;
            self.borrowed -= before - level.borrowed();
        }
    }

    /// Those whose turn has come, `first` before the other levels.
    fn call(&mut self, first: usize) -> Vec<(usize, Waiter)> {
        let mut called = Vec::new();
        for step in 0..self.levels.len() {
            let at = (first + step) % self.levels.len();
            while self.levels.get(at).is_some_and(|level| level.waiting > 0) {
                let wanted = self.levels.get_mut(at).and_then(Level::wanted);
                if !wanted.is_some_and(|width| self.has_seats(at, width)) {
                    break;
                }
                let Some(waiter) = self.levels.get_mut(at).and_then(Level::next) else {
                    break;
                };
                self.sit(at, waiter.width);
                called.push((at, waiter));
            }
        }
        called
    }
}

impl Seats {
    pub(super) fn new(total: u32) -> Self {
        Self {
            total,
            hall: Mutex::default(),
        }
    }

    /// Takes over the levels there are; seats taken and requests waiting stay.
    pub(super) fn configure<'a>(self: &Arc<Self>, levels: impl Iterator<Item = (&'a str, Limits)>) {
        let levels: HashMap<&str, Limits> = levels.collect();
        let shares: u32 = levels.values().map(|limits| limits.shares).sum();
        let mut hall = self.hall.lock();
        for name in levels.keys() {
            if !hall.numbers.contains_key(*name) {
                let number = hall.levels.len();
                hall.numbers.insert((*name).to_owned(), number);
                hall.levels.push(Level::default());
            }
        }
        let numbers = hall.numbers.clone();
        for (name, number) in numbers {
            let limits = levels.get(name.as_str()).copied().unwrap_or_default();
            if let Some(level) = hall.levels.get_mut(number) {
                set(level, limits, self.total, shares);
            }
        }
        hall.borrowed = hall.levels.iter().map(Level::borrowed).sum();
        let called = hall.call(0);
        drop(hall);
        self.serve(called);
    }

    /// Seats of a level, at most `width` of them, a place in its queues, or neither.
    pub(super) fn take(self: &Arc<Self>, level: &str, hash: u64, width: u32) -> Outcome {
        let mut hall = self.hall.lock();
        let Some(&at) = hall.numbers.get(level) else {
            return Outcome::Refused(Refusal::NoSeat);
        };
        let (waiting, widest) = match hall.levels.get(at) {
            Some(level) => (level.waiting, level.widest()),
            None => (0, 1),
        };
        let width = width.clamp(1, widest);
        if waiting == 0 && hall.has_seats(at, width) {
            hall.sit(at, width);
            return Outcome::Seated(self.permit(at, width));
        }
        let Some(level) = hall.levels.get_mut(at) else {
            return Outcome::Refused(Refusal::NoSeat);
        };
        let round = level.round;
        let limit = level.limits.queue_length as usize;
        let queue = level.queue_for(hash);
        let Some(queue) = queue.and_then(|at| level.queues.get_mut(at)) else {
            return Outcome::Refused(Refusal::NoSeat);
        };
        if queue.waiters.len() >= limit {
            let before = queue.waiters.len();
            queue.waiters.retain(|waiter| !waiter.sender.is_closed());
            level.waiting -= before - queue.waiters.len();
            if queue.waiters.len() >= limit {
                return Outcome::Refused(Refusal::QueueFull);
            }
        }
        if queue.waiters.is_empty() {
            // A queue saves up no turns while nobody waits in it.
            queue.served = queue.served.max(round);
        }
        let (sender, turn) = oneshot::channel();
        queue.waiters.push_back(Waiter { sender, width });
        level.waiting += 1;
        Outcome::Queued(turn)
    }

    fn permit(self: &Arc<Self>, level: usize, width: u32) -> Permit {
        Permit {
            seats: self.clone(),
            level,
            width,
        }
    }

    fn give_back(self: &Arc<Self>, level: usize, width: u32) {
        let mut hall = self.hall.lock();
        hall.stand_up(level, width);
        let called = hall.call(level);
        drop(hall);
        self.serve(called);
    }

    /// Hands out seats. One who gave up meanwhile drops the seat, which calls the next.
    fn serve(self: &Arc<Self>, called: Vec<(usize, Waiter)>) {
        for (level, Waiter { sender, width }) in called {
            drop(sender.send(self.permit(level, width)));
        }
    }

    /// What the levels are doing, by the names of Kubernetes' metrics.
    pub(super) fn gauges(&self) -> [(&'static str, Vec<(String, u64)>); 6] {
        let hall = self.hall.lock();
        let mut numbers: Vec<_> = hall.numbers.iter().collect();
        numbers.sort();
        let of = |value: fn(&Level) -> u64| {
            let levels = numbers.iter();
            let levels = levels.filter_map(|(name, at)| Some((name, hall.levels.get(**at)?)));
            levels
                .map(|(name, level)| ((*name).clone(), value(level)))
                .collect()
        };
        [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                of(|level| level.own.into()),
            ),
            (
                "apiserver_flowcontrol_lower_limit_seats",
                of(|level| level.own.saturating_sub(level.lendable).into()),
            ),
            (
                "apiserver_flowcontrol_upper_limit_seats",
                of(|level| level.own.saturating_add(level.borrowable).into()),
            ),
            (
                "apiserver_flowcontrol_current_executing_seats",
                of(|level| level.used.into()),
            ),
            (
                "apiserver_flowcontrol_current_executing_requests",
                of(|level| level.served.into()),
            ),
            (
                "apiserver_flowcontrol_current_inqueue_requests",
                of(|level| level.waiting as u64),
            ),
        ]
    }
}

fn set(level: &mut Level, limits: Limits, total: u32, shares: u32) {
    let part = |of: u32, percent: u32| (u64::from(of) * u64::from(percent) / 100) as u32;
    level.limits = limits;
    // Rounded up, so that no level is without a seat.
    level.own =
        (u64::from(total) * u64::from(limits.shares)).div_ceil(u64::from(shares.max(1))) as u32;
    level.lendable = part(level.own, limits.lendable_percent.min(100));
    level.borrowable = limits
        .borrowing_percent
        .map_or(u32::MAX, |percent| part(level.own, percent));
    let queues = limits.queues as usize;
    // Those who wait in queues that are no more are told to come back.
    let dropped = level.queues.drain(queues.min(level.queues.len())..);
    level.waiting -= dropped.map(|queue| queue.waiters.len()).sum::<usize>();
    level.queues.resize_with(queues, Queue::default);
}

/// A hand of different cards out of a deck, the same for the same hash.
fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    for left in (deck.saturating_sub(hand) + 1..=deck).rev() {
        let mut card = (hash % left as u64) as usize;
        hash /= left as u64;
        // The card's number among those not yet dealt.
        let mut dealt = cards.clone();
        dealt.sort_unstable();
        for have in dealt {
            if have <= card {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}
