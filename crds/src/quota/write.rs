//! What one write does to one quota.

use std::collections::BTreeSet;

use super::{Amounts, Counted, Counting, Quota, counts, shown};
use crate::Quantity;

/// A write, as far as quotas see it.
#[derive(Clone, Debug)]
pub struct Write {
    /// Kind of the object.
    pub kind: Counting,
    /// What the object counted before; `None` when it is made.
    pub old: Option<Counted>,
    /// What it counts afterwards; `None` when it goes away.
    pub new: Option<Counted>,
    /// Whether the bounds hold for this write. Where they do not, such as for the status of a pod, usage only follows.
    pub enforced: bool,
}

/// What becomes of a quota.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing: the quota is about something else.
    None,
    /// The quota's usage is not known yet and the write changes it: whoever is counting must see that something changed.
    Touch,
    /// It has this usage afterwards.
    Used(Amounts),
}

impl Quota {
    /// What a write does to the quota.
    ///
    /// # Errors
    /// The refusal, in Kubernetes' words, when the write is not within the bounds.
    pub fn after(&self, write: &Write) -> Result<Effect, String> {
        let included = |counted: &Counted| self.includes(counted);
        let old = write.old.as_ref().filter(|counted| included(counted));
        let new = write.new.as_ref().filter(|counted| included(counted));
        if let Some(new) = new.filter(|_| write.enforced) {
            self.check(&write.kind, new, old)?;
        }
        let names: BTreeSet<&String> = self.declared.keys().chain(self.hard.keys()).collect();
        let names = names.into_iter().filter(|name| counts(&write.kind, name));
        let changes = names.map(|name| (name, change(name, old, new)));
        let mut used = self.used.clone();
        let mut touched = false;
        for (name, change) in changes.filter(|(_, change)| !change.is_zero()) {
            touched = true;
            if let Some(amount) = used.get_mut(name).filter(|_| self.hard.contains_key(name)) {
                *amount = (*amount + change).max(Quantity::default());
            }
        }
        Ok(match (touched, used == self.used) {
            (false, _) => Effect::None,
            (true, true) => Effect::Touch,
            (true, false) => Effect::Used(used),
        })
    }

    fn check(&self, kind: &Counting, new: &Counted, old: Option<&Counted>) -> Result<(), String> {
        let restricted: Vec<&String> = self.hard.keys().filter(|name| counts(kind, name)).collect();
        if restricted.is_empty() {
            return Ok(());
        }
        let missing = new
            .unset
            .iter()
            .filter(|(name, _)| self.hard.contains_key(*name));
        let missing =
            missing.map(|(name, containers)| format!("{name} for: {}", containers.join(",")));
        let missing: Vec<String> = missing.collect();
        if !missing.is_empty() {
            return Err(format!(
                "failed quota: {}: must specify {}",
                self.name,
                missing.join("; ")
            ));
        }
        if restricted.iter().any(|name| !self.used.contains_key(*name)) {
            let names: Vec<&str> = restricted.iter().map(|name| name.as_str()).collect();
            let (quota, names) = (&self.name, names.join(","));
            return Err(format!(
                "status unknown for quota: {quota}, resources: {names}"
            ));
        }
        self.check_bounds(restricted, new, old)
    }

    fn check_bounds(
        &self,
        restricted: Vec<&String>,
        new: &Counted,
        old: Option<&Counted>,
    ) -> Result<(), String> {
        let (mut requested, mut used, mut limited) = <(Amounts, Amounts, Amounts)>::default();
        for name in restricted {
            let more = change(name, old, Some(new));
            let has = self.used.get(name).copied().unwrap_or_default();
            let bound = self.hard.get(name).copied().unwrap_or_default();
            if more > Quantity::default() && has + more > bound {
                requested.insert(name.clone(), more);
                used.insert(name.clone(), has);
                limited.insert(name.clone(), bound);
            }
        }
        if requested.is_empty() {
            return Ok(());
        }
        Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.name,
            shown(&requested),
            shown(&used),
            shown(&limited),
        ))
    }
}

/// How much more is used of a resource.
fn change(name: &str, old: Option<&Counted>, new: Option<&Counted>) -> Quantity {
    let amount = |counted: Option<&Counted>| {
        let found = counted.and_then(|counted| counted.usage.get(name));
        found.copied().unwrap_or_default()
    };
    amount(new) - amount(old)
}
