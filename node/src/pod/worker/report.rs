//! Writes the pod's status when it changed, one write at a time, and tells of containers that wait.
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;

use super::super::backoff::{Backoff, SETUP};
use super::super::members;
use super::super::observed::Problem;
use super::super::services::Severity;
use super::{Done, Worker};
use crate::status;

/// The state of status writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    busy: bool,
    backoff: Backoff,
    /// Waiting reasons already told in Events, by container.
    told: std::collections::BTreeMap<String, (String, u32)>,
}

impl Writer {
    /// When a failed write may be repeated.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.backoff
            .holds_until(Timestamp::now())
            .filter(|_| !self.busy)
    }
}

/// The newer of two versions of one pod. Versions that are no numbers are taken in the order they come.
pub(super) fn newest(ours: &Arc<Pod>, theirs: Arc<Pod>) -> Arc<Pod> {
    let version = |pod: &Pod| {
        pod.metadata
            .resource_version
            .as_ref()
            .and_then(|version| version.parse::<u64>().ok())
    };
    match (version(ours), version(&theirs)) {
        (Some(our), Some(their)) if our > their => Arc::clone(ours),
        _ => theirs,
    }
}

impl Worker {
    fn computed(&self) -> PodStatus {
        status::compute(
            &self.pod,
            &self.seen,
            &self.ground.services.node.ips,
            Timestamp::now(),
        )
    }

    fn patch(&self, new: &PodStatus) -> Option<serde_json::Value> {
        let old = self.pod.status.clone().unwrap_or_default();
        status::patch(members::uid(&self.pod), &old, new)
    }

    /// Whether the API server knows the pod's present status.
    pub(super) fn is_reported(&self) -> bool {
        !self.writer.busy && self.patch(&self.computed()).is_none()
    }

    /// Starts a status write if there is something new and none is under way.
    pub(super) fn report(&mut self) {
        let new = self.computed();
        self.tell_waiting(&new);
        if self.writer.busy || self.seen.removed || self.writer.retry_at().is_some() {
            return;
        }
        let Some(patch) = self.patch(&new) else {
            return;
        };
        self.writer.busy = true;
        let (api, pod) = (Arc::clone(&self.ground.services.api), Arc::clone(&self.pod));
        self.running.push(Box::pin(async move {
            Done::Status(api.patch_status(&pod, patch).await)
        }));
    }

    pub(super) fn status_written(&mut self, result: Result<Option<Pod>, Problem>) {
        self.writer.busy = false;
        match result {
            Ok(Some(pod)) => {
                self.writer.backoff.reset();
                self.pod = newest(&self.pod, Arc::new(pod));
            }
            Ok(None) => self.seen.removed = true,
            Err(problem) => {
                let now = Timestamp::now();
                self.writer.backoff.advance(now, now, SETUP);
                tracing::warn!(
                    pod = members::display(&self.pod),
                    problem = problem.message,
                    "status not written"
                );
            }
        }
    }

    /// One Event each time a container begins to wait for its next start or pull.
    fn tell_waiting(&mut self, status: &PodStatus) {
        let all = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten())
            .chain(status.ephemeral_container_statuses.iter().flatten());
        for container in all {
            let waiting = waiting_reason(container);
            let tries = u32::try_from(container.restart_count).unwrap_or(0);
            let subject = (waiting.clone(), tries);
            let before = self
                .writer
                .told
                .insert(container.name.clone(), subject.clone());
            if before.as_ref() == Some(&subject) {
                continue;
            }
            let message = match waiting.as_str() {
                "CrashLoopBackOff" => {
                    let pod = members::display(&self.pod);
                    format!(
                        "Back-off restarting failed container {} in pod {pod}",
                        container.name
                    )
                }
                "ImagePullBackOff" => {
                    let image = members::member(&self.pod, &container.name)
                        .and_then(|member| member.container.image.clone());
                    format!("Back-off pulling image \"{}\"", image.unwrap_or_default())
                }
                _ => continue,
            };
            let services = &self.ground.services;
            services.events.event(
                &self.pod,
                Some(&container.name),
                Severity::Warning,
                "BackOff",
                message,
            );
        }
    }
}

fn waiting_reason(status: &ContainerStatus) -> String {
    let waiting = status
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref());
    waiting
        .and_then(|waiting| waiting.reason.clone())
        .unwrap_or_default()
}
