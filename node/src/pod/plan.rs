//! The decision: from a pod's declaration and what is known of it here, the steps to take now. Pure.
//!
//! Guarantees: the same input gives the same steps; a step already begun is not asked for again; a plan that asks for
//! nothing but [`Step::WakeAt`] stays that way until an outcome, a change of the pod or that time arrives.
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::admission::refusal;
use super::backoff::{Backoff, CRASH};
use super::members::{self, Member, Role};
use super::observed::{Failure, HoldPhase, Hook, ImagePhase, Known, Observed, Phase, Running, Why};
use super::restart::restarts;
use super::step::{ProbeKind, Step};

mod ending;
#[cfg(test)]
mod tests;

/// The steps to take now for `pod`, of which `seen` is known.
pub fn plan(pod: &Pod, seen: &Observed, now: Timestamp) -> Vec<Step> {
    let mut planner = Planner {
        pod,
        seen,
        now,
        steps: Vec::new(),
    };
    planner.remains();
    if is_ending(pod, seen) {
        planner.end();
    } else {
        planner.run();
    }
    planner.steps
}

/// Whether the pod's containers are done for good or must go: it was deleted, has failed, or ran to completion.
pub fn is_ending(pod: &Pod, seen: &Observed) -> bool {
    seen.removed
        || pod.metadata.deletion_timestamp.is_some()
        || seen.failure.is_some()
        || is_complete(pod, seen)
}

/// Whether no container will run again by the pod's own policy.
pub fn is_complete(pod: &Pod, seen: &Observed) -> bool {
    let done = |member: Member<'_>| {
        let exit = seen.containers.get(member.name()).and_then(Known::exited);
        exit.is_some_and(|exit| !restarts(pod, &member, exit))
    };
    let init_failed = !seen.main_started
        && members::init_members(pod).any(|member| {
            let exit = seen.containers.get(member.name()).and_then(Known::exited);
            exit.is_some_and(|exit| exit.exit_code != 0 && !restarts(pod, &member, exit))
        });
    let mut mains = members::main_members(pod).peekable();
    init_failed || (mains.peek().is_some() && mains.all(done))
}

