//! What the pods of a ReplicaSet or ReplicationController need: how many to create, which to delete, and the status to report.

use std::cmp::Ordering;
use std::sync::Arc;

use davit_api::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::kind::Replicated;
use crate::claim::{Claimed, claim};
use crate::error::Error;
use crate::meta::{Key, created, is_terminating, now, owned_by, value};

/// Most pods created or deleted in one run.
const BURST: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A ReplicaSet's pods as the cache shows them.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) claimed: Claimed<Pod>,
    pub(crate) now: Timestamp,
}

/// Replicas by what they have reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) terminating: i32,
}

/// Changes that bring the pods closer to the declaration.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    pub(crate) counts: Counts,
    /// Seconds until a ready pod becomes available by `minReadySeconds`.
    pub(crate) look_again_after: Option<u64>,
}

/// The set's selector.
///
/// # Errors
/// [`Error::Invalid`] when the stored selector cannot be used.
pub(crate) fn selector<K: Replicated>(set: &K) -> Result<LabelSelector, Error> {
    set.selector().map_err(|problem| Error::Invalid {
        object: Key::of(set).to_string(),
        field: "spec.selector",
        problem,
    })
}

/// ReplicaSets that would adopt an orphaned pod.
pub(crate) fn possible_owners<K: Replicated>(pod: &Pod, sets: &[Arc<K>]) -> Vec<Key> {
    sets.iter()
        .filter(|set| selector(&***set).is_ok_and(|selector| selector.matches(pod.labels())))
        .map(|set| Key::of(&**set))
        .collect()
}

pub(crate) fn observe<K: Replicated>(
    set: &K,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
) -> Result<Observed, Error> {
    let living = pods.into_iter().filter(|pod| !is_finished(pod)).collect();
    Ok(Observed {
        claimed: claim(set, &selector(set)?, living),
        now,
    })
}

/// The plan of one run.
pub(crate) fn plan<K: Replicated>(set: &K, observed: &Observed) -> Plan {
    let (terminating, active): (Vec<_>, Vec<_>) = observed
        .claimed
        .owned
        .iter()
        .cloned()
        .partition(|pod| is_terminating(&**pod));
    let (counts, look_again_after) = count(set, &active, terminating.len(), observed.now);
    let mut plan = Plan {
        create: 0,
        delete: Vec::new(),
        adopt: observed.claimed.adopt.clone(),
        release: observed.claimed.release.clone(),
        counts,
        look_again_after,
    };
    if is_terminating(set) {
        return plan;
    }
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let have = active.len() + plan.adopt.len();
    if have < wanted {
        plan.create = (wanted - have).min(BURST);
    } else if have > wanted {
        let mut ranked = active;
        ranked.sort_by(|a, b| deletion_order(a, b));
        ranked.truncate((have - wanted).min(BURST));
        plan.delete = ranked;
    }
    plan
}

fn count<K: Replicated>(
    set: &K,
    active: &[Arc<Pod>],
    terminating: usize,
    now: Timestamp,
) -> (Counts, Option<u64>) {
    let min_ready = set.min_ready_seconds();
    let labels = set
        .template()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let mut counts = Counts {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        terminating: i32::try_from(terminating).unwrap_or(i32::MAX),
        ..Counts::default()
    };
    let mut wait: Option<u64> = None;
    for pod in active {
        if labels
            .into_iter()
            .flatten()
            .all(|(k, v)| pod.labels().get(k) == Some(v))
        {
            counts.fully_labeled += 1;
        }
        let Some(since) = ready_since(pod) else {
            continue;
        };
        counts.ready += 1;
        let left = since.as_second() + i64::from(min_ready) - now.as_second();
        if left <= 0 {
            counts.available += 1;
        } else {
            let left = u64::try_from(left).unwrap_or(1);
            wait = Some(wait.map_or(left, |wait| wait.min(left)));
        }
    }
    (counts, wait)
}

/// The status to report; times of conditions that did not change are kept.
pub(crate) fn status<K: Replicated>(
    set: &K,
    plan: &Plan,
    failure: Option<String>,
) -> ReplicaSetStatus {
    let old = set.status().unwrap_or_default();
    let mut conditions = old.conditions.unwrap_or_default();
    let known = conditions
        .iter()
        .position(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match (failure, known) {
        (Some(message), None) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(
                if plan.create > 0 {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .into(),
            ),
            message: Some(message),
            last_transition_time: Some(now()),
        }),
        (None, Some(index)) => {
            conditions.remove(index);
        }
        _ => {}
    }
    ReplicaSetStatus {
        replicas: plan.counts.replicas,
        fully_labeled_replicas: Some(plan.counts.fully_labeled),
        ready_replicas: Some(plan.counts.ready),
        available_replicas: Some(plan.counts.available),
        terminating_replicas: K::TELLS_TERMINATING.then_some(plan.counts.terminating),
        observed_generation: set.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// The pod to create.
///
/// # Errors
/// [`Error::Missing`] when the stored set has no template.
pub(crate) fn pod_of<K: Replicated>(set: &K) -> Result<Pod, Error> {
    let missing = || Error::Missing {
        object: Key::of(set).to_string(),
        field: "spec.template",
    };
    let template = set.template().ok_or_else(missing)?;
    let meta = template.metadata.clone().unwrap_or_default();
    Ok(Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owned_by(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone().unwrap_or_else(PodSpec::default)),
        status: None,
    })
}

/// True once the pod's containers have ended for good.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Since when the pod's Ready condition has been true.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    (ready.status == "True").then(|| {
        ready
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    })
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

/// Kubernetes' order of giving up pods: the least useful first.
fn deletion_order(a: &Pod, b: &Pod) -> Ordering {
    let assigned = |pod: &Pod| {
        pod.spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
    };
    let progress = |pod: &Pod| match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| {
        value(pod.metadata.annotations.as_ref(), DELETION_COST)
            .and_then(|cost| cost.parse::<i32>().ok())
            .unwrap_or(0)
    };
    let ready = |pod: &Pod| ready_since(pod).map(|since| since.as_second());
    assigned(a)
        .cmp(&assigned(b))
        .then(progress(a).cmp(&progress(b)))
        .then(ready(a).is_some().cmp(&ready(b).is_some()))
        .then(cost(a).cmp(&cost(b)))
        .then(ready(b).cmp(&ready(a)))
        .then(restarts(b).cmp(&restarts(a)))
        .then(created(b).cmp(&created(a)))
        .then(a.name_any().cmp(&b.name_any()))
}

#[cfg(test)]
mod tests;
