//! The changes that bring a Deployment's ReplicaSets one step closer to its declaration.

use std::collections::BTreeMap;
use std::sync::Arc;

use davit_api::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::conditions::{self, Rollout};
use super::revision::{self, annotations, find_new, number};
use super::scale::{self, bounds, desired, size};
use crate::claim::{Claimed, claim};
use crate::error::Error;
use crate::meta::{Key, created, is_terminating};

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    Create(Box<ReplicaSet>),
    Scale {
        set: Arc<ReplicaSet>,
        replicas: i32,
        annotations: BTreeMap<String, String>,
    },
    Annotate {
        set: Arc<ReplicaSet>,
        annotations: BTreeMap<String, String>,
    },
    SetMinReady {
        set: Arc<ReplicaSet>,
        seconds: i32,
    },
    Delete(Arc<ReplicaSet>),
    SetRevision(String),
}

/// A Deployment's ReplicaSets and pods as the caches show them.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) claimed: Claimed<ReplicaSet>,
    /// Pods of ReplicaSets with another template than the present one, still there in any phase
    /// but an ended one.
    pub(crate) old_pods: usize,
    pub(crate) now: Timestamp,
}

/// What one run writes, in this order, and when it wants to look again.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) status: DeploymentStatus,
    pub(crate) look_again_after: Option<u64>,
}

fn selector(deployment: &Deployment) -> Result<LabelSelector, Error> {
    let invalid = |problem: String| Error::Invalid {
        object: Key::of(deployment).to_string(),
        field: "spec.selector",
        problem,
    };
    LabelSelector::try_from(&deployment.spec.selector).map_err(|error| invalid(error.to_string()))
}

/// Deployments that would adopt an orphaned ReplicaSet.
pub(crate) fn possible_owners(set: &ReplicaSet, deployments: &[Arc<Deployment>]) -> Vec<Key> {
    deployments
        .iter()
        .filter(|owner| selector(owner).is_ok_and(|selector| selector.matches(set.labels())))
        .map(|owner| Key::of(&**owner))
        .collect()
}

pub(crate) fn observe(
    deployment: &Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    pods_of: impl Fn(&ReplicaSet) -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Result<Observed, Error> {
    let claimed = claim(deployment, &selector(deployment)?, sets);
    let old_pods = claimed
        .owned
        .iter()
        .filter(|set| !revision::same_template(set, deployment))
        .flat_map(|set| pods_of(set))
        .filter(|pod| !crate::replica_set::is_finished(pod))
        .count();
    Ok(Observed {
        claimed,
        old_pods,
        now,
    })
}

/// The plan of one run.
pub(crate) fn plan(deployment: &Deployment, observed: &Observed) -> Plan {
    let sets = &observed.claimed.owned;
    let new = find_new(deployment, sets);
    let mut changes: Vec<Change> = observed
        .claimed
        .adopt
        .iter()
        .cloned()
        .map(Change::Adopt)
        .collect();
    changes.extend(
        observed
            .claimed
            .release
            .iter()
            .cloned()
            .map(Change::Release),
    );
    let mut created = false;
    let paused = deployment.spec.paused == Some(true);
    // Adopted sets take part from the next run on, when the cache shows them as owned.
    if !is_terminating(deployment) && changes.is_empty() {
        if paused || scale::is_scaling(deployment, sets) {
            changes.extend(resize(deployment, new.as_ref(), sets));
        } else {
            let step = roll(deployment, new.as_ref(), observed);
            created = step
                .iter()
                .any(|change| matches!(change, Change::Create(_)));
            changes.extend(step);
        }
    }
    let rollout = Rollout {
        new: new.as_deref(),
        created,
        all: sets,
        now: observed.now,
    };
    let status = conditions::status(deployment, &rollout);
    if !paused && !is_terminating(deployment) && conditions::is_complete(deployment, &status) {
        changes.extend(clean_up(deployment, new.as_deref(), sets));
    }
    let look_again_after = conditions::deadline_in(deployment, &status, observed.now);
    Plan {
        changes,
        status,
        look_again_after,
    }
}

fn others(new: Option<&Arc<ReplicaSet>>, sets: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    sets.iter()
        .filter(|set| new.is_none_or(|new| !Arc::ptr_eq(new, set)))
        .cloned()
        .collect()
}

/// One step of a rollout: the new ReplicaSet first, then room made by the old ones.
fn roll(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    observed: &Observed,
) -> Vec<Change> {
    let sets = &observed.claimed.owned;
    let old = others(new, sets);
    let revision = old.iter().map(|set| number(&**set)).max().unwrap_or(0) + 1;
    let (most, total) = (most(deployment), sets.iter().map(|set| size(set)).sum());
    let mut changes = Vec::new();
    let old_running = old.iter().any(|set| size(set) > 0) || observed.old_pods > 0;
    if scale::is_recreate(deployment) && old_running {
        changes.extend(
            old.iter()
                .filter(|set| size(set) > 0)
                .map(|set| Change::Scale {
                    set: set.clone(),
                    replicas: 0,
                    annotations: counts(desired(deployment), most),
                }),
        );
        return changes;
    }
    let target = scale::new_size(deployment, new.map(|set| &**set), total);
    let notes = annotations(
        deployment,
        new.map(|set| &**set),
        revision,
        desired(deployment),
        most,
    );
    let shown = notes.get(revision::REVISION).cloned().unwrap_or_default();
    match new {
        None => {
            changes.push(Change::Create(Box::new(revision::new_set(
                deployment, target, notes,
            ))));
        }
        Some(set) => {
            let min_ready = deployment.spec.min_ready_seconds;
            let stale = notes
                .iter()
                .any(|(key, value)| set.annotations().get(key) != Some(value));
            if size(set) != target {
                changes.push(Change::Scale {
                    set: set.clone(),
                    replicas: target,
                    annotations: notes,
                });
            } else if stale {
                changes.push(Change::Annotate {
                    set: set.clone(),
                    annotations: notes,
                });
            }
            if set.spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                let seconds = min_ready.unwrap_or(0);
                changes.push(Change::SetMinReady {
                    set: set.clone(),
                    seconds,
                });
            }
            if size(set) == target {
                let sizes = scale::old_sizes(deployment, set, &old);
                changes.extend(sizes.into_iter().map(|(set, replicas)| Change::Scale {
                    set,
                    replicas,
                    annotations: counts(desired(deployment), most),
                }));
            }
        }
    }
    if number(deployment).to_string() != shown {
        changes.push(Change::SetRevision(shown));
    }
    changes
}