struct Planner<'a> {
    pod: &'a Pod,
    seen: &'a Observed,
    now: Timestamp,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn known(&self, name: &str) -> Option<&'a Known> {
        self.seen.containers.get(name)
    }

    fn phase(&self, name: &str) -> &'a Phase {
        self.known(name)
            .map_or(&Phase::Waiting, |known| &known.phase)
    }

    /// What ended containers left behind goes at once, whatever else happens.
    fn remains(&mut self) {
        for (name, known) in &self.seen.containers {
            for id in &known.remains {
                self.push(Step::RemoveContainer {
                    container: name.clone(),
                    id: id.clone(),
                });
            }
        }
    }

    /// The pod is to run.
    fn run(&mut self) {
        if self.refused() || self.past_deadline() {
            return;
        }
        let (due, added) = (self.due(), self.added());
        self.volumes();
        self.sandbox(&due);
        for member in due.iter().chain(&added) {
            self.image(member);
        }
        for member in members::everyone(self.pod) {
            if let Phase::Running(running) = self.phase(member.name()) {
                self.tend(&member, running);
            }
        }
        self.resize();
        let ready = self.seen.volumes.phase == HoldPhase::Ready
            && self.seen.sandbox.phase == HoldPhase::Ready;
        if ready {
            self.start_in_order(&due);
            // They look at the pod, and so neither wait for it nor hold it up.
            self.start_in_order(&added);
        }
    }

    /// A pod that this node cannot run fails before anything of it is made.
    fn refused(&mut self) -> bool {
        let refusal = if self.seen.sandbox_attempts == 0 {
            refusal(self.pod)
        } else {
            None
        };
        let Some(Failure { reason, message }) = refusal else {
            return false;
        };
        self.push(Step::Fail { reason, message });
        true
    }

    /// `activeDeadlineSeconds` counts from the pod's start on this node.
    fn past_deadline(&mut self) -> bool {
        let Some(limit) = members::spec(self.pod).active_deadline_seconds else {
            return false;
        };
        let Some(start) = self.seen.start_time else {
            return false;
        };
        let Ok(deadline) = start.checked_add(SignedDuration::from_secs(limit)) else {
            return false;
        };
        if deadline <= self.now {
            self.push(Step::Fail {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
            return true;
        }
        self.push(Step::WakeAt(deadline));
        false
    }

    /// The containers that should have a process now: all sidecars reached, and the init container whose turn it is,
    /// or the main ones when initialisation is over.
    fn due(&self) -> Vec<Member<'a>> {
        let mut due = Vec::new();
        for member in members::init_members(self.pod) {
            match member.role {
                Role::Init if self.seen.main_started => {}
                Role::Init => {
                    if self
                        .known(member.name())
                        .and_then(Known::exited)
                        .is_none_or(|exit| exit.exit_code != 0)
                    {
                        due.push(member);
                        return due;
                    }
                }
                Role::Sidecar | Role::Main | Role::Ephemeral => {
                    let started = self
                        .known(member.name())
                        .and_then(Known::running)
                        .is_some_and(|running| running.is_started(&member));
                    due.push(member);
                    if !started && !self.seen.main_started {
                        return due;
                    }
                }
            }
        }
        due.extend(members::main_members(self.pod).filter(|member| self.wants_process(member)));
        due
    }

    /// The ephemeral containers that have not had their one run. They come to a sandbox that is there, and make none.
    fn added(&self) -> Vec<Member<'a>> {
        members::ephemeral_members(self.pod)
            .filter(|member| self.wants_process(member))
            .collect()
    }

    fn wants_process(&self, member: &Member<'_>) -> bool {
        self.known(member.name())
            .and_then(Known::exited)
            .is_none_or(|exit| restarts(self.pod, member, exit))
    }

    fn volumes(&mut self) {
        let hold = &self.seen.volumes;
        if matches!(hold.phase, HoldPhase::Absent | HoldPhase::Broken) && self.rested(&hold.backoff)
        {
            self.push(Step::PrepareVolumes);
        }
        if hold.phase == HoldPhase::Ready {
            self.refresh();
        }
    }

    /// Contents made of objects and tokens follow them while the pod runs.
    fn refresh(&mut self) {
        let refresh = &self.seen.refresh;
        let due = refresh.at.is_some_and(|at| at <= self.now);
        if refresh.busy {
            return;
        }
        if refresh.stale || due {
            if self.rested(&refresh.backoff) {
                self.push(Step::RefreshVolumes);
            }
        } else if let Some(at) = refresh.at {
            self.push(Step::WakeAt(at));
        }
    }

    /// What the containers may use follows what the pod asks for, as far as there is a sandbox to change it in.
    fn resize(&mut self) {
        let resize = &self.seen.resize;
        let wanted = resize.problem.is_some() || self.seen.asks_for_other_resources(self.pod);
        let possible = self.seen.sandbox.phase == HoldPhase::Ready && !resize.busy;
        if wanted && possible && self.rested(&resize.backoff) {
            self.push(Step::Resize);
        }
    }

    fn sandbox(&mut self, due: &[Member<'_>]) {
        let hold = &self.seen.sandbox;
        let needed = due
            .iter()
            .any(|member| !matches!(self.phase(member.name()), Phase::Running(_)));
        match hold.phase {
            HoldPhase::Broken if self.rested(&hold.backoff) && self.rested(&hold.removal) => {
                self.push(Step::StopSandbox);
            }
            HoldPhase::Absent if needed && self.rested(&hold.backoff) => {
                self.push(Step::CreateSandbox {
                    attempt: self.seen.sandbox_attempts,
                });
            }
            _ => {}
        }
    }

    /// Whether a failed effort may be repeated now; if not, the plan wakes when it may.
    fn rested(&mut self, backoff: &Backoff) -> bool {
        match backoff.holds_until(self.now) {
            Some(until) => {
                self.push(Step::WakeAt(until));
                false
            }
            None => true,
        }
    }

    /// Looks for the image as soon as the container is due, while volumes and sandbox are still being made.
    fn image(&mut self, member: &Member<'_>) {
        let name = member.name();
        if matches!(self.phase(name), Phase::Running(_) | Phase::Starting)
            || self.crash_wait(member).is_some()
        {
            return;
        }
        let Some(known) = self.known(name) else {
            return self.push(Step::EnsureImage {
                container: name.to_owned(),
            });
        };
        let changed = Some(known.image.spec_image.as_str()) != member.container.image.as_deref();
        match known.image.phase {
            ImagePhase::Fetching => {}
            ImagePhase::Present(_) if !changed => {}
            _ => match known
                .image
                .backoff
                .holds_until(self.now)
                .filter(|_| !changed)
            {
                Some(until) => {
                    self.push(Step::WakeAt(until));
                    self.wake_for_pull_status(known);
                }
                None => self.push(Step::EnsureImage {
                    container: name.to_owned(),
                }),
            },
        }
    }

    /// The status turns from `ErrImagePull` to `ImagePullBackOff` a moment after the failure.
    fn wake_for_pull_status(&mut self, known: &Known) {
        let turn = known
            .image
            .failed_at
            .and_then(|at| at.checked_add(PULL_ERROR_SHOWN).ok());
        if let Some(turn) = turn.filter(|turn| *turn > self.now) {
            self.push(Step::WakeAt(turn));
        }
    }

    /// Hooks, failed probes and changed images of a running container, and the stop it may be in.
    fn tend(&mut self, member: &Member<'_>, running: &Running) {
        let name = member.name().to_owned();
        if running.stop.is_some() {
            return self.carry_on_stopping(&name, running);
        }
        if running.post_start == Hook::Due {
            self.push(Step::PostStart {
                container: name.clone(),
            });
        }
        if let Some((why, grace)) = self.reason_to_stop(member, running) {
            self.push(Step::Stop {
                container: name,
                deadline: after(self.now, grace),
                why,
            });
        }
    }

    fn reason_to_stop(&self, member: &Member<'_>, running: &Running) -> Option<(Why, i64)> {
        let grace = members::grace_seconds(self.pod);
        let failed = |kind: ProbeKind| running.probes.get(&kind) == Some(&false);
        if failed(ProbeKind::Startup) || failed(ProbeKind::Liveness) {
            let (kind, probe) = if failed(ProbeKind::Startup) {
                (ProbeKind::Startup, &member.container.startup_probe)
            } else {
                (ProbeKind::Liveness, &member.container.liveness_probe)
            };
            let own = probe
                .as_ref()
                .and_then(|probe| probe.termination_grace_period_seconds);
            return Some((Why::Unhealthy(kind), own.unwrap_or(grace)));
        }
        if running.outgrown {
            return Some((Why::Resized, grace));
        }
        let changed = Some(running.spec_image.as_str()) != member.container.image.as_deref();
        changed.then_some((Why::Redefined, grace))
    }

    /// Starts what is due, each after the one before it has started and its `postStart` hook has ended.
    /// One that cannot start now (its image, its configuration, its backoff) does not hold up the next.
    fn start_in_order(&mut self, due: &[Member<'_>]) {
        for member in due {
            match self.phase(member.name()) {
                Phase::Starting => return,
                Phase::Running(running)
                    if running.post_start != Hook::Done && running.stop.is_none() =>
                {
                    return;
                }
                Phase::Running(_) => {}
                Phase::Waiting | Phase::Exited(_) => {
                    if self.start(member) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the containers after this one have to wait for it.
    fn start(&mut self, member: &Member<'_>) -> bool {
        if let Some(until) = self.crash_wait(member) {
            self.push(Step::WakeAt(until));
            return false;
        }
        let Some(known) = self.known(member.name()) else {
            return true;
        };
        match &known.image.phase {
            ImagePhase::Fetching | ImagePhase::Unknown => known.image.problem.is_none(),
            ImagePhase::Present(_) => {
                if let Some(until) = known.refusals.holds_until(self.now) {
                    self.push(Step::WakeAt(until));
                    return false;
                }
                self.push(Step::StartContainer {
                    container: member.name().to_owned(),
                    attempt: known.attempts,
                });
                true
            }
        }
    }

    /// Until when a container that ended has to wait for its next start.
    fn crash_wait(&self, member: &Member<'_>) -> Option<Timestamp> {
        crash_wait(self.known(member.name())?, self.now)
    }
}

/// How long the status says `ErrImagePull` before it says `ImagePullBackOff`.
pub(crate) const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(1);

/// Until when a container that ended has to wait for its next start, `None` when it may start now.
pub(crate) fn crash_wait(known: &Known, now: Timestamp) -> Option<Timestamp> {
    let exit = known.exited()?;
    known
        .crashes
        .waits_until(exit.finished_at.unwrap_or(now), now, CRASH)
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds.max(1)))
        .unwrap_or(now)
}
