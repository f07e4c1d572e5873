//! How many replicas each ReplicaSet of a Deployment should have now.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use crate::meta::{created, value};

/// Bounds of a rolling update, in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) surge: i32,
    pub(crate) unavailable: i32,
}

/// Declared replicas of a deployment.
pub(crate) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// Declared replicas of a ReplicaSet.
pub(crate) fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(0)
}

/// Replicas that a ReplicaSet reports as available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// True for the strategy that ends all old pods before it starts a new one.
pub(crate) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// `maxSurge` rounded up and `maxUnavailable` rounded down, never both zero.
pub(crate) fn bounds(deployment: &Deployment) -> Bounds {
    if is_recreate(deployment) {
        return Bounds {
            surge: 0,
            unavailable: 0,
        };
    }
    let desired = desired(deployment);
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy
        .and_then(|strategy| strategy.rolling_update.clone())
        .unwrap_or_default();
    let default = IntOrString::String("25%".into());
    let surge = resolve(
        rolling.max_surge.as_ref().unwrap_or(&default),
        desired,
        true,
    );
    let mut unavailable = resolve(
        rolling.max_unavailable.as_ref().unwrap_or(&default),
        desired,
        false,
    );
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    Bounds {
        surge,
        unavailable: unavailable.min(desired),
    }
}

fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|number| number.parse::<i64>().ok());
            let scaled = percent.unwrap_or(0).max(0) * i64::from(total);
            let whole = if round_up {
                (scaled + 99) / 100
            } else {
                scaled / 100
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// Size of the new ReplicaSet in this step of a rollout.
pub(crate) fn new_size(deployment: &Deployment, new: Option<&ReplicaSet>, total: i32) -> i32 {
    let desired = desired(deployment);
    if is_recreate(deployment) {
        return desired;
    }
    let current = new.map_or(0, size);
    if current >= desired {
        return desired;
    }
    let most = desired.saturating_add(bounds(deployment).surge);
    if total >= most {
        return current;
    }
    current + (most - total).min(desired - current)
}

/// New sizes of the old ReplicaSets in this step: unhealthy replicas go first, then as many
/// healthy ones as the bounds allow, from the oldest.
pub(crate) fn old_sizes(
    deployment: &Deployment,
    new: &ReplicaSet,
    old: &[Arc<ReplicaSet>],
) -> Vec<(Arc<ReplicaSet>, i32)> {
    let total: i32 = old.iter().map(|set| size(set)).sum::<i32>() + size(new);
    let min_available = desired(deployment) - bounds(deployment).unavailable;
    let new_unavailable = size(new) - available(new);
    let mut removable = total - min_available - new_unavailable;
    if removable <= 0 {
        return Vec::new();
    }
    let mut sets: Vec<(Arc<ReplicaSet>, i32)> =
        old.iter().map(|set| (set.clone(), size(set))).collect();
    sets.sort_by_key(|(set, _)| (created(&**set), set.name_any()));
    for (set, target) in &mut sets {
        let unhealthy = (*target - available(set)).max(0).min(removable);
        *target -= unhealthy;
        removable -= unhealthy;
    }
    let all_available: i32 = available(new) + old.iter().map(|set| available(set)).sum::<i32>();
    let mut healthy = all_available - min_available;
    for (_, target) in &mut sets {
        let remove = (*target).min(healthy).max(0);
        *target -= remove;
        healthy -= remove;
    }
    sets.retain(|(set, target)| *target != size(set));
    sets
}

/// Sizes after the deployment was scaled in the middle of a rollout: every ReplicaSet grows or
/// shrinks in proportion, and rounding falls to the largest.
pub(crate) fn proportional(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> Vec<(Arc<ReplicaSet>, i32)> {
    let mut active: Vec<Arc<ReplicaSet>> =
        sets.iter().filter(|set| size(set) > 0).cloned().collect();
    let desired = desired(deployment);
    let allowed = if desired > 0 {
        desired.saturating_add(bounds(deployment).surge)
    } else {
        0
    };
    let total: i32 = active.iter().map(|set| size(set)).sum();
    let mut left = allowed - total;
    if left > 0 {
        active.sort_by_key(|set| {
            (
                std::cmp::Reverse(size(set)),
                std::cmp::Reverse(created(&**set)),
            )
        });
    } else {
        active.sort_by_key(|set| (std::cmp::Reverse(size(set)), created(&**set)));
    }
    let mut sizes = Vec::new();
    for set in active {
        let target = (size(&set) + share(&set, allowed, total, left)).max(0);
        left -= target - size(&set);
        sizes.push((set, target));
    }
    if let Some((_, target)) = sizes.first_mut() {
        *target = (*target + left).max(0);
    }
    sizes
}

/// One ReplicaSet's part of the difference, limited by what is left of it.
fn share(set: &ReplicaSet, allowed: i32, total: i32, left: i32) -> i32 {
    if left == 0 || total == 0 {
        return 0;
    }
    let recorded = value(set.metadata.annotations.as_ref(), MAX_REPLICAS)
        .and_then(|most| most.parse::<i64>().ok())
        .filter(|most| *most > 0)
        .unwrap_or(i64::from(total));
    let exact = i64::from(size(set)) * i64::from(allowed);
    let scaled = (exact * 2 + recorded) / (recorded * 2);
    let part = i32::try_from(scaled).unwrap_or(i32::MAX) - size(set);
    if left > 0 {
        part.clamp(0, left)
    } else {
        part.clamp(left, 0)
    }
}

/// True when the deployment's size changed since its ReplicaSets were last given theirs.
pub(crate) fn is_scaling(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter().filter(|set| size(set) > 0).any(|set| {
        value(set.metadata.annotations.as_ref(), DESIRED_REPLICAS)
            .and_then(|recorded| recorded.parse::<i32>().ok())
            .is_some_and(|recorded| recorded != desired(deployment))
    })
}
