//! How steps begun and outcomes heard change what is known. Pure: no clock, no effects.
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::super::backoff::{CRASH, SETUP};
use super::super::members::{self, Member, Role};
use super::super::resize;
use super::super::step::{Outcome, ProbeKind, StartFailure, Started, Step};
use super::{
    Exit, Failure, Hold, HoldPhase, Hook, ImageId, ImagePhase, Known, Observed, Phase, Problem,
    Refresh, Running, Stop, StopStage, Why,
};
use crate::downward;

/// A container gets at least this long between its stop signal and SIGKILL, even when its hook used up the grace.
pub(crate) const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// Reason and message of containers whose end nobody saw, as Kubernetes words them.
const LOST_REASON: &str = "ContainerStatusUnknown";
const LOST_MESSAGE: &str = "The container could not be located when the pod was terminated";

impl Observed {
    /// Takes in the pod as it is declared now.
    pub fn note(&mut self, pod: &Pod, now: Timestamp) {
        self.start_time.get_or_insert(now);
        let shown = downward::shown(pod);
        if self.refresh.shown != shown {
            // Volumes that were not written yet will show it anyway.
            self.refresh.stale |= self.refresh.shown.is_some();
            self.refresh.shown = shown;
        }
        self.note_resources(pod);
        let ending =
            self.failure.is_some() || self.removed || pod.metadata.deletion_timestamp.is_some();
        if ending {
            self.ending_since.get_or_insert(now);
        }
    }

    /// The entry of a container, made when it is missing.
    pub fn known_mut(&mut self, name: &str) -> &mut Known {
        self.containers.entry(name.to_owned()).or_default()
    }

    fn running_mut(&mut self, name: &str) -> Option<&mut Running> {
        match self.containers.get_mut(name).map(|known| &mut known.phase) {
            Some(Phase::Running(running)) => Some(running),
            _ => None,
        }
    }

    /// A new agent has read this from disk: no step of the old one runs any more.
    pub fn forget_steps(&mut self) {
        for hold in [&mut self.volumes, &mut self.sandbox, &mut self.deletion] {
            if hold.phase.busy() {
                hold.phase = HoldPhase::Broken;
            }
        }
        self.refresh.busy = false;
        self.resize.busy = false;
        if self.deletion.phase == HoldPhase::Broken {
            self.deletion.phase = HoldPhase::Absent;
        }
        for known in self.containers.values_mut() {
            known.forget_steps();
        }
    }

    /// Marks a step as begun, so that the next plan does not ask for it again.
    pub fn begin(&mut self, pod: &Pod, step: &Step, now: Timestamp) {
        match step {
            Step::PrepareVolumes => {
                self.volumes.phase = HoldPhase::Making;
                self.refresh.stale = false;
            }
            Step::RefreshVolumes => {
                self.refresh.busy = true;
                self.refresh.stale = false;
            }
            Step::Resize => self.resize.busy = true,
            Step::ReleaseVolumes => self.volumes.phase = HoldPhase::Removing,
            Step::CreateSandbox { .. } => self.begin_sandbox(pod),
            Step::StopSandbox => self.sandbox.phase = HoldPhase::Removing,
            Step::DeleteObject => self.deletion.phase = HoldPhase::Making,
            Step::Fail { reason, message } => {
                self.failure = Some(Failure {
                    reason: reason.clone(),
                    message: message.clone(),
                });
                self.ending_since.get_or_insert(now);
            }
            Step::EnsureImage { container } => {
                let spec_image = spec_image(pod, container);
                let image = &mut self.known_mut(container).image;
                if image.spec_image != spec_image {
                    *image = super::ImageState {
                        spec_image,
                        ..Default::default()
                    };
                }
                image.phase = ImagePhase::Fetching;
            }
            Step::StartContainer { container, .. } => self.begin_start(pod, container, now),
            Step::PostStart { container } => {
                if let Some(running) = self.running_mut(container) {
                    running.post_start = Hook::Running;
                }
            }
            Step::Stop {
                container,
                deadline,
                why,
            } => self.begin_stop(pod, container, *deadline, why),
            Step::PreStop { container } => {
                self.set_stage(container, StopStage::PreStop(Hook::Running))
            }
            Step::Terminate { container } => {
                self.set_stage(container, StopStage::Terminated);
                self.extend_after_hook(pod, container, now);
            }
            Step::Kill { container } => self.set_stage(container, StopStage::Killed),
            Step::RemoveContainer { .. } | Step::Forget | Step::WakeAt(_) => {}
        }
    }

