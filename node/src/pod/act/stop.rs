//! Ending containers and the sandbox, and dropping what they leave.
use super::super::members;
use super::super::observed::{Problem, Why};
use super::super::services::{Severity, chain};
use super::super::signals::{SIGTERM, stop_signal};
use super::{Act, Subject};

impl Act {
    /// The Event that goes with the decision to stop a container.
    pub(super) fn tell_why(&self, name: &str, why: &Why) {
        let message = match why {
            Why::PodEnds => format!("Stopping container {name}"),
            Why::Unhealthy(kind) => format!(
                "Container {name} failed {} probe, will be restarted",
                kind.word()
            ),
            Why::Redefined => format!("Container {name} definition changed, will be restarted"),
            Why::PostStartFailed(_) => "FailedPostStartHook".to_owned(),
            Why::Resized => format!("Container {name} resize requires restart"),
            Why::SandboxChanged => format!("Container {name} sandbox changed, will be restarted"),
        };
        self.event(Some(name), Severity::Normal, "Killing", message);
    }

    pub(super) async fn terminate(&self, name: &str, subject: &Subject) {
        let asked = members::member(&self.pod, name)
            .and_then(|member| member.container.lifecycle.as_ref()?.stop_signal.clone());
        let image = self.ground.services.images.config(&subject.image);
        let image = image
            .as_ref()
            .and_then(|image| image.config().as_ref())
            .and_then(|config| config.stop_signal().clone());
        let signal = asked.or(image).map_or(SIGTERM, |name| stop_signal(&name));
        if let Err(error) = self
            .ground
            .services
            .runtime
            .signal(self.uid(), &subject.id, signal)
            .await
        {
            tracing::warn!(
                pod = members::display(&self.pod),
                container = name,
                error = chain(&error),
                "stop signal not sent"
            );
        }
    }

    pub(super) async fn kill(&self, subject: &Subject) {
        if let Err(error) = self
            .ground
            .services
            .runtime
            .kill(self.uid(), &subject.id)
            .await
        {
            tracing::warn!(
                pod = members::display(&self.pod),
                container = subject.id,
                error = chain(&error),
                "kill failed"
            );
        }
    }

    /// What cannot be removed now goes with the sandbox, or is collected when the agent starts.
    pub(super) async fn remove_container(&self, name: &str, id: &str, attempts: u32) {
        if let Err(error) = self
            .ground
            .services
            .runtime
            .remove_container(self.uid(), id)
            .await
        {
            tracing::debug!(
                container = id,
                error = chain(&error),
                "container not removed"
            );
        }
        self.drop_root(id).await;
        // The logs of the run before the present one stay for `logs --previous`.
        if let Some(old) = attempts.checked_sub(3) {
            drop_log(&crate::logs::log_path(&self.ground.dir.logs(), name, old));
        }
    }

    pub(super) async fn drop_root(&self, id: &str) {
        if let Err(error) = self.ground.services.images.discard(id).await {
            tracing::warn!(
                container = id,
                error = chain(&error),
                "root file system not removed"
            );
        }
        // It may never have been made.
        let _ = std::fs::remove_file(self.ground.dir.termination_log(id));
    }

    pub(super) async fn stop_sandbox(&self) -> Result<(), Problem> {
        let failed = |message: String| {
            self.event(
                None,
                Severity::Warning,
                "FailedKillPod",
                format!("error killing pod: {message}"),
            );
            Problem::new("FailedKillPod", message)
        };
        let services = &self.ground.services;
        services
            .runtime
            .stop_sandbox(self.uid())
            .await
            .map_err(|error| failed(chain(&error)))?;
        services
            .network
            .release(self.uid())
            .await
            .map_err(|problem| failed(problem.message))?;
        *self.ground.network.lock() = None;
        Ok(())
    }
}

/// Removes a run's log and the files rotation put aside for it.
fn drop_log(path: &std::path::Path) {
    let (Some(dir), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return;
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let belongs = other
            .to_str()
            .is_some_and(|other| other == name || other.starts_with(&format!("{name}.")));
        if belongs {
            // A log that cannot be removed goes with the pod's directory.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
