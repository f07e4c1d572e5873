//! Who holds what on this machine: two scopes never hold the same thing.

use crate::plan::{Claim, ScopeId};
use std::collections::HashMap;

/// Claims by name, with their holders.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: HashMap<String, Vec<Holder>>,
}

#[derive(Debug)]
struct Holder {
    scope: ScopeId,
    share: Option<String>,
}

/// A claim that cannot be given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conflict {
    pub(super) claim: Claim,
    /// Who asked for it.
    pub(super) scope: ScopeId,
    /// Who has it; the same as `scope` where a plan takes a thing twice.
    pub(super) holder: ScopeId,
}

impl Claims {
    /// The first claim that cannot be given to these scopes together, and who is in the way: another scope that holds it, one
    /// of those that ask beside it, or the scope itself where its own plan takes a thing twice.
    ///
    /// What a scope holds already is no question any more, whatever it says: otherwise a scope could neither be changed
    /// nor given up once it is in conflict.
    pub(super) fn conflict<'a>(
        &self,
        asked: impl IntoIterator<Item = (&'a ScopeId, Vec<Claim>)>,
    ) -> Option<Conflict> {
        let conflict = |claim: &Claim, scope: &ScopeId, holder: &ScopeId| Conflict {
            claim: claim.clone(),
            scope: scope.clone(),
            holder: holder.clone(),
        };
        let mut wanted = Self::default();
        for (scope, claims) in asked {
            let mut own: HashMap<&str, &Claim> = HashMap::new();
            for claim in claims.iter().filter(|claim| !self.holds(scope, claim)) {
                let twice = own.insert(&claim.name, claim);
                if twice.is_some_and(|first| !claim.shared_with(first.share.as_deref())) {
                    return Some(conflict(claim, scope, scope));
                }
                for book in [self, &wanted] {
                    let mut holders = book.held.get(&claim.name).into_iter().flatten();
                    let other = holders.find(|holder| {
                        holder.scope != *scope && !claim.shared_with(holder.share.as_deref())
                    });
                    if let Some(other) = other {
                        return Some(conflict(claim, scope, &other.scope));
                    }
                }
            }
            wanted.hold(scope, claims);
        }
        None
    }

    fn holds(&self, scope: &ScopeId, claim: &Claim) -> bool {
        let holders = self.held.get(&claim.name);
        holders.is_some_and(|holders| {
            let same = |holder: &Holder| holder.scope == *scope && holder.share == claim.share;
            holders.iter().any(same)
        })
    }

    pub(super) fn hold(&mut self, scope: &ScopeId, claims: Vec<Claim>) {
        for Claim { name, share } in claims {
            let holders = self.held.entry(name).or_default();
            if !holders.iter().any(|holder| holder.scope == *scope) {
                holders.push(Holder {
                    scope: scope.clone(),
                    share,
                });
            }
        }
    }

    pub(super) fn free(&mut self, scope: &ScopeId, claims: &[Claim]) {
        for claim in claims {
            if let Some(holders) = self.held.get_mut(&claim.name) {
                holders.retain(|holder| holder.scope != *scope);
                if holders.is_empty() {
                    self.held.remove(&claim.name);
                }
            }
        }
    }

    /// Whether a scope other than this one holds the claim as well.
    pub(super) fn held_by_another(&self, scope: &ScopeId, claim: &Claim) -> bool {
        let holders = self.held.get(&claim.name);
        holders.is_some_and(|holders| holders.iter().any(|holder| holder.scope != *scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(name: &str, share: &str) -> Claim {
        Claim {
            share: Some(share.into()),
            ..Claim::new(name)
        }
    }

    #[test]
    fn what_is_asked_for_together_is_checked_together() {
        let (a, b, c) = (ScopeId::node("a"), ScopeId::node("b"), ScopeId::node("c"));
        let mut held = Claims::default();
        held.hold(&c, vec![Claim::new("x"), shared("s", "1")]);
        let route = || vec![Claim::new("route")];
        for (asked, expected) in [
            (vec![(&a, route()), (&b, vec![shared("s", "1")])], None),
            (vec![(&a, route()), (&b, route())], Some((&b, &a))),
            (
                vec![(&a, vec![Claim::new("l"), Claim::new("l")])],
                Some((&a, &a)),
            ),
            (vec![(&a, vec![shared("p", "1"), shared("p", "1")])], None),
            (vec![(&a, vec![shared("s", "0")])], Some((&a, &c))),
            (vec![(&a, vec![Claim::new("x")])], Some((&a, &c))),
        ] {
            let found = held.conflict(asked.clone());
            let found = found.as_ref().map(|found| (&found.scope, &found.holder));
            assert_eq!(found, expected, "{asked:?}");
        }
    }

    #[test]
    fn what_is_held_is_no_question_even_in_conflict() {
        let (a, b) = (ScopeId::node("a"), ScopeId::node("b"));
        let mut held = Claims::default();
        // As an earlier version of davit recorded it.
        held.hold(&a, vec![Claim::new("route")]);
        held.hold(&b, vec![Claim::new("route")]);
        let again = vec![Claim::new("route")];
        assert_eq!(held.conflict([(&a, again.clone())]), None);
        let more = vec![Claim::new("route"), Claim::new("more")];
        assert_eq!(held.conflict([(&b, more)]), None);
        assert!(held.conflict([(&ScopeId::node("c"), again)]).is_some());
    }
}