    /// Takes in what came of a step or happened by itself.
    pub fn finish(&mut self, pod: &Pod, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::VolumesPrepared(result) => {
                let result = result.map(|at| self.refresh.at = at);
                self.volumes.made(result, HoldPhase::Broken, now);
            }
            Outcome::VolumesRefreshed(result) => self.refresh.done(result, now),
            Outcome::ObjectsChanged => self.objects_changed(),
            Outcome::Resized(resized) => self.resized(resized, now),
            Outcome::VolumesReleased(result) => self.volumes.removed(result, now),
            Outcome::SandboxCreated(result) => {
                let result = result.map(|ips| self.ips = ips);
                self.sandbox.made(result, HoldPhase::Broken, now);
            }
            Outcome::SandboxStopped(result) => {
                self.sandbox.removed(result, now);
                self.ips.clear();
            }
            Outcome::SandboxLost => self.sandbox_lost(now),
            Outcome::Image { container, result } => self.image_fetched(&container, result, now),
            Outcome::Started { container, result } => self.started(pod, &container, result, now),
            Outcome::PostStarted { container, result } => {
                self.post_started(pod, &container, result, now)
            }
            Outcome::PreStopped { container } => {
                self.set_stage(&container, StopStage::PreStop(Hook::Done))
            }
            Outcome::Exited { container, exit } => self.exited(&container, exit),
            Outcome::Removed { container, id } => self
                .known_mut(&container)
                .remains
                .retain(|other| *other != id),
            Outcome::Probed {
                container,
                id,
                kind,
                passing,
            } => {
                if let Some(running) = self
                    .running_mut(&container)
                    .filter(|running| running.id == id)
                {
                    running.probes.insert(kind, passing);
                }
            }
            Outcome::ObjectDeleted(Ok(())) => self.removed = true,
            Outcome::ObjectDeleted(Err(problem)) => {
                self.deletion.made(Err(problem), HoldPhase::Absent, now)
            }
        }
    }

    /// What waited for an object is tried again at once.
    fn objects_changed(&mut self) {
        self.refresh.stale = true;
        self.refresh.backoff.reset();
        self.volumes.backoff.reset();
        for known in self.containers.values_mut() {
            known.refusals.reset();
        }
    }

    fn begin_sandbox(&mut self, pod: &Pod) {
        self.sandbox.phase = HoldPhase::Making;
        if self.sandbox_attempts > 0 && self.main_started {
            self.main_started = false;
            for member in members::init_members(pod) {
                if let Some(known) = self.containers.get_mut(member.name()) {
                    known.wait_again();
                }
            }
        }
        self.sandbox_attempts += 1;
    }

    fn begin_start(&mut self, pod: &Pod, name: &str, now: Timestamp) {
        if members::member(pod, name).is_some_and(|member| member.role == Role::Main) {
            self.main_started = true;
        }
        let asked = resize::asked(pod, name);
        let known = self.known_mut(name);
        known.allotted = known.allotted.take().or(asked);
        if let Phase::Exited(exit) = &known.phase {
            known
                .crashes
                .advance(exit.finished_at.unwrap_or(now), now, CRASH);
            known.last_exit = Some(exit.clone());
        }
        known.phase = Phase::Starting;
    }

    fn begin_stop(&mut self, pod: &Pod, name: &str, deadline: Timestamp, why: &Why) {
        let hook = hook(members::member(pod, name).is_some_and(|m| has_pre_stop(&m)));
        let Some(running) = self.running_mut(name) else {
            return;
        };
        match &mut running.stop {
            Some(stop) => {
                stop.asked = stop.asked.min(deadline);
                stop.deadline = stop.deadline.min(deadline);
            }
            none => {
                let stage = StopStage::PreStop(hook);
                *none = Some(Stop {
                    deadline,
                    asked: deadline,
                    stage,
                    why: why.clone(),
                });
            }
        }
    }

    fn set_stage(&mut self, name: &str, stage: StopStage) {
        if let Some(stop) = self
            .running_mut(name)
            .and_then(|running| running.stop.as_mut())
            && stage_order(stage) >= stage_order(stop.stage)
        {
            stop.stage = stage;
        }
    }

    /// The hook may have used up the grace: the signal still gets its least time.
    fn extend_after_hook(&mut self, pod: &Pod, name: &str, now: Timestamp) {
        let hooked = members::member(pod, name).is_some_and(|m| has_pre_stop(&m));
        if let Some(stop) = self
            .running_mut(name)
            .and_then(|running| running.stop.as_mut())
            && hooked
        {
            stop.deadline = stop
                .deadline
                .max(now.saturating_add(LEAST_GRACE).unwrap_or(now));
        }
    }

    fn sandbox_lost(&mut self, now: Timestamp) {
        self.sandbox.phase = HoldPhase::Broken;
        let lost: Vec<String> = self
            .containers
            .iter()
            .filter(|(_, known)| known.alive())
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            let exit = Exit {
                id: self
                    .known_mut(&name)
                    .running()
                    .map(|running| running.id.clone())
                    .unwrap_or_default(),
                exit_code: 137,
                reason: LOST_REASON.into(),
                message: Some(LOST_MESSAGE.into()),
                finished_at: Some(now),
                ..Exit::default()
            };
            self.exited(&name, exit);
        }
    }

    fn image_fetched(&mut self, name: &str, result: Result<ImageId, Problem>, now: Timestamp) {
        let image = &mut self.known_mut(name).image;
        match result {
            Ok(id) => {
                image.phase = ImagePhase::Present(id);
                image.problem = None;
                image.backoff.reset();
            }
            Err(problem) => {
                image.phase = ImagePhase::Unknown;
                image.problem = Some(problem);
                image.failed_at = Some(now);
                image.backoff.advance(now, now, CRASH);
            }
        }
    }

    fn started(
        &mut self,
        pod: &Pod,
        name: &str,
        result: Result<Started, StartFailure>,
        now: Timestamp,
    ) {
        let spec_image = spec_image(pod, name);
        let post_start = hook(members::member(pod, name).is_some_and(|m| has_post_start(&m)));
        let known = self.known_mut(name);
        let image = match std::mem::take(&mut known.image.phase) {
            ImagePhase::Present(id) => id,
            _ => ImageId::default(),
        };
        match result {
            Ok(Started {
                id,
                pid,
                at,
                limits,
            }) => {
                known.attempts += 1;
                known.problem = None;
                known.refusals.reset();
                known.phase = Phase::Running(Running {
                    id,
                    pid,
                    started_at: at,
                    image,
                    spec_image,
                    post_start,
                    stop: None,
                    probes: super::BTreeMap::new(),
                    limits,
                    outgrown: false,
                });
            }
            Err(StartFailure::Refused(problem)) => {
                known.phase = known.last_exit.take().map_or(Phase::Waiting, Phase::Exited);
                known.problem = Some(problem);
                known.refusals.advance(now, now, SETUP);
            }
            Err(StartFailure::NotRun { id, message }) => {
                known.attempts += 1;
                known.problem = Some(Problem::new("RunContainerError", message.clone()));
                let exit = Exit {
                    id,
                    exit_code: 128,
                    reason: "StartError".into(),
                    message: Some(message),
                    finished_at: Some(now),
                    image,
                    ..Exit::default()
                };
                self.exited(name, exit);
            }
        }
    }

    fn post_started(&mut self, pod: &Pod, name: &str, result: Result<(), String>, now: Timestamp) {
        let grace = SignedDuration::from_secs(members::grace_seconds(pod).max(1));
        let deadline = now.saturating_add(grace).unwrap_or(now);
        if let Some(running) = self.running_mut(name) {
            running.post_start = Hook::Done;
        }
        if let Err(message) = result {
            let why = Why::PostStartFailed(message.clone());
            self.known_mut(name).problem = Some(Problem::new("PostStartHookError", message));
            self.begin_stop(pod, name, deadline, &why);
        }
    }

    fn exited(&mut self, name: &str, mut exit: Exit) {
        let known = self.known_mut(name);
        if let Phase::Running(running) = &known.phase {
            if !exit.id.is_empty() && running.id != exit.id {
                return;
            }
            exit.started_at = exit.started_at.or(Some(running.started_at));
            exit.image = running.image.clone();
            exit.redefined = running
                .stop
                .as_ref()
                .is_some_and(|stop| matches!(stop.why, Why::Redefined | Why::Resized));
        }
        if !exit.id.is_empty() {
            known.remains.push(exit.id.clone());
        }
        known.phase = Phase::Exited(exit);
    }
}

