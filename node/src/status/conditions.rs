//! `status.conditions`, with kubelet's reasons and messages.
use std::borrow::Cow;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::pod::members::{self, Role};
use crate::pod::observed::{HoldPhase, Observed, Problem};

/// Sets the conditions this node owns in `status`, keeping those of others.
pub(super) fn update(pod: &Pod, status: &mut PodStatus, seen: &Observed, now: Timestamp) {
    let sandbox_ready = seen.sandbox.phase == HoldPhase::Ready;
    let ready_to_start = sandbox_ready && status.pod_ip.is_some();
    let containers_ready = containers_ready(pod, status);
    let ready = pod_ready(pod, status, &containers_ready);
    let own = [
        Verdict::plain(ready_to_start).named("PodReadyToStartContainers"),
        initialized(pod, status).named("Initialized"),
        ready.named("Ready"),
        containers_ready.named("ContainersReady"),
        Verdict::plain(true).named("PodScheduled"),
    ];
    let mut conditions = status.conditions.take().unwrap_or_default();
    for (type_, verdict) in own {
        set(
            &mut conditions,
            type_,
            verdict,
            pod.metadata.generation,
            now,
        );
    }
    for (type_, verdict) in resize(seen) {
        match verdict {
            Some(verdict) => set(
                &mut conditions,
                type_,
                verdict,
                pod.metadata.generation,
                now,
            ),
            None => conditions.retain(|condition| condition.type_ != type_),
        }
    }
    status.conditions = Some(conditions);
}

/// The two conditions of an in-place resize (KEP-1287), which are there only while there is something to tell.
fn resize(seen: &Observed) -> [(&'static str, Option<Verdict>); 2] {
    let told = |problem: &Problem| Verdict {
        status: true,
        reason: Some(problem.reason.clone().into()),
        message: Some(problem.message.clone()),
    };
    let pending = seen.resize_pending().map(told);
    let in_progress = seen
        .resize_in_progress()
        .map(|problem| problem.map_or(Verdict::plain(true), told));
    [
        ("PodResizePending", pending),
        ("PodResizeInProgress", in_progress),
    ]
}

/// A condition's value with reason and message.
#[derive(Clone)]
struct Verdict {
    status: bool,
    reason: Option<Cow<'static, str>>,
    message: Option<String>,
}

impl Verdict {
    fn plain(status: bool) -> Self {
        Self {
            status,
            reason: None,
            message: None,
        }
    }

    fn because(status: bool, reason: &'static str, message: Option<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
            message,
        }
    }

    fn named(self, type_: &'static str) -> (&'static str, Self) {
        (type_, self)
    }
}

fn set(
    conditions: &mut Vec<PodCondition>,
    type_: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if verdict.status { "True" } else { "False" };
    let old = conditions
        .iter()
        .position(|condition| condition.type_ == type_);
    let kept = old
        .and_then(|at| conditions.get(at))
        .filter(|condition| condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let condition = PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(Cow::into_owned),
        message: verdict.message,
        last_transition_time: kept.or(Some(Time(now))),
        observed_generation: generation,
        last_probe_time: None,
    };
    match old.and_then(|at| conditions.get_mut(at)) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::because(false, "PodCompleted", None),
        Some("Failed") => return Verdict::because(false, "PodFailed", None),
        _ => {}
    }
    let counted = members::members(pod).filter(|member| member.role != Role::Init);
    let unready: Vec<String> = counted
        .map(|member| member.container.name.clone())
        .filter(|name| !statuses(status).any(|status| status.name == *name && status.ready))
        .collect();
    if unready.is_empty() {
        return Verdict::plain(true);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::because(false, "ContainersNotReady", Some(message))
}

fn pod_ready(pod: &Pod, status: &PodStatus, containers_ready: &Verdict) -> Verdict {
    if !containers_ready.status {
        return containers_ready.clone();
    }
    let mut unready = Vec::new();
    for gate in members::spec(pod).readiness_gates.iter().flatten() {
        let type_ = &gate.condition_type;
        match status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == *type_)
        {
            None => unready.push(format!(
                "corresponding condition of pod readiness gate \"{type_}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => unready.push(format!(
                "the status of pod readiness gate \"{type_}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    if unready.is_empty() {
        return Verdict::plain(true);
    }
    Verdict::because(false, "ReadinessGatesNotReady", Some(unready.join(", ")))
}

fn initialized(pod: &Pod, status: &PodStatus) -> Verdict {
    if status.phase.as_deref() == Some("Succeeded") {
        return Verdict::because(true, "PodCompleted", None);
    }
    let has_run = |container: &ContainerStatus| {
        let running = container
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        running
            || container
                .last_state
                .as_ref()
                .is_some_and(|last| last.terminated.is_some())
    };
    if status.container_statuses.iter().flatten().any(has_run) {
        return Verdict::plain(true);
    }
    let incomplete: Vec<String> = members::init_members(pod)
        .filter(|member| {
            let own = status
                .init_container_statuses
                .iter()
                .flatten()
                .find(|status| status.name == member.name());
            !own.is_some_and(|own| match member.role {
                Role::Sidecar => own.started.unwrap_or(false),
                Role::Init | Role::Main | Role::Ephemeral => own.ready,
            })
        })
        .map(|member| member.container.name.clone())
        .collect();
    if incomplete.is_empty() {
        return Verdict::plain(true);
    }
    let message = format!(
        "containers with incomplete status: [{}]",
        incomplete.join(" ")
    );
    Verdict::because(false, "ContainersNotInitialized", Some(message))
}
