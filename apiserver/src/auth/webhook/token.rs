//! Bearer tokens that another server knows (authentication.k8s.io/v1 TokenReview).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenReview;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Answers, Remote};
use crate::auth::{ConfigError, UserInfo, groups};
use crate::callout::Callouts;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A user, and the audiences the token is good for.
pub(crate) type Known = (Arc<UserInfo>, Vec<String>);

/// A server that knows tokens.
#[derive(Debug)]
pub(crate) struct TokenWebhook {
    remote: Remote,
    ttl: Duration,
    answers: Answers<Result<Known, String>>,
}

impl TokenWebhook {
    /// The server of a kubeconfig; its answers hold for `ttl`.
    pub(crate) fn load(
        path: &Path,
        ttl: Duration,
        callouts: Arc<Callouts>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            remote: Remote::load(path, callouts)?,
            ttl,
            answers: Answers::default(),
        })
    }

    /// Whose token it is, for which of `audiences`; `implicit` are those that tokens without any are for.
    ///
    /// # Errors
    /// Why it is nobody's. An error of the call is not remembered.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        implicit: &[String],
    ) -> Result<Known, String> {
        let mut question = Sha256::new();
        for part in audiences.iter().map(String::as_str).chain([token]) {
            question.update((part.len() as u64).to_le_bytes());
            question.update(part);
        }
        let question: [u8; 32] = question.finalize().into();
        if let Some(answer) = self.answers.get(&question) {
            return answer;
        }
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {}, "spec": { "token": token, "audiences": audiences },
        });
        let answer = self.remote.ask(&review, TIMEOUT).await;
        let answer = judge(answer?, audiences, implicit)?;
        self.answers.keep(question, answer.clone(), self.ttl);
        answer
    }
}

/// What an answer says; the outer error is one of the webhook.
fn judge(
    answer: Value,
    audiences: &[String],
    implicit: &[String],
) -> Result<Result<Known, String>, String> {
    let review: TokenReview = serde_json::from_value(answer).map_err(|error| error.to_string())?;
    let status = review.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return match status.error.filter(|error| !error.is_empty()) {
            Some(error) => Err(error),
            None => Ok(Err("the webhook does not know the token".to_owned())),
        };
    }
    // A webhook that knows no audiences speaks for this server's own.
    let offered = match status.audiences {
        Some(offered) if !offered.is_empty() => offered,
        _ => implicit.to_vec(),
    };
    let common: Vec<String> = audiences
        .iter()
        .filter(|a| offered.contains(a))
        .cloned()
        .collect();
    if common.is_empty() {
        return Ok(Err("the token is not for the target audiences".to_owned()));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    if name.is_empty() {
        return Err("the webhook answered a user without a name".to_owned());
    }
    let mut known = UserInfo::new(name, user.groups.unwrap_or_default());
    known.uid = user.uid.unwrap_or_default();
    known.extra = user.extra.unwrap_or_default();
    known.add_group(groups::AUTHENTICATED);
    Ok(Ok((Arc::new(known), common)))
}