impl Known {
    /// In a new sandbox an init container runs anew; how it ended before stays visible.
    fn wait_again(&mut self) {
        if let Phase::Exited(exit) = &self.phase {
            self.last_exit = Some(exit.clone());
            self.phase = Phase::Waiting;
        }
    }

    fn forget_steps(&mut self) {
        if self.image.phase == ImagePhase::Fetching {
            self.image.phase = ImagePhase::Unknown;
        }
        match &mut self.phase {
            Phase::Starting => {
                self.phase = self.last_exit.take().map_or(Phase::Waiting, Phase::Exited);
            }
            Phase::Running(running) => {
                if running.post_start == Hook::Running {
                    running.post_start = Hook::Done;
                }
                if let Some(stop) = &mut running.stop
                    && stop.stage == StopStage::PreStop(Hook::Running)
                {
                    stop.stage = StopStage::PreStop(Hook::Done);
                }
            }
            Phase::Waiting | Phase::Exited(_) => {}
        }
    }
}

impl Refresh {
    fn done(&mut self, result: Result<Option<Timestamp>, Problem>, now: Timestamp) {
        self.busy = false;
        match result {
            Ok(at) => {
                self.at = at;
                self.backoff.reset();
            }
            Err(_) => {
                self.stale = true;
                self.backoff.advance(now, now, SETUP);
            }
        }
    }
}

