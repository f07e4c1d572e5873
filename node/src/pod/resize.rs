//! In-place resize (KEP-1287): what a pod is given of what it asks for, decided as kubelet decides it. Pure.
//!
//! A container has what it was *allotted*: what it asked for when it was first started, and later what the node agreed to.
//! What is in force is the kernel's word and stands beside it.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::jiff::Timestamp;

use super::backoff::SETUP;
use super::members;
use super::observed::{Allotted, Observed, Phase, Problem};
use crate::runtime::Resources;

/// What came of a try to resize a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resized {
    /// The node does not have it: `Infeasible` for ever, `Deferred` until others leave.
    Pending(Problem),
    /// The node gives it.
    Given(Changes),
}

/// What was given, and what of it is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What each container is allotted from now on.
    pub allotted: BTreeMap<String, Allotted>,
    /// Limits of the running ones, from the kernel.
    pub limits: BTreeMap<String, Resources>,
    /// Containers that want to be started anew for it.
    pub restart: BTreeSet<String>,
    /// Why not all of it is in force.
    pub problem: Option<Problem>,
}

/// The greater of two limits; none is the greatest.
pub fn greater(one: &Resources, other: &Resources) -> Resources {
    let limit = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
    Resources {
        memory_bytes: limit(one.memory_bytes, other.memory_bytes),
        cpu_shares: one.cpu_shares.max(other.cpu_shares),
        cpu_quota_us: limit(one.cpu_quota_us, other.cpu_quota_us),
        ..Resources::default()
    }
}

/// Whether one of the changes is of a kind that the container wants to be started anew for.
pub fn needs_restart(container: &Container, now: &Resources, wanted: &Resources) -> bool {
    let restarts = |resource: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies
            .any(|own| own.resource_name == resource && own.restart_policy == "RestartContainer")
    };
    let cpu = (now.cpu_shares, now.cpu_quota_us) != (wanted.cpu_shares, wanted.cpu_quota_us);
    let memory = now.memory_bytes != wanted.memory_bytes;
    (cpu && restarts("cpu")) || (memory && restarts("memory"))
}

/// A limit of memory below what is in use would have the kernel kill for it.
pub fn too_small(now: &Resources, wanted: &Resources, in_use: Option<u64>) -> Option<Problem> {
    let limit = wanted.memory_bytes?;
    let shrinks = now.memory_bytes.is_none_or(|now| limit < now);
    let in_use = in_use.filter(|in_use| shrinks && *in_use > limit)?;
    let message = format!(
        "attempting to set memory limit ({limit}) below current usage ({in_use}); it is tried again"
    );
    Some(Problem::new("Error", message))
}

/// What a container asks for; `None` if the pod has none of that name.
pub fn asked(pod: &Pod, name: &str) -> Option<Allotted> {
    let member = members::member(pod, name)?;
    Some(Allotted(
        member.container.resources.clone().unwrap_or_default(),
    ))
}

/// What each container asks for.
pub fn all_asked(pod: &Pod) -> BTreeMap<String, Allotted> {
    let members = members::members(pod);
    let asked =
        members.filter_map(|member| Some((member.name().to_owned(), asked(pod, member.name())?)));
    asked.collect()
}

impl Observed {
    /// Whether a container asks for something else than it was allotted.
    pub fn asks_for_other_resources(&self, pod: &Pod) -> bool {
        members::members(pod).any(|member| {
            let known = self.containers.get(member.name());
            let allotted = known.and_then(|known| known.allotted.as_ref());
            allotted.is_some() && asked(pod, member.name()).as_ref() != allotted
        })
    }

    /// The pod with the resources that its containers were allotted: what they are started and measured with.
    pub fn as_allotted<'p>(&self, pod: &'p Pod) -> Cow<'p, Pod> {
        if !self.asks_for_other_resources(pod) {
            return Cow::Borrowed(pod);
        }
        let mut allotted = pod.clone();
        let spec = allotted.spec.get_or_insert_default();
        let inits = spec.init_containers.iter_mut().flatten();
        for container in inits.chain(&mut spec.containers) {
            let known = self.containers.get(&container.name);
            if let Some(Allotted(own)) = known.and_then(|known| known.allotted.clone()) {
                container.resources = (own != ResourceRequirements::default()).then_some(own);
            }
        }
        Cow::Owned(allotted)
    }

    /// A new wish is looked at at once, whatever came of the last one.
    pub(super) fn note_resources(&mut self, pod: &Pod) {
        if !self.asks_for_other_resources(pod) {
            self.resize.pending = None;
            self.resize.asked = None;
            return;
        }
        let mut hasher = DefaultHasher::new();
        for (name, Allotted(own)) in all_asked(pod) {
            name.hash(&mut hasher);
            for (resource, amount) in [own.requests, own.limits].into_iter().flatten().flatten() {
                (resource, amount.0).hash(&mut hasher);
            }
        }
        let asked = Some(hasher.finish());
        if self.resize.asked != asked {
            self.resize.asked = asked;
            self.resize.backoff.reset();
        }
    }

    /// Takes in what came of a resize.
    pub(super) fn resized(&mut self, resized: Resized, now: Timestamp) {
        self.resize.busy = false;
        let changes = match resized {
            Resized::Pending(pending) => {
                self.resize.pending = Some(pending);
                return self.resize.backoff.advance(now, now, SETUP);
            }
            Resized::Given(changes) => changes,
        };
        self.resize.pending = None;
        for (name, allotted) in changes.allotted {
            let known = self.known_mut(&name);
            known.allotted = Some(allotted);
            if let Phase::Running(running) = &mut known.phase {
                running.limits = changes.limits.get(&name).cloned().or(running.limits.take());
                running.outgrown |= changes.restart.contains(&name);
            }
        }
        match &changes.problem {
            Some(_) => self.resize.backoff.advance(now, now, SETUP),
            None => self.resize.backoff.reset(),
        }
        self.resize.problem = changes.problem;
    }

    /// What the kernel has of a running container's limits.
    pub(crate) fn note_limits(&mut self, name: &str, limits: Resources) {
        if let Phase::Running(running) = &mut self.known_mut(name).phase {
            running.limits = Some(limits);
        }
    }

    /// Why the node does not give what is asked for.
    pub fn resize_pending(&self) -> Option<&Problem> {
        self.resize.pending.as_ref()
    }

    /// What is given is not in force yet: with a reason where that went wrong.
    pub fn resize_in_progress(&self) -> Option<Option<&Problem>> {
        let outgrown = self
            .containers
            .values()
            .any(|known| known.running().is_some_and(|running| running.outgrown));
        let works = outgrown || self.resize.problem.is_some();
        works.then_some(self.resize.problem.as_ref())
    }
}

#[cfg(test)]
mod tests;
