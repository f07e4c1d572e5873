//! Which of several objects an owner controls, may adopt, or must let go.

use std::sync::Arc;

use davit_api::LabelSelector;
use kube::{Resource, ResourceExt};

use crate::informer::Cached;
use crate::meta::{controller_of, is_terminating, uid};

/// The outcome of [`claim`].
#[derive(Debug)]
pub(crate) struct Claimed<K> {
    /// Controlled by the owner, and still matched by its selector.
    pub(crate) owned: Vec<Arc<K>>,
    /// Orphans that match: become owned once the owner reference is written.
    pub(crate) adopt: Vec<Arc<K>>,
    /// Controlled by the owner, but no longer matched by its selector.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts `candidates` (of the owner's namespace) by their relation to the owner.
pub(crate) fn claim<O: Resource, K: Cached>(
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<Arc<K>>,
) -> Claimed<K> {
    let mut claimed = Claimed {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for candidate in candidates {
        let matches = selector.matches(candidate.labels());
        match controller_of(&*candidate) {
            Some(reference) if reference.uid == uid(owner) => {
                if matches {
                    claimed.owned.push(candidate);
                } else if !is_terminating(owner) {
                    claimed.release.push(candidate);
                }
            }
            None if matches && !is_terminating(owner) && !is_terminating(&*candidate) => {
                claimed.adopt.push(candidate);
            }
            _ => {}
        }
    }
    claimed
}
