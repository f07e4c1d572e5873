//! Giving running containers other resources: asked of the node, set in the kernel, and read back.
use std::collections::BTreeMap;

use super::super::members;
use super::super::observed::Problem;
use super::super::resize::{self, Changes, Resized};
use super::super::resources::{container_resources, pod_resources};
use super::super::services::{Severity, chain};
use super::{Act, Subject};
use crate::runtime::Resources;

impl Act {
    /// What the kernel has of these limits; `None` where it cannot be asked.
    pub(crate) fn limits(&self, id: Option<&str>, wanted: &Resources) -> Option<Resources> {
        let runtime = &self.ground.services.runtime;
        runtime.limits(self.uid(), id, wanted).ok()
    }

    pub(super) async fn resize(&self, subject: &Subject) -> Resized {
        let services = &self.ground.services;
        if let Err(pending) = services.room.resize(&self.pod) {
            let reason = format!("Resize{}", pending.reason);
            self.event(None, Severity::Warning, &reason, pending.message.clone());
            return Resized::Pending(pending);
        }
        let mut changes = Changes {
            allotted: resize::all_asked(&self.pod),
            ..Changes::default()
        };
        if let Err(problem) = self.carry_out(subject, &mut changes).await {
            self.event(
                None,
                Severity::Warning,
                "ResizeError",
                problem.message.clone(),
            );
            changes.problem = Some(problem);
        }
        Resized::Given(changes)
    }

    /// The pod's own limits first where they grow and last where they shrink, so that the containers always fit in.
    async fn carry_out(&self, subject: &Subject, changes: &mut Changes) -> Result<(), Problem> {
        let wanted = pod_resources(&self.pod);
        let before = self.limits(None, &wanted).unwrap_or_default();
        self.set(None, &resize::greater(&before, &wanted)).await?;
        let mut failure = None;
        for (name, id) in &subject.running {
            let Some(member) = members::member(&self.pod, name) else {
                continue;
            };
            let memory = self.ground.services.node.memory_bytes;
            let wanted = container_resources(&self.pod, &member.container, memory);
            let now = self.limits(Some(id), &wanted).unwrap_or_default();
            let done = if resize::needs_restart(&member.container, &now, &wanted) {
                changes.restart.insert(name.clone());
                Ok(())
            } else {
                self.set_if_new(id, &now, &wanted).await
            };
            failure = failure.or(done.err());
            if let Some(limits) = self.limits(Some(id), &wanted) {
                changes.limits.insert(name.clone(), limits);
            }
        }
        match failure {
            Some(problem) => Err(problem),
            None => self.set(None, &wanted).await,
        }
    }

    async fn set_if_new(
        &self,
        id: &str,
        now: &Resources,
        wanted: &Resources,
    ) -> Result<(), Problem> {
        let same = (now.memory_bytes, now.cpu_shares, now.cpu_quota_us)
            == (wanted.memory_bytes, wanted.cpu_shares, wanted.cpu_quota_us);
        if same {
            return Ok(());
        }
        let runtime = &self.ground.services.runtime;
        let in_use = runtime.memory_in_use(self.uid(), Some(id)).await;
        if let Some(problem) = resize::too_small(now, wanted, in_use) {
            return Err(problem);
        }
        self.set(Some(id), wanted).await
    }

    async fn set(&self, id: Option<&str>, limits: &Resources) -> Result<(), Problem> {
        let runtime = &self.ground.services.runtime;
        let done = runtime.set_limits(self.uid(), id, limits).await;
        done.map_err(|error| Problem::new("Error", chain(&error)))
    }
}

/// Limits read for containers found running, by name.
pub(crate) fn read_back(
    act: &Act,
    running: &BTreeMap<String, String>,
) -> BTreeMap<String, Resources> {
    let read = running.iter().filter_map(|(name, id)| {
        let member = members::member(&act.pod, name)?;
        let memory = act.ground.services.node.memory_bytes;
        let wanted = container_resources(&act.pod, &member.container, memory);
        Some((name.clone(), act.limits(Some(id), &wanted)?))
    });
    read.collect()
}
