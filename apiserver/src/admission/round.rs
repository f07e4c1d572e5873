//! Reinvocation: when one plugin's users changed the object, the chain runs a second time, and those who asked
//! for it see the object again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

/// The state of one run of the mutating chain.
#[derive(Debug, Default)]
pub struct Round {
    second: AtomicBool,
    wanted: AtomicBool,
    webhooks: Mutex<Passes>,
    policies: Mutex<Passes>,
}

/// Whose turns are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Webhooks,
    Policies,
}

/// The calls of one plugin over both passes.
#[derive(Debug, Default)]
struct Passes {
    /// Called before and willing to be called again.
    eligible: HashSet<String>,
    /// To be called in the second pass.
    again: HashSet<String>,
    /// What the plugin left behind at its last end.
    last: Option<Value>,
}

impl Passes {
    fn require(&mut self) {
        self.again.extend(self.eligible.drain());
    }
}

impl Round {
    /// Starts the second pass if somebody changed the object in the first.
    pub(super) fn next(&self) -> bool {
        let again = self.wanted.load(Ordering::Relaxed);
        self.second.store(again, Ordering::Relaxed);
        again
    }

    /// Whether this is the second pass.
    pub(super) fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }

    fn passes(&self, turn: Turn) -> &Mutex<Passes> {
        match turn {
            Turn::Webhooks => &self.webhooks,
            Turn::Policies => &self.policies,
        }
    }

    /// A plugin begins its pass: everybody is called again if others changed the object since its last one.
    pub(super) fn begin(&self, turn: Turn, object: &Value) {
        let mut passes = self.passes(turn).lock();
        if self.is_second() && passes.last.as_ref().is_some_and(|last| last != object) {
            passes.require();
        }
    }

    /// Whether `id` is called in this pass.
    pub(super) fn calls(&self, turn: Turn, id: &str) -> bool {
        !self.is_second() || self.passes(turn).lock().again.contains(id)
    }

    /// `id` was called; `changed` says whether it changed the object, `eligible` whether it may be called again.
    pub(super) fn called(&self, turn: Turn, id: &str, changed: bool, eligible: bool) {
        let mut passes = self.passes(turn).lock();
        if changed {
            passes.require();
            self.wanted.store(true, Ordering::Relaxed);
        }
        if eligible {
            passes.eligible.insert(id.to_owned());
        }
    }

    /// A plugin ends its pass.
    pub(super) fn end(&self, turn: Turn, object: &Value) {
        self.passes(turn).lock().last = Some(object.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two webhooks, the second changes the object: the first is called again if it asked for that.
    #[test]
    fn an_earlier_one_sees_what_a_later_one_changed() {
        for (asks, again) in [(true, true), (false, false)] {
            let round = Round::default();
            let turn = Turn::Webhooks;
            round.begin(turn, &json!(1));
            assert!(round.calls(turn, "a"));
            round.called(turn, "a", false, asks);
            assert!(round.calls(turn, "b"));
            round.called(turn, "b", true, true);
            round.end(turn, &json!(2));
            assert!(round.next());
            round.begin(turn, &json!(2));
            assert_eq!(round.calls(turn, "a"), again);
            assert!(!round.calls(turn, "b"), "its own change is no reason");
        }
    }

    #[test]
    fn everybody_eligible_sees_what_built_in_plugins_changed_in_between() {
        let round = Round::default();
        let turn = Turn::Policies;
        round.begin(turn, &json!(1));
        round.called(turn, "a", true, true);
        round.end(turn, &json!(2));
        assert!(round.next());
        round.begin(turn, &json!(3));
        assert!(round.calls(turn, "a"));
    }

    #[test]
    fn without_a_change_there_is_no_second_pass() {
        let round = Round::default();
        round.called(Turn::Webhooks, "a", false, true);
        assert!(!round.next());
    }
}