impl Hold {
    fn made(&mut self, result: Result<(), Problem>, failed: HoldPhase, now: Timestamp) {
        match result {
            Ok(()) => {
                *self = Self {
                    phase: HoldPhase::Ready,
                    ..Self::default()
                }
            }
            Err(problem) => {
                self.phase = failed;
                self.problem = Some(problem);
                self.backoff.advance(now, now, SETUP);
            }
        }
    }

    fn removed(&mut self, result: Result<(), Problem>, now: Timestamp) {
        match result {
            // The failures that led to the removal of something broken keep counting until it is made.
            Ok(()) => {
                self.phase = HoldPhase::Absent;
                self.removal.reset();
            }
            Err(problem) => {
                self.phase = HoldPhase::Broken;
                self.problem = Some(problem);
                self.removal.advance(now, now, SETUP);
            }
        }
    }
}

impl Running {
    /// Whether the startup probe, if there is one, has passed and the `postStart` hook has ended.
    pub fn is_started(&self, member: &Member<'_>) -> bool {
        self.post_start == Hook::Done
            && (member.container.startup_probe.is_none()
                || self
                    .probes
                    .get(&ProbeKind::Startup)
                    .copied()
                    .unwrap_or(false))
    }
}

fn spec_image(pod: &Pod, name: &str) -> String {
    members::member(pod, name)
        .and_then(|member| member.container.image.clone())
        .unwrap_or_default()
}

fn has_pre_stop(member: &Member<'_>) -> bool {
    member
        .container
        .lifecycle
        .as_ref()
        .is_some_and(|lifecycle| lifecycle.pre_stop.is_some())
}

fn has_post_start(member: &Member<'_>) -> bool {
    member
        .container
        .lifecycle
        .as_ref()
        .is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

fn hook(present: bool) -> Hook {
    if present { Hook::Due } else { Hook::Done }
}

fn stage_order(stage: StopStage) -> u8 {
    match stage {
        StopStage::PreStop(Hook::Due) => 0,
        StopStage::PreStop(Hook::Running) => 1,
        StopStage::PreStop(Hook::Done) => 2,
        StopStage::Terminated => 3,
        StopStage::Killed => 4,
    }
}
