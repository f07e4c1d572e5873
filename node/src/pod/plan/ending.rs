//! How a pod ends: main containers first, then sidecars in reverse order, then sandbox, volumes, and the object itself.
use k8s_openapi::jiff::Timestamp;

use super::super::members::{self, Member, Role};
use super::super::observed::LEAST_GRACE;
use super::super::observed::{HoldPhase, Hook, Phase, Running, StopStage, Why};
use super::super::step::Step;
use super::{Planner, after};

impl Planner<'_> {
    /// The pod is to end, or has ended.
    pub(super) fn end(&mut self) {
        if self.stop_containers() {
            return;
        }
        if self
            .seen
            .containers
            .values()
            .any(|known| !known.remains.is_empty())
        {
            return;
        }
        match self.seen.sandbox.phase {
            HoldPhase::Ready | HoldPhase::Broken => {
                if self.rested(&self.seen.sandbox.removal) {
                    self.push(Step::StopSandbox);
                }
            }
            HoldPhase::Making | HoldPhase::Removing => {}
            HoldPhase::Absent => self.release_volumes(),
        }
    }

    fn release_volumes(&mut self) {
        let hold = &self.seen.volumes;
        match hold.phase {
            HoldPhase::Ready | HoldPhase::Broken => {
                if self.rested(&hold.removal) {
                    self.push(Step::ReleaseVolumes);
                }
            }
            HoldPhase::Making | HoldPhase::Removing => {}
            HoldPhase::Absent => self.leave(),
        }
    }

    /// Nothing of the pod is left here but its records and logs.
    fn leave(&mut self) {
        if self.seen.removed {
            self.push(Step::Forget);
        } else if self.pod.metadata.deletion_timestamp.is_some() && !self.seen.deletion.phase.busy()
        {
            let hold = &self.seen.deletion;
            if self.rested(&hold.backoff) {
                self.push(Step::DeleteObject);
            }
        }
    }

    /// Whether any container still has to end.
    fn stop_containers(&mut self) -> bool {
        let alive =
            |member: &Member<'_>| self.known(member.name()).is_some_and(super::Known::alive);
        let mains = members::main_members(self.pod).chain(members::ephemeral_members(self.pod));
        let mains: Vec<_> = mains.filter(alive).collect();
        let inits: Vec<_> = members::init_members(self.pod)
            .rev()
            .filter(alive)
            .collect();
        if mains.is_empty() && inits.is_empty() {
            return false;
        }
        let out_of_time = !mains.is_empty() && self.deadline() <= self.now;
        for member in &mains {
            self.stop(member);
        }
        let held_by_mains = !mains.is_empty() && !out_of_time;
        for member in inits {
            match member.role {
                Role::Sidecar if held_by_mains => {}
                Role::Sidecar => {
                    self.stop(&member);
                    if !out_of_time {
                        break;
                    }
                }
                Role::Init | Role::Main | Role::Ephemeral => self.stop(&member),
            }
        }
        if held_by_mains {
            let deadline = self.deadline();
            self.push(Step::WakeAt(deadline));
        }
        true
    }

    fn stop(&mut self, member: &Member<'_>) {
        let Phase::Running(running) = self.phase(member.name()) else {
            return;
        };
        let deadline = self.deadline().max(self.least_deadline(running));
        match &running.stop {
            Some(stop) if stop.asked <= deadline => self.carry_on_stopping(member.name(), running),
            _ => {
                self.push(Step::Stop {
                    container: member.name().to_owned(),
                    deadline,
                    why: Why::PodEnds,
                });
            }
        }
    }

    /// A container that is asked to end only now gets a little time even if the pod's is over.
    fn least_deadline(&self, running: &Running) -> Timestamp {
        match &running.stop {
            Some(_) => Timestamp::MIN,
            None if self.grace() <= 1 => Timestamp::MIN,
            None => self.now.checked_add(LEAST_GRACE).unwrap_or(self.now),
        }
    }

    /// Seconds the pod has for its end: what the deletion says, else what the pod says, at least one.
    fn grace(&self) -> i64 {
        let deleted = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .filter(|_| self.pod.metadata.deletion_timestamp.is_some());
        deleted
            .unwrap_or_else(|| members::grace_seconds(self.pod))
            .max(1)
    }

    fn deadline(&self) -> Timestamp {
        after(self.seen.ending_since.unwrap_or(self.now), self.grace())
    }

    /// The next thing to do for a container that is being stopped.
    pub(super) fn carry_on_stopping(&mut self, name: &str, running: &Running) {
        let Some(stop) = &running.stop else { return };
        let late = stop.deadline <= self.now;
        let container = name.to_owned();
        match stop.stage {
            StopStage::PreStop(Hook::Due) if !late => self.push(Step::PreStop { container }),
            StopStage::PreStop(Hook::Running) if !late => self.push(Step::WakeAt(stop.deadline)),
            StopStage::PreStop(_) => self.push(Step::Terminate { container }),
            StopStage::Terminated if late => self.push(Step::Kill { container }),
            StopStage::Terminated => self.push(Step::WakeAt(stop.deadline)),
            StopStage::Killed => {}
        }
    }
}
