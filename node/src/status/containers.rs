//! Statuses of single containers.
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::resources;
use crate::pod::backoff::go_duration;
use crate::pod::members::{self, Member, Role};
use crate::pod::observed::{
    Exit, Hook, ImageId, ImagePhase, Known, Observed, Phase, Problem, Running,
};
use crate::pod::plan::{PULL_ERROR_SHOWN, crash_wait};
use crate::pod::restart::restarts;
use crate::pod::step::ProbeKind;

/// What statuses are made from.
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) seen: &'a Observed,
    pub(super) now: Timestamp,
    /// The pod is ending and nothing of it runs any more.
    pub(super) ended: bool,
}

/// `state` and `lastState` of a container, and the run they tell of.
#[derive(Default)]
struct States {
    state: ContainerState,
    last: Option<ContainerState>,
    id: Option<String>,
    image: Option<ImageId>,
}

impl View<'_> {
    pub(super) fn main_statuses(&self) -> Vec<ContainerStatus> {
        members::main_members(self.pod)
            .map(|member| self.status(&member))
            .collect()
    }

    pub(super) fn init_statuses(&self) -> Vec<ContainerStatus> {
        members::init_members(self.pod)
            .map(|member| self.status(&member))
            .collect()
    }

    /// They are neither ready nor started, as nothing waits for them.
    pub(super) fn ephemeral_statuses(&self) -> Vec<ContainerStatus> {
        let statuses = members::ephemeral_members(self.pod).map(|member| ContainerStatus {
            ready: false,
            started: None,
            ..self.status(&member)
        });
        statuses.collect()
    }

    fn status(&self, member: &Member<'_>) -> ContainerStatus {
        let untouched = Known::default();
        let known = self
            .seen
            .containers
            .get(member.name())
            .unwrap_or(&untouched);
        let states = self.states(member, known);
        let running = known.running().filter(|_| states.state.running.is_some());
        let started = running.is_some_and(|running| running.is_started(member));
        let image = states.image.unwrap_or_default();
        let asked = || member.container.resources.clone();
        let allotted = known
            .allotted
            .as_ref()
            .map(|own| own.0.clone())
            .or_else(asked);
        ContainerStatus {
            name: member.name().to_owned(),
            restart_count: i32::try_from(known.restarts()).unwrap_or(i32::MAX),
            ready: is_ready(member, running, &states.state),
            started: Some(started),
            image: if image.name.is_empty() {
                member.container.image.clone().unwrap_or_default()
            } else {
                image.name
            },
            image_id: image.digest,
            container_id: states.id.map(|id| format!("davit://{id}")),
            state: Some(states.state),
            last_state: states.last,
            volume_mounts: volume_mounts(member),
            resources: running.and_then(|running| {
                resources::in_force(allotted.as_ref()?, running.limits.as_ref()?)
            }),
            allocated_resources: running
                .and(allotted.as_ref())
                .and_then(|own| own.requests.clone()),
            stop_signal: running.and_then(|_| {
                member
                    .container
                    .lifecycle
                    .as_ref()
                    .and_then(|lifecycle| lifecycle.stop_signal.clone())
            }),
            ..ContainerStatus::default()
        }
    }

    fn states(&self, member: &Member<'_>, known: &Known) -> States {
        let last = known.last_exit.as_ref().map(terminated);
        match &known.phase {
            Phase::Running(running)
                if running.post_start != Hook::Done && running.stop.is_none() =>
            {
                States {
                    state: self.waiting(None),
                    last,
                    id: Some(running.id.clone()),
                    image: Some(running.image.clone()),
                }
            }
            Phase::Running(running) => States {
                state: ContainerState {
                    running: Some(ContainerStateRunning {
                        started_at: Some(Time(running.started_at)),
                    }),
                    ..ContainerState::default()
                },
                last,
                id: Some(running.id.clone()),
                image: Some(running.image.clone()),
            },
            Phase::Exited(exit) => self.exited(member, known, exit, last),
            // Between an exit and the next start the exit is still the state, as long as nothing went wrong.
            Phase::Starting => match known.last_exit.as_ref().filter(|_| known.problem.is_none()) {
                Some(exit) => self.exited(member, known, exit, None),
                None => self.not_started(known, last),
            },
            Phase::Waiting => self.not_started(known, last),
        }
    }

    fn exited(
        &self,
        member: &Member<'_>,
        known: &Known,
        exit: &Exit,
        last: Option<ContainerState>,
    ) -> States {
        let id = (!exit.id.is_empty()).then(|| exit.id.clone());
        let image = Some(exit.image.clone());
        let again = !self.ended
            && !crate::pod::plan::is_ending(self.pod, self.seen)
            && restarts(self.pod, member, exit);
        match self.obstacle(known).filter(|_| again) {
            Some(problem) => States {
                state: self.waiting(Some(&problem)),
                last: Some(terminated(exit)),
                id,
                image,
            },
            None => States {
                state: terminated(exit),
                last,
                id,
                image,
            },
        }
    }

    fn not_started(&self, known: &Known, last: Option<ContainerState>) -> States {
        let exit = known.last_exit.as_ref();
        let id = exit.map(|exit| exit.id.clone()).filter(|id| !id.is_empty());
        let image = exit.map(|exit| exit.image.clone());
        if self.ended && self.seen.main_started {
            return States {
                state: lost(),
                last,
                id,
                image,
            };
        }
        States {
            state: self.waiting(self.obstacle(known).as_ref()),
            last,
            id,
            image,
        }
    }

    /// What keeps a container from running now.
    fn obstacle(&self, known: &Known) -> Option<Problem> {
        if known.exited().is_some() && crash_wait(known, self.now).is_some() {
            let delay = go_duration(known.crashes.delay());
            let name = self.name_of(known);
            let pod = members::display(self.pod);
            let message = format!("back-off {delay} restarting failed container={name} pod={pod}");
            return Some(Problem::new("CrashLoopBackOff", message));
        }
        self.image_problem(known).or_else(|| known.problem.clone())
    }

    fn image_problem(&self, known: &Known) -> Option<Problem> {
        let problem = known.image.problem.as_ref()?;
        if matches!(known.image.phase, ImagePhase::Present(_)) {
            return None;
        }
        let turn = known
            .image
            .failed_at
            .and_then(|at| at.checked_add(PULL_ERROR_SHOWN).ok());
        let pull = matches!(
            problem.reason.as_str(),
            "ErrImagePull" | "RegistryUnavailable"
        );
        if !pull || turn.is_none_or(|turn| self.now < turn) {
            return Some(problem.clone());
        }
        let Problem { reason, message } = problem;
        let image = &known.image.spec_image;
        Some(Problem::new(
            "ImagePullBackOff",
            format!("Back-off pulling image \"{image}\": {reason}: {message}"),
        ))
    }

    fn name_of(&self, known: &Known) -> &str {
        let entry = self
            .seen
            .containers
            .iter()
            .find(|(_, other)| std::ptr::eq(*other, known));
        entry.map_or("", |(name, _)| name)
    }

    fn waiting(&self, problem: Option<&Problem>) -> ContainerState {
        let has_init = members::init_members(self.pod).next().is_some();
        let idle = if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        let waiting = match problem {
            Some(Problem { reason, message }) => ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: Some(message.clone()),
            },
            None => ContainerStateWaiting {
                reason: Some(idle.to_owned()),
                message: None,
            },
        };
        ContainerState {
            waiting: Some(waiting),
            ..ContainerState::default()
        }
    }
}

