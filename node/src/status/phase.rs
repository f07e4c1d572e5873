//! `status.phase`, as kubelet's `getPhase` derives it from the containers.
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pod::members::{self, Role};
use crate::pod::observed::Observed;
use crate::pod::plan::is_complete;
use crate::pod::restart::{Policy, pod_policy};

/// How many containers are in each state.
#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
    uninitialized: usize,
}

/// The phase for these container statuses. A terminal phase stays for ever.
pub(super) fn phase(
    pod: &Pod,
    seen: &Observed,
    inits: &[ContainerStatus],
    containers: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    match pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => {}
    }
    if seen.failure.is_some() {
        return "Failed";
    }
    let mut count = Count::default();
    for (member, status) in members::init_members(pod).zip(inits) {
        count.init(member.role, status, seen.main_started);
    }
    for status in containers {
        count.main(status);
    }
    let phase = count.phase(pod, ended || is_complete(pod, seen));
    match phase {
        "Pending" | "Running" if ended => "Failed",
        other => other,
    }
}

impl Count {
    fn init(&mut self, role: Role, status: &ContainerStatus, main_started: bool) {
        let state = status.state.clone().unwrap_or_default();
        let was_terminated = status
            .last_state
            .as_ref()
            .is_some_and(|last| last.terminated.is_some());
        if role == Role::Sidecar {
            if state.running.is_some() {
                self.running += 1;
                if !status.started.unwrap_or(false) && !main_started {
                    self.uninitialized += 1;
                }
            } else if state.waiting.is_some() && !was_terminated && !main_started {
                self.uninitialized += 1;
            }
            return;
        }
        let pending = state.running.is_some() || (state.waiting.is_some() && !was_terminated);
        if pending && !main_started {
            self.uninitialized += 1;
        }
    }

    fn main(&mut self, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            self.running += 1;
        } else if let Some(terminated) = state.terminated {
            self.stopped += 1;
            self.succeeded += usize::from(terminated.exit_code == 0);
        } else if status
            .last_state
            .as_ref()
            .is_some_and(|last| last.terminated.is_some())
        {
            self.stopped += 1;
        } else {
            self.waiting += 1;
        }
    }

    fn phase(&self, pod: &Pod, terminal: bool) -> &'static str {
        let all_succeeded = self.stopped == self.succeeded;
        if terminal && self.waiting > 0 {
            // An init container failed for good, or the pod was ended before it was up.
            return "Failed";
        }
        if self.uninitialized > 0 || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 {
            return "Running";
        }
        if self.stopped == 0 {
            return "Pending";
        }
        if terminal {
            return if all_succeeded { "Succeeded" } else { "Failed" };
        }
        match pod_policy(pod) {
            Policy::OnFailure if all_succeeded => "Succeeded",
            Policy::Never if all_succeeded => "Succeeded",
            Policy::Never => "Failed",
            Policy::OnFailure | Policy::Always => "Running",
        }
    }
}
