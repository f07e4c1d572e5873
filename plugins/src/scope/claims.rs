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

impl Claims {
    /// The first claim that another scope holds, and that scope.
    pub(super) fn conflict(&self, scope: &ScopeId, claims: &[Claim]) -> Option<(Claim, ScopeId)> {
        claims.iter().find_map(|claim| {
            let mut holders = self.held.get(&claim.name).into_iter().flatten();
            let other = holders.find(|holder| {
                holder.scope != *scope && !claim.shared_with(holder.share.as_deref())
            })?;
            Some((claim.clone(), other.scope.clone()))
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
