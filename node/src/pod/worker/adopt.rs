//! Going on with a pod that an earlier agent ran: what was saved is compared with what still runs.
use k8s_openapi::api::core::v1::{
    ContainerState as ApiState, ContainerStateTerminated, ContainerStatus as ApiStatus, Pod,
};
use k8s_openapi::jiff::Timestamp;

use super::super::act::resize::read_back;
use super::super::members;
use super::super::observed::{Exit, HoldPhase, Known, Observed, Phase};
use super::super::step::{Outcome, Started, Step};
use super::Worker;
use crate::runtime::{ContainerState, ContainerStatus};

impl Worker {
    /// Compares what was saved with the sandbox; exits that happened meanwhile are taken in.
    pub(super) async fn adopt(&mut self) {
        if self.seen.volumes.phase == HoldPhase::Ready {
            // They are mounted, but where is not saved: preparing them again finds them.
            self.seen.volumes.phase = HoldPhase::Broken;
        }
        if self.seen.sandbox.phase != HoldPhase::Ready {
            return;
        }
        let uid = members::uid(&self.pod).to_owned();
        // First listen, then look, so that no exit falls between.
        self.sandbox = self.ground.services.runtime.events(&uid);
        let containers = self.ground.services.runtime.containers(&uid).await;
        match containers {
            Some(containers) if self.sandbox.is_some() => self.compare(containers).await,
            _ => {
                self.sandbox = None;
                self.sandbox_lost().await;
            }
        }
    }

    async fn compare(&mut self, containers: Vec<ContainerState>) {
        for container in containers {
            match container.status {
                ContainerStatus::Exited(exit) => self.container_exited(exit).await,
                ContainerStatus::Running { pid, started_at } => {
                    self.found_running(container.name, container.id, pid, started_at)
                }
                ContainerStatus::Starting => {}
            }
        }
        self.early.clear();
        self.look_at_limits();
    }

    /// What an earlier agent knew of limits may have changed since, or it did not ask.
    fn look_at_limits(&mut self) {
        let act = self.act(&Step::WakeAt(Timestamp::now()));
        for (name, limits) in read_back(&act, &self.running_ids()) {
            self.seen.note_limits(&name, limits);
        }
    }

    /// A container whose start was under way when the agent died.
    fn found_running(&mut self, name: String, id: String, pid: i32, at: Timestamp) {
        let known = self.seen.containers.get(&name).and_then(Known::running);
        if known.is_none_or(|running| running.id != id)
            && members::member(&self.pod, &name).is_some()
        {
            self.finish(Outcome::Started {
                container: name,
                result: Ok(Started {
                    id,
                    pid,
                    at,
                    limits: None,
                }),
            });
        }
    }
}

/// What a pod's status tells of it, where nothing was saved on this node: all that ran is taken as ended.
pub(super) fn from_status(pod: &Pod) -> Observed {
    let mut seen = Observed::default();
    let Some(status) = &pod.status else {
        return seen;
    };
    seen.start_time = status.start_time.as_ref().map(|time| time.0);
    let inits = status.init_container_statuses.iter().flatten();
    let added = status.ephemeral_container_statuses.iter().flatten();
    let mains = status.container_statuses.iter().flatten();
    for own in inits.chain(mains).chain(added) {
        seen.containers.insert(own.name.clone(), known(own));
    }
    let has_run = |own: &ApiStatus| {
        own.state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    seen.main_started = status.container_statuses.iter().flatten().any(has_run);
    if seen.main_started {
        // There was a sandbox; the next one is not the first.
        seen.sandbox_attempts = 1;
    }
    seen
}

fn known(status: &ApiStatus) -> Known {
    let mut known = Known {
        last_exit: status.last_state.as_ref().and_then(exit),
        ..Known::default()
    };
    let state = status.state.clone().unwrap_or_default();
    let id = status
        .container_id
        .as_deref()
        .and_then(|id| id.strip_prefix("davit://"))
        .unwrap_or_default();
    let ended = exit(&state).or_else(|| {
        let started_at = state
            .running
            .as_ref()?
            .started_at
            .as_ref()
            .map(|time| time.0);
        Some(Exit {
            id: id.to_owned(),
            started_at,
            ..lost()
        })
    });
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    if ended.is_some() || known.last_exit.is_some() {
        known.attempts = restarts.saturating_add(1);
    }
    if let Some(ended) = ended.or_else(|| known.last_exit.take()) {
        known.phase = Phase::Exited(ended);
    }
    known
}

fn exit(state: &ApiState) -> Option<Exit> {
    let ContainerStateTerminated {
        container_id,
        exit_code,
        finished_at,
        message,
        reason,
        signal,
        started_at,
    } = state.terminated.clone()?;
    let id = container_id
        .as_deref()
        .and_then(|id| id.strip_prefix("davit://"))
        .unwrap_or_default()
        .to_owned();
    Some(Exit {
        id,
        exit_code,
        signal,
        reason: reason.unwrap_or_default(),
        message,
        started_at: started_at.map(|time| time.0),
        finished_at: finished_at.map(|time| time.0),
        ..Exit::default()
    })
}

fn lost() -> Exit {
    Exit {
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        finished_at: Some(Timestamp::now()),
        ..Exit::default()
    }
}
