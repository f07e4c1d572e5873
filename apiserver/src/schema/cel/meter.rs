//! What an evaluation may spend. Everything is charged before it is done, so that an expression over its limits ends
//! with an error and has cost no more than they say.
//!
//! The prices and limits of steps are Kubernetes' own. Besides, an evaluation may make so many bytes and use so much of its
//! thread's time, whatever the prices say.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};

/// What one evaluation may cost.
const CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations over one object, or of one policy, may cost together.
const BUDGET: u64 = 10_000_000;
/// What the match conditions of a webhook may cost together.
const CONDITIONS_BUDGET: u64 = 2_500_000;
/// Prices are counted in tenths: a byte that is read costs one.
const TENTHS: u64 = 10;
/// Bytes that one evaluation may make.
const MEMORY: u64 = 64 << 20;
/// Nanoseconds of its thread's time that one evaluation may use. Expressions within their costs use a tenth of it.
const TIME: u64 = 4_000_000_000;
/// The clock is looked at once in so many steps.
const LOOKS: u32 = 4096;
/// Longer messages are cut: they may quote values.
const LONGEST_MESSAGE: usize = 1024;
/// What a value takes beside its contents.
pub(super) const VALUE: u64 = 64;

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The expression says something that cannot be; `||` and `&&` may make it irrelevant.
    Fault(String),
    /// A limit was reached; nothing else is evaluated.
    Spent(Limit),
}

/// What was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// One evaluation costs too much.
    Call,
    /// All evaluations together do.
    Budget,
    /// The values that it makes are too large.
    Memory,
    /// It takes too long.
    Time,
}

impl Limit {
    /// What the user is told.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Call => "operation cancelled: actual cost limit exceeded",
            Self::Budget => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
            }
            Self::Memory => "operation cancelled: memory limit exceeded",
            Self::Time => "operation cancelled: time limit exceeded",
        }
    }
}

impl Failure {
    /// A fault. Long texts are cut.
    pub(crate) fn fault(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > LONGEST_MESSAGE {
            text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
            text.push('…');
        }
        Self::Fault(text)
    }

    /// What the user is told.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Fault(text) => text,
            Self::Spent(limit) => limit.message().to_owned(),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::fault(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::fault(text)
    }
}

/// What several evaluations may cost together.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(BUDGET * TENTHS))
    }
}

impl Budget {
    /// The budget of match conditions.
    pub(crate) fn of_conditions() -> Self {
        Self(AtomicU64::new(CONDITIONS_BUDGET * TENTHS))
    }

    /// The meter of one evaluation, which may use what is left.
    pub(super) fn meter(&self) -> Meter {
        let left = self.0.load(Ordering::Relaxed);
        Meter::new((CALL_LIMIT * TENTHS).min(left), left < CALL_LIMIT * TENTHS)
    }

    /// Takes off what an evaluation used. After one that used all it may, nothing is left.
    pub(super) fn settle(&self, meter: &Meter) {
        let left = self.0.load(Ordering::Relaxed);
        self.0
            .store(left.saturating_sub(meter.cost), Ordering::Relaxed);
    }
}

/// Counts one evaluation.
#[derive(Debug)]
pub(super) struct Meter {
    cost: u64,
    limit: u64,
    /// The limit is what was left of a budget.
    of_budget: bool,
    bytes: u64,
    steps: u32,
    /// The thread's time at which the evaluation ends.
    until: u64,
}

type Charged = Result<(), Failure>;

impl Meter {
    fn new(limit: u64, of_budget: bool) -> Self {
        Self {
            cost: 0,
            limit,
            of_budget,
            bytes: 0,
            steps: 0,
            until: now().saturating_add(TIME),
        }
    }

    /// One part of an expression is looked at.
    pub(super) fn step(&mut self) -> Charged {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(LOOKS) && now() > self.until {
            return Err(Failure::Spent(Limit::Time));
        }
        Ok(())
    }

    /// So many units of cost.
    pub(super) fn charge(&mut self, units: u64) -> Charged {
        self.tenths(units.saturating_mul(TENTHS))
    }

    /// A unit, and what it costs to go through so many bytes or elements.
    pub(super) fn pass(&mut self, length: usize) -> Charged {
        self.tenths((length as u64).max(TENTHS))
    }

    /// So many tenths of a unit.
    pub(super) fn tenths(&mut self, tenths: u64) -> Charged {
        self.step()?;
        self.cost = self.cost.saturating_add(tenths);
        if self.cost <= self.limit {
            return Ok(());
        }
        let limit = match self.of_budget {
            true => Limit::Budget,
            false => Limit::Call,
        };
        Err(Failure::Spent(limit))
    }

    /// So many bytes are going to be made.
    pub(super) fn make(&mut self, bytes: u64) -> Charged {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= MEMORY {
            return Ok(());
        }
        Err(Failure::Spent(Limit::Memory))
    }

    /// So many values with contents of so many bytes are going to be made.
    pub(super) fn make_values(&mut self, count: usize, bytes: usize) -> Charged {
        self.make((count as u64).saturating_mul(VALUE))?;
        self.make(bytes as u64)
    }

    /// Units and bytes used so far.
    #[cfg(test)]
    pub(super) fn used(&self) -> (u64, u64) {
        (self.cost / TENTHS, self.bytes)
    }
}

impl Default for Meter {
    /// For what belongs to no budget.
    fn default() -> Self {
        Self::new(CALL_LIMIT * TENTHS, false)
    }
}

/// The time that this thread ran, so that a busy machine cuts nobody short.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_which_one_they_are() {
        let mut meter = Meter::default();
        assert_eq!(meter.charge(CALL_LIMIT), Ok(()));
        assert_eq!(meter.pass(0), Err(Failure::Spent(Limit::Call)));
        assert_eq!(meter.make(MEMORY), Ok(()));
        assert_eq!(meter.make_values(1, 0), Err(Failure::Spent(Limit::Memory)));
        let budget = Budget::default();
        for _ in 0..BUDGET / CALL_LIMIT {
            let mut meter = budget.meter();
            assert_eq!(meter.charge(CALL_LIMIT), Ok(()));
            budget.settle(&meter);
        }
        let mut meter = budget.meter();
        assert_eq!(meter.charge(1), Err(Failure::Spent(Limit::Budget)));
        let mut late = Meter {
            until: 0,
            ..Meter::default()
        };
        let ends = (0..=LOOKS).find_map(|_| late.step().err());
        assert_eq!(ends, Some(Failure::Spent(Limit::Time)));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = Failure::fault("ä".repeat(2000)).message();
        assert!(long.len() < LONGEST_MESSAGE + 4 && long.ends_with("ä…"));
    }
}
