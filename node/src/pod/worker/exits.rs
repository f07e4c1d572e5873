//! What a container's end means for the pod: reason and last words.
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::super::files::PodDir;
use super::super::members;
use super::super::observed::{Exit, Phase};
use super::super::step::Outcome;
use super::Worker;
use crate::logs::{self, LogOptions};
use crate::runtime::{ContainerExit, ContainerStatus};

/// How much of the log stands in for a missing termination message.
const FALLBACK_LINES: u64 = 80;
const FALLBACK_BYTES: usize = 2048;

impl Worker {
    /// Takes in the end of a container; of one whose start has not reported yet, later.
    pub(super) async fn container_exited(&mut self, exit: ContainerExit) {
        let running = self.seen.containers.iter().find_map(|(name, known)| {
            known
                .running()
                .filter(|running| running.id == exit.id)
                .map(|_| (name.clone(), known.attempts.saturating_sub(1)))
        });
        let Some((name, attempt)) = running else {
            if self
                .seen
                .containers
                .values()
                .any(|known| matches!(known.phase, Phase::Starting))
            {
                self.early.insert(exit.id.clone(), exit);
            }
            return;
        };
        let pod = Arc::clone(&self.pod);
        let message = last_words(&self.ground.dir, &pod, &name, &exit, attempt).await;
        let reason = match (exit.oom_killed, exit.exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let exit = Exit {
            id: exit.id,
            exit_code: exit.exit_code,
            signal: None,
            reason: reason.to_owned(),
            message,
            started_at: Some(exit.started_at),
            finished_at: Some(exit.finished_at),
            ..Exit::default()
        };
        self.finish(Outcome::Exited {
            container: name,
            exit,
        });
    }

    /// Ends of containers that the dead shim left on record come before the rest is given up.
    pub(super) async fn sandbox_lost(&mut self) {
        let uid = members::uid(&self.pod).to_owned();
        for container in self
            .ground
            .services
            .runtime
            .containers(&uid)
            .await
            .unwrap_or_default()
        {
            if let ContainerStatus::Exited(exit) = container.status {
                self.container_exited(exit).await;
            }
        }
        self.finish(Outcome::SandboxLost);
    }
}

/// What the container wrote for the reader of its status, or the end of its log where the pod asks for that.
async fn last_words(
    dir: &PodDir,
    pod: &Pod,
    name: &str,
    exit: &ContainerExit,
    attempt: u32,
) -> Option<String> {
    let written = dir.termination_message(&exit.id);
    let member = members::member(pod, name)?;
    let policy = member.container.termination_message_policy.as_deref();
    if written.is_some() || policy != Some("FallbackToLogsOnError") || exit.exit_code == 0 {
        return written;
    }
    let path = logs::log_path(&dir.logs(), name, attempt);
    let options = LogOptions {
        tail_lines: Some(FALLBACK_LINES),
        ..LogOptions::default()
    };
    let ended = CancellationToken::new();
    ended.cancel();
    let mut stream = Box::pin(logs::read(&path, options, ended).await.ok()?);
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        bytes.extend_from_slice(&chunk);
    }
    let tail = bytes
        .get(bytes.len().saturating_sub(FALLBACK_BYTES)..)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(tail).into_owned();
    (!text.is_empty()).then_some(text)
}