/// Follows a change of `spec.replicas` without moving the rollout on.
fn resize(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    sets: &[Arc<ReplicaSet>],
) -> Vec<Change> {
    let active: Vec<&Arc<ReplicaSet>> = sets.iter().filter(|set| size(set) > 0).collect();
    let targets = match (active.as_slice(), new) {
        ([], Some(new)) => vec![(new.clone(), desired(deployment))],
        ([only], _) => vec![((*only).clone(), desired(deployment))],
        _ if scale::is_recreate(deployment) => Vec::new(),
        _ => scale::proportional(deployment, sets),
    };
    let counts = counts(desired(deployment), most(deployment));
    targets
        .into_iter()
        .filter_map(|(set, replicas)| {
            let stale = counts
                .iter()
                .any(|(key, value)| set.annotations().get(key) != Some(value));
            let annotations = counts.clone();
            if size(&set) != replicas {
                Some(Change::Scale {
                    set,
                    replicas,
                    annotations,
                })
            } else {
                stale.then_some(Change::Annotate { set, annotations })
            }
        })
        .collect()
}

/// Deletes empty old ReplicaSets beyond the history limit, the oldest revisions first.
fn clean_up(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    sets: &[Arc<ReplicaSet>],
) -> Vec<Change> {
    let limit = deployment.spec.revision_history_limit;
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let new_name = new.map(|new| new.name_any());
    let mut old: Vec<&Arc<ReplicaSet>> = sets
        .iter()
        .filter(|set| Some(set.name_any()) != new_name && !is_terminating(&***set))
        .collect();
    let excess = old.len().saturating_sub(limit);
    old.sort_by_key(|set| (number(&***set), created(&***set)));
    old.into_iter()
        .take(excess)
        .filter(|set| {
            let idle = set
                .status
                .as_ref()
                .is_none_or(|status| status.replicas == 0);
            size(set) == 0 && idle
        })
        .map(|set| Change::Delete(set.clone()))
        .collect()
}

fn most(deployment: &Deployment) -> i32 {
    desired(deployment).saturating_add(bounds(deployment).surge)
}

fn counts(desired: i32, most: i32) -> BTreeMap<String, String> {
    BTreeMap::from([
        (revision::DESIRED_REPLICAS.to_owned(), desired.to_string()),
        (revision::MAX_REPLICAS.to_owned(), most.to_string()),
    ])
}

#[cfg(test)]
mod tests;
