//! Conditions and counts that a Deployment reports about its rollout.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use kube::ResourceExt;

use super::scale::{available, bounds, desired, size};
use crate::meta::at;

/// Progress deadline that means "none".
const NO_DEADLINE: i32 = i32::MAX;

/// What the rollout looks like after this run.
#[derive(Debug)]
pub(crate) struct Rollout<'a> {
    pub(crate) new: Option<&'a ReplicaSet>,
    /// A new ReplicaSet is created in this run.
    pub(crate) created: bool,
    /// Every ReplicaSet of the deployment, the new one included.
    pub(crate) all: &'a [Arc<ReplicaSet>],
    pub(crate) now: Timestamp,
}

/// The status to report. Counts come from the ReplicaSets' own statuses.
pub(crate) fn status(deployment: &Deployment, rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| rollout.all.iter().map(|set| count(set)).sum::<i32>();
    let replicas = sum(|set| set.status.as_ref().map_or(0, |status| status.replicas));
    let ready = sum(|set| {
        set.status
            .as_ref()
            .and_then(|s| s.ready_replicas)
            .unwrap_or(0)
    });
    let terminating = sum(|set| {
        set.status
            .as_ref()
            .and_then(|s| s.terminating_replicas)
            .unwrap_or(0)
    });
    let updated = rollout
        .new
        .and_then(|new| new.status.as_ref())
        .map_or(0, |status| status.replicas);
    let available = sum(available);
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        unavailable_replicas: Some((sum(size).max(replicas) - available).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    set(
        &mut conditions,
        availability(deployment, available, rollout.now),
    );
    match progress(deployment, &old, &status, rollout) {
        Some(condition) => set(&mut conditions, condition),
        None => conditions.retain(|condition| !is(condition, "Progressing")),
    }
    match failure(rollout) {
        Some(condition) => set(&mut conditions, condition),
        None => conditions.retain(|condition| !is(condition, "ReplicaFailure")),
    }
    status.conditions = Some(conditions);
    status
}

/// Seconds until the progress deadline passes, while a rollout is under way.
pub(crate) fn deadline_in(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<u64> {
    let limit = progress_deadline(deployment)?;
    let progressing = find(status.conditions.as_deref(), "Progressing")?;
    if is_complete(deployment, status) || progressing.status.as_deref() == Some("False") {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0.as_second();
    let left = since + i64::from(limit) - now.as_second();
    u64::try_from(left.max(0) + 1).ok()
}

fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    let spec = &deployment.spec;
    Some(spec.progress_deadline_seconds.unwrap_or(600)).filter(|limit| *limit != NO_DEADLINE)
}

/// True when every replica runs the present template and is available.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = Some(desired(deployment));
    status.updated_replicas == desired
        && status.replicas == desired
        && status.available_replicas == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn availability(deployment: &Deployment, available: i32, now: Timestamp) -> DeploymentCondition {
    let enough = available >= desired(deployment) - bounds(deployment).unavailable;
    if enough {
        let message = "Deployment has minimum availability.";
        condition(
            "Available",
            true,
            "MinimumReplicasAvailable",
            message.into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.";
        condition(
            "Available",
            false,
            "MinimumReplicasUnavailable",
            message.into(),
            now,
        )
    }
}

fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    rollout: &Rollout<'_>,
) -> Option<DeploymentCondition> {
    let limit = progress_deadline(deployment)?;
    let known = find(old.conditions.as_deref(), "Progressing");
    let paused = deployment.spec.paused == Some(true);
    let name = match rollout.new {
        Some(set) => format!("ReplicaSet {:?}", set.name_any()),
        None => format!("Deployment {:?}", deployment.name_any()),
    };
    let make =
        |ok, reason, message| Some(condition("Progressing", ok, reason, message, rollout.now));
    if rollout.created {
        let message = format!("Created new replica set for {:?}", deployment.name_any());
        return make(true, "NewReplicaSetCreated", message);
    }
    if paused {
        let message = "Deployment is paused".to_owned();
        return make_unless(known, "DeploymentPaused", || {
            condition(
                "Progressing",
                false,
                "DeploymentPaused",
                message,
                rollout.now,
            )
            .with_status("Unknown")
        });
    }
    if known.is_some_and(|known| known.reason.as_deref() == Some("DeploymentPaused")) {
        return make(true, "DeploymentResumed", "Deployment is resumed".into());
    }
    if is_complete(deployment, new) {
        let message = format!("{name} has successfully progressed.");
        return make_unless(known, "NewReplicaSetAvailable", || {
            condition(
                "Progressing",
                true,
                "NewReplicaSetAvailable",
                message,
                rollout.now,
            )
        });
    }
    if has_progressed(old, new) || known.is_none() {
        return make(true, "ReplicaSetUpdated", format!("{name} is progressing."));
    }
    let known = known?;
    if known.reason.as_deref() == Some("NewReplicaSetAvailable") {
        // A finished rollout that lost a pod is not a rollout that is late.
        return Some(known.clone());
    }
    let since = known
        .last_update_time
        .as_ref()
        .map_or(0, |time| time.0.as_second());
    if known.status.as_deref() != Some("False")
        && rollout.now.as_second() - since > i64::from(limit)
    {
        let message = format!("{name} has timed out progressing.");
        return make(false, "ProgressDeadlineExceeded", message);
    }
    Some(known.clone())
}

/// Keeps a condition that already says this, so that its times stay.
fn make_unless(
    known: Option<&DeploymentCondition>,
    reason: &str,
    make: impl FnOnce() -> DeploymentCondition,
) -> Option<DeploymentCondition> {
    match known {
        Some(known) if known.reason.as_deref() == Some(reason) => Some(known.clone()),
        _ => Some(make()),
    }
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let old_of_old = old.replicas.unwrap_or(0) - old.updated_replicas.unwrap_or(0);
    let old_of_new = new.replicas.unwrap_or(0) - new.updated_replicas.unwrap_or(0);
    new.updated_replicas > old.updated_replicas
        || old_of_new < old_of_old
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn failure(rollout: &Rollout<'_>) -> Option<DeploymentCondition> {
    let sets = rollout
        .new
        .into_iter()
        .chain(rollout.all.iter().map(|set| &**set));
    let failed = sets
        .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|condition| {
            condition.type_.as_deref() == Some("ReplicaFailure")
                && condition.status.as_deref() == Some("True")
        })?;
    let reason = failed.reason.clone().unwrap_or_default();
    let message = failed.message.clone().unwrap_or_default();
    Some(condition(
        "ReplicaFailure",
        true,
        &reason,
        message,
        rollout.now,
    ))
}

fn condition(
    type_: &str,
    ok: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.into()),
        status: Some(if ok { "True" } else { "False" }.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(at(now)),
        last_transition_time: Some(at(now)),
    }
}

trait WithStatus {
    fn with_status(self, status: &str) -> Self;
}

impl WithStatus for DeploymentCondition {
    fn with_status(mut self, status: &str) -> Self {
        self.status = Some(status.to_owned());
        self
    }
}

/// Puts a condition in place of the one of its type; the transition time changes with the status
/// only, and nothing changes while status and reason stay.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
                let progressing = is(&new, "Progressing") && old.message != new.message;
                if old.reason == new.reason
                    && new.reason.as_deref() != Some("ReplicaSetUpdated")
                    && !progressing
                {
                    return;
                }
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

fn is(condition: &DeploymentCondition, type_: &str) -> bool {
    condition.type_.as_deref() == Some(type_)
}

fn find<'a>(
    conditions: Option<&'a [DeploymentCondition]>,
    type_: &str,
) -> Option<&'a DeploymentCondition> {
    conditions?.iter().find(|condition| is(condition, type_))
}
