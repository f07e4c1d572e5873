//! One call of one webhook, and what its failure means.

use serde_json::{Value, json};

use super::config::Webhook;
use super::review::{self, Answer};
use crate::admission::{Error, Request};
use crate::callout::Callouts;

/// What a webhook is asked.
pub(super) struct Question<'a> {
    pub(super) facts: &'a Value,
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
    pub(super) mutating: bool,
}

/// Why a webhook did not agree.
pub(super) enum Failure {
    /// It could not be asked; the failure policy decides.
    Uncalled(String),
    /// It refused.
    Refused(Error),
}

impl Failure {
    /// The error of the request, unless the webhook is one whose failures do not count.
    pub(super) fn or_open(
        self,
        request: &Request<'_>,
        hook: &Webhook,
        stage: &str,
        place: &str,
    ) -> Result<(), Error> {
        let name = &hook.name;
        match self {
            Self::Refused(error) => Err(error),
            Self::Uncalled(reason) if hook.ignores => {
                tracing::warn!(webhook = %name, reason, "a webhook cannot be called; the request goes on");
                let key = format!("failed-open.{stage}.webhook.admission.k8s.io/{place}");
                request.notes.annotate(key, name.as_str());
                Ok(())
            }
            Self::Uncalled(reason) => Err(Error::Internal {
                message: format!("failed calling webhook {name:?}: {reason}"),
            }),
        }
    }
}

/// Asks; an answer that refuses is a failure too. Warnings and audit annotations are noted in any case.
pub(super) async fn ask(
    callouts: &Callouts,
    request: &Request<'_>,
    hook: &Webhook,
    question: &Question<'_>,
) -> Result<Answer, Failure> {
    let name = &hook.name;
    if request.dry_run && !hook.dry_runs {
        let message = format!("admission webhook {name:?} does not support dry run");
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "BadRequest", "code": 400,
        });
        return Err(Failure::Refused(Error::Status(Box::new(status))));
    }
    let version = hook.version.ok_or_else(|| {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview \
                   versions (v1, v1beta1)";
        Failure::Uncalled(why.to_owned())
    })?;
    let target = hook
        .target
        .as_ref()
        .map_err(|why| Failure::Uncalled(format!("could not get REST client: {why}")))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let document = review::request(version, &uid, question)
        .map_err(|error| Failure::Uncalled(error.to_string()))?;
    let query = format!("?timeout={}s", hook.timeout.as_secs());
    let answered = callouts.post(target, &query, hook.timeout, document).await;
    let answered =
        answered.map_err(|error| Failure::Uncalled(format!("failed to call webhook: {error}")))?;
    let answer = review::read(version, &uid, question.mutating, &answered)
        .map_err(|why| Failure::Uncalled(format!("received invalid webhook response: {why}")))?;
    for (key, value) in &answer.annotations {
        request
            .notes
            .annotate(format!("{name}/{key}"), value.as_str());
    }
    for warning in &answer.warnings {
        request.notes.warn(warning.as_str());
    }
    if answer.allowed {
        return Ok(answer);
    }
    let status = review::refusal(name, answer.status);
    Err(Failure::Refused(Error::Status(Box::new(status))))
}
