//! Who is connected, and who has to leave when there are too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::Bounds;

/// Of its own connections a source loses only those that nothing came over for so long; if there is none, its new one is
/// refused.
const IDLE: Duration = Duration::from_secs(10);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// This machine, whose programs share one address. Bounded by the total only.
    Own,
    /// One address.
    Address(IpAddr),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("this machine"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    source: Source,
    /// Milliseconds from the first seat's time to the last byte that went either way.
    used: AtomicU64,
    evicted: AtomicBool,
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Seat {
    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }
}

/// How a connection that came in is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It stays.
    Seated(Arc<Seat>),
    /// It stays, and an idle one of this source had to go.
    InsteadOf(Arc<Seat>, Source),
    /// It goes.
    Refused,
}

/// The seats of one listener.
#[derive(Debug)]
pub(crate) struct Seats {
    start: Instant,
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Those that may stay, by source.
    by_source: HashMap<Source, HashMap<u64, Arc<Seat>>>,
    count: usize,
    /// Those that were told to go and still have their descriptor.
    leaving: usize,
}

impl Seats {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            start: Instant::now(),
            bounds,
            taken: Mutex::default(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Bytes went over the connection.
    pub(crate) fn touch(&self, seat: &Seat) {
        seat.used
            .store(self.moment(Instant::now()), Ordering::Relaxed);
    }

    fn moment(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// A connection came from `source` at `now`.
    pub(crate) fn take(&self, source: Source, now: Instant) -> Answer {
        let mut taken = self.taken.lock();
        let now = self.moment(now);
        if taken.leaving > self.bounds.total / 8 + 16 {
            return Answer::Refused;
        }
        let Some(loser) = taken.loser(source, self.bounds) else {
            return Answer::Seated(taken.seat(source, now));
        };
        // Whoever has more than the newcomer's source gives way to it; within one source only what is idle does.
        let idle = if loser == source {
            now.checked_sub(millis(IDLE))
        } else {
            Some(u64::MAX)
        };
        if idle.is_some_and(|idle| taken.evict(loser, idle)) {
            Answer::InsteadOf(taken.seat(source, now), loser)
        } else {
            Answer::Refused
        }
    }

    /// Makes room when the process has no descriptor left: the idlest connection of the source that has most.
    pub(crate) fn make_room(&self) -> Option<Source> {
        let mut taken = self.taken.lock();
        let (loser, _) = taken.greediest()?;
        taken.evict(loser, u64::MAX).then_some(loser)
    }

    /// The connection is closed.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut taken = self.taken.lock();
        if !taken.remove(seat) {
            taken.leaving = taken.leaving.saturating_sub(1);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Taken {
    fn count_of(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, HashMap::len)
    }

    /// Whose connection has to go so that one of `source` may come; `None` while there is room.
    fn loser(&self, source: Source, bounds: Bounds) -> Option<Source> {
        let own = self.count_of(source);
        let most = match source {
            Source::Own => bounds.total,
            Source::Address(_) => bounds.per_source,
        };
        if own >= most {
            return Some(source);
        }
        if self.count < bounds.total {
            return None;
        }
        match self.greediest() {
            Some((greediest, count)) if count > own + 1 || own == 0 => Some(greediest),
            _ => Some(source),
        }
    }

    /// The source with most connections; this machine only if there is no other.
    fn greediest(&self) -> Option<(Source, usize)> {
        let all = self
            .by_source
            .iter()
            .map(|(source, seats)| (*source, seats.len()));
        all.max_by_key(|(source, count)| (*source != Source::Own, *count, *source))
    }

    fn seat(&mut self, source: Source, now: u64) -> Arc<Seat> {
        self.next += 1;
        let seat = Arc::new(Seat {
            number: self.next,
            source,
            used: AtomicU64::new(now),
            evicted: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        let seats = self.by_source.entry(source).or_default();
        seats.insert(seat.number, Arc::clone(&seat));
        self.count += 1;
        seat
    }

    /// Tells the idlest connection of a source to go, if it was last used before `idle`.
    fn evict(&mut self, source: Source, idle: u64) -> bool {
        let seats = self.by_source.get(&source).into_iter().flatten();
        let used = |seat: &Arc<Seat>| (seat.used.load(Ordering::Relaxed), seat.number);
        let Some(seat) = seats.map(|(_, seat)| seat).min_by_key(|seat| used(seat)) else {
            return false;
        };
        let seat = Arc::clone(seat);
        if seat.used.load(Ordering::Relaxed) > idle {
            return false;
        }
        self.remove(&seat);
        self.leaving += 1;
        seat.evict();
        true
    }

    /// Whether it was there.
    fn remove(&mut self, seat: &Seat) -> bool {
        let Some(seats) = self.by_source.get_mut(&seat.source) else {
            return false;
        };
        let was_there = seats.remove(&seat.number).is_some();
        if seats.is_empty() {
            self.by_source.remove(&seat.source);
        }
        self.count -= usize::from(was_there);
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        total: 6,
        per_source: 4,
    };

    fn pod(number: u8) -> Source {
        Source::Address(IpAddr::from([10, 42, 0, number]))
    }

    fn seated(answer: Answer) -> Arc<Seat> {
        match answer {
            Answer::Seated(seat) | Answer::InsteadOf(seat, _) => seat,
            Answer::Refused => panic!("refused"),
        }
    }

    #[test]
    fn a_source_over_its_bound_loses_what_is_idle_or_is_refused() {
        let seats = Seats::new(BOUNDS);
        let now = Instant::now();
        let held: Vec<_> = (0..4).map(|_| seated(seats.take(pod(1), now))).collect();
        assert!(matches!(seats.take(pod(1), now), Answer::Refused));
        assert!(held.iter().all(|seat| !seat.is_evicted()));
        let later = now + IDLE + Duration::from_secs(5);
        let last = seats.moment(later);
        held[0].used.store(last, Ordering::Relaxed);
        let answer = seats.take(pod(1), later);
        assert!(matches!(answer, Answer::InsteadOf(_, source) if source == pod(1)));
        let evicted: Vec<bool> = held.iter().map(|seat| seat.is_evicted()).collect();
        assert_eq!(evicted, [false, true, false, false]);
        assert!(matches!(seats.take(pod(2), now), Answer::Seated(_)));
    }

    #[test]
    fn a_full_house_takes_from_the_greediest() {
        let seats = Seats::new(BOUNDS);
        let now = Instant::now();
        let own = seated(seats.take(Source::Own, now));
        let greedy: Vec<_> = (0..4).map(|_| seated(seats.take(pod(1), now))).collect();
        let modest = seated(seats.take(pod(2), now));
        let answer = seats.take(pod(3), now);
        assert!(matches!(answer, Answer::InsteadOf(_, source) if source == pod(1)));
        // The second of the modest one is as good as the third of the greedy one.
        let answer = seats.take(pod(2), now);
        assert!(matches!(answer, Answer::InsteadOf(_, source) if source == pod(1)));
        let answer = seats.take(pod(2), now);
        assert!(matches!(answer, Answer::Refused), "{answer:?}");
        assert!(!own.is_evicted() && !modest.is_evicted());
        assert_eq!(greedy.iter().filter(|seat| seat.is_evicted()).count(), 2);
    }

    #[test]
    fn this_machine_may_fill_the_house_and_gives_way() {
        let seats = Seats::new(BOUNDS);
        let now = Instant::now();
        let own: Vec<_> = (0..6)
            .map(|_| seated(seats.take(Source::Own, now)))
            .collect();
        assert!(matches!(seats.take(Source::Own, now), Answer::Refused));
        let answer = seats.take(pod(1), now);
        assert!(matches!(answer, Answer::InsteadOf(_, Source::Own)));
        assert_eq!(own.iter().filter(|seat| seat.is_evicted()).count(), 1);
    }

    #[test]
    fn who_leaves_makes_room_and_is_forgotten() {
        let seats = Seats::new(BOUNDS);
        let now = Instant::now();
        for _ in 0..100 {
            let held: Vec<_> = (0..4).map(|_| seated(seats.take(pod(1), now))).collect();
            held.iter().for_each(|seat| seats.leave(seat));
        }
        assert!(seats.taken.lock().by_source.is_empty());
        assert_eq!(seats.taken.lock().count, 0);
        let seat = seated(seats.take(pod(1), now));
        assert_eq!(seats.make_room(), Some(pod(1)));
        assert!(seat.is_evicted());
        assert_eq!(seats.taken.lock().leaving, 1);
        seats.leave(&seat);
        assert_eq!(seats.taken.lock().leaving, 0);
    }

    #[test]
    fn those_that_do_not_go_hold_up_those_that_come() {
        let seats = Seats::new(BOUNDS);
        let now = Instant::now();
        let _held: Vec<_> = (0..4).map(|_| seated(seats.take(pod(1), now))).collect();
        let mut later = now;
        let taken = (0..100)
            .take_while(|_| {
                later += IDLE * 2;
                !matches!(seats.take(pod(1), later), Answer::Refused)
            })
            .count();
        assert_eq!(taken, 17);
    }
}
