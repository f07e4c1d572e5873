//! Rights that another server decides on (authorization.k8s.io/v1 SubjectAccessReview).

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Answers, Remote};
use crate::auth::{Attributes, Decision, Target, UserInfo};
use crate::schema::cel::{Expression, Scope, to_json};

/// A server that decides.
#[derive(Debug)]
pub(crate) struct AccessWebhook {
    pub(super) name: String,
    pub(super) remote: Remote,
    pub(super) timeout: Duration,
    pub(super) allowed_ttl: Duration,
    pub(super) other_ttl: Duration,
    /// Whether a server that does not answer denies.
    pub(super) fails_closed: bool,
    pub(super) conditions: Vec<Expression>,
    pub(super) answers: Answers<Decision>,
}

impl AccessWebhook {
    /// What the server says, or said a moment ago.
    pub(crate) async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(user, attributes);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => return no_opinion(String::new()),
            Err(error) => return self.failed(&error),
        }
        let question: [u8; 32] = Sha256::digest(spec.to_string()).into();
        if let Some(decision) = self.answers.get(&question) {
            return decision;
        }
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {}, "spec": spec,
        });
        match self.remote.ask(&review, self.timeout).await {
            Ok(answer) => {
                let decision = judge(&answer["status"]);
                let ttl = if decision.is_allowed() {
                    self.allowed_ttl
                } else {
                    self.other_ttl
                };
                self.answers.keep(question, decision.clone(), ttl);
                decision
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Whether all match conditions hold.
    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let mut scope = Scope::of_conditions();
        scope.set("request", spec);
        let mut failure = None;
        for condition in &self.conditions {
            match condition.evaluate(&scope).and_then(|value| to_json(&value)) {
                Ok(Value::Bool(true)) => {}
                // One that is false decides, whatever others fail of.
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => failure = Some("a match condition is not a bool".to_owned()),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(true), Err)
    }

    fn failed(&self, error: &str) -> Decision {
        tracing::warn!(
            webhook = self.name,
            error,
            "an authorization webhook gave no answer"
        );
        let reason = format!("webhook authorizer {:?} failed", self.name);
        if self.fails_closed {
            Decision::Deny { reason }
        } else {
            no_opinion(reason)
        }
    }
}

fn no_opinion(reason: String) -> Decision {
    Decision::NoOpinion { reason }
}

fn judge(status: &Value) -> Decision {
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    match (status["denied"] == true, status["allowed"] == true) {
        (true, _) => Decision::Deny { reason },
        (false, true) => Decision::Allow { reason },
        (false, false) => Decision::NoOpinion { reason },
    }
}

/// The question, as a SubjectAccessReview asks it.
fn spec(user: &UserInfo, attributes: &Attributes<'_>) -> Value {
    let mut spec = json!({ "user": user.name });
    if !user.groups.is_empty() {
        spec["groups"] = user.groups.clone().into();
    }
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    match attributes.target {
        Target::Path(path) => {
            spec["nonResourceAttributes"] = json!({ "path": path, "verb": attributes.verb });
        }
        Target::Resource(target) => {
            let fields = [
                ("namespace", target.namespace),
                ("verb", attributes.verb),
                ("group", target.group),
                ("version", target.version),
                ("resource", target.resource),
                ("subresource", target.subresource),
                ("name", target.name),
            ];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
            let fields = fields.map(|(key, value)| (key.to_owned(), Value::from(value)));
            spec["resourceAttributes"] = Value::Object(fields.collect());
        }
    }
    spec
}