/// Init containers are ready when they have succeeded; others when they run, have started, and pass their readiness probe.
fn is_ready(member: &Member<'_>, running: Option<&Running>, state: &ContainerState) -> bool {
    if member.role == Role::Init {
        return state
            .terminated
            .as_ref()
            .is_some_and(|terminated| terminated.exit_code == 0);
    }
    running.is_some_and(|running| {
        let probed = member.container.readiness_probe.is_none()
            || running
                .probes
                .get(&ProbeKind::Readiness)
                .copied()
                .unwrap_or(false);
        running.is_started(member) && probed
    })
}

fn terminated(exit: &Exit) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: (!exit.id.is_empty()).then(|| format!("davit://{}", exit.id)),
        exit_code: exit.exit_code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: exit.started_at.map(Time),
        finished_at: exit.finished_at.map(Time),
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

/// A container of a pod that has ended after its initialisation, and of which no run is known.
fn lost() -> ContainerState {
    terminated(&Exit {
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..Exit::default()
    })
}

fn volume_mounts(member: &Member<'_>) -> Option<Vec<VolumeMountStatus>> {
    let mounts = member.container.volume_mounts.as_ref()?;
    let statuses = mounts.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            mount
                .recursive_read_only
                .clone()
                .unwrap_or_else(|| "Disabled".to_owned())
        }),
        ..VolumeMountStatus::default()
    });
    Some(statuses.collect())
}
