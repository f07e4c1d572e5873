//! Getting a container's image by its pull policy.
use std::time::Instant;

use super::super::backoff::go_duration;
use super::super::members;
use super::super::observed::{ImageId, Problem};
use super::super::services::{ImageError, LocalImage, Severity, chain};
use super::Act;

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

impl Act {
    pub(super) async fn ensure_image(&self, container: &str) -> Result<ImageId, Problem> {
        let member = members::member(&self.pod, container);
        let (image, policy) = match member {
            Some(member) => {
                let image = member.container.image.clone().unwrap_or_default();
                let policy = policy(member.container.image_pull_policy.as_deref(), &image);
                (image, policy)
            }
            None => (String::new(), Policy::IfNotPresent),
        };
        let found = self.ground.services.images.find(&image);
        let found = found.map_err(|error| self.image_failed(container, &image, &error))?;
        match (policy, found) {
            (Policy::Never, None) => {
                let message =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                self.event(
                    Some(container),
                    Severity::Warning,
                    "ErrImageNeverPull",
                    message.clone(),
                );
                self.event(
                    Some(container),
                    Severity::Warning,
                    "Failed",
                    "Error: ErrImageNeverPull".to_owned(),
                );
                Err(Problem::new("ErrImageNeverPull", message))
            }
            (Policy::Never | Policy::IfNotPresent, Some(local)) => {
                let message = format!("Container image \"{image}\" already present on machine");
                self.event(Some(container), Severity::Normal, "Pulled", message);
                Ok(local.id)
            }
            (Policy::Always, _) | (Policy::IfNotPresent, None) => {
                self.pull(container, &image).await
            }
        }
    }

    async fn pull(&self, container: &str, image: &str) -> Result<ImageId, Problem> {
        self.event(
            Some(container),
            Severity::Normal,
            "Pulling",
            format!("Pulling image \"{image}\""),
        );
        let secrets = self.pull_secrets().await;
        let begun = Instant::now();
        match self.ground.services.images.pull(image, &secrets).await {
            Ok(LocalImage { id, size }) => {
                let took = k8s_openapi::jiff::SignedDuration::try_from(begun.elapsed())
                    .unwrap_or_default();
                let took = go_duration(took);
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.event(Some(container), Severity::Normal, "Pulled", message);
                Ok(id)
            }
            Err(error) => Err(self.image_failed(container, image, &error)),
        }
    }

    fn image_failed(&self, container: &str, image: &str, error: &ImageError) -> Problem {
        let cause = chain(error);
        let problem = match error {
            ImageError::Name { .. } => {
                let message = format!("Failed to apply default image tag \"{image}\": {cause}");
                self.event(
                    Some(container),
                    Severity::Warning,
                    "InspectFailed",
                    message.clone(),
                );
                Problem::new("InvalidImageName", message)
            }
            ImageError::Store { .. } => {
                let message = format!("Failed to pull image \"{image}\": {cause}");
                self.event(
                    Some(container),
                    Severity::Warning,
                    "Failed",
                    message.clone(),
                );
                Problem::new("ErrImagePull", cause)
            }
        };
        self.event(
            Some(container),
            Severity::Warning,
            "Failed",
            format!("Error: {}", problem.reason),
        );
        problem
    }
}

/// The policy; where none is given, images named `latest` are always pulled.
fn policy(given: Option<&str>, image: &str) -> Policy {
    match given {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if crate::image::Reference::parse(image).is_ok_and(|reference| reference.is_latest()) => {
            Policy::Always
        }
        _ => Policy::IfNotPresent,
    }
}
