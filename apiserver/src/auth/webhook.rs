//! Authentication and authorization asked of another server, as kubeconfig files say where.

mod access;
mod config;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use serde_json::Value;

pub(crate) use access::AccessWebhook;
pub(crate) use config::{Step, load_steps};
pub(crate) use token::TokenWebhook;

use super::ConfigError;
use crate::callout::{Callouts, Place, Target, Trust};

const MAX_BYTES: usize = 1 << 20;
/// Answers that are remembered.
const REMEMBERED: usize = 4096;

/// Another server that answers reviews.
pub(super) struct Remote {
    target: Target,
    token: String,
    callouts: Arc<Callouts>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("place", &self.target.place)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// The server of a kubeconfig's current context, and the token that is shown to it.
    pub(super) fn load(path: &Path, callouts: Arc<Callouts>) -> Result<Self, ConfigError> {
        let text = ConfigError::read(path)?;
        Self::parse(&text, path, callouts).map_err(|what| ConfigError::invalid(path, what))
    }

    fn parse(text: &str, path: &Path, callouts: Arc<Callouts>) -> Result<Self, String> {
        let config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let named = |list: &str, name: &Value| {
            let items = config[list].as_array().into_iter().flatten();
            items.clone().find(|item| item["name"] == *name).cloned()
        };
        let current = &config["current-context"];
        let context = named("contexts", current).ok_or("it has no current context")?;
        let context = &context["context"];
        let cluster = named("clusters", &context["cluster"]).ok_or("its context has no cluster")?;
        let cluster = &cluster["cluster"];
        let user = named("users", &context["user"]).unwrap_or_default();
        let user = &user["user"];
        for key in [
            "client-certificate",
            "client-certificate-data",
            "exec",
            "username",
        ] {
            if !user[key].is_null() {
                return Err(format!("users: {key} is not supported here; use a token"));
            }
        }
        let url = cluster["server"].as_str().unwrap_or_default();
        let place = Place::from_client_config(&serde_json::json!({ "url": url }))?;
        let beside = |name: &str| path.parent().unwrap_or(Path::new(".")).join(name);
        let read = |name: &str| {
            std::fs::read(beside(name)).map_err(|error| format!("cannot read {name}: {error}"))
        };
        let bundle = match (
            &cluster["certificate-authority-data"],
            &cluster["certificate-authority"],
        ) {
            (Value::String(data), _) => STANDARD
                .decode(data)
                .map_err(|error| format!("certificate-authority-data: {error}"))?,
            (_, Value::String(file)) => read(file)?,
            _ => Vec::new(),
        };
        let token = match (&user["token"], &user["tokenFile"]) {
            (Value::String(token), _) => token.clone(),
            (_, Value::String(file)) => String::from_utf8_lossy(&read(file)?).trim().to_owned(),
            _ => String::new(),
        };
        let mut trust = Trust::bundle(&bundle);
        trust.blindly = cluster["insecure-skip-tls-verify"] == true;
        let target = Target { place, trust };
        Ok(Self {
            target,
            token,
            callouts,
        })
    }

    /// The review with its status. A connection that breaks is tried once more.
    pub(super) async fn ask(&self, review: &Value, timeout: Duration) -> Result<Value, String> {
        let asked = async {
            match self.exchange(review).await {
                Err(Failure::Connection(_)) => self.exchange(review).await,
                other => other,
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Connection(cause) | Failure::Answer(cause))) => Err(cause),
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    async fn exchange(&self, review: &Value) -> Result<Value, Failure> {
        let mut request = Request::post(self.target.place.url())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*");
        if !self.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        let request = request.body(Body::from(review.to_string()));
        let request = request.map_err(|error| Failure::Answer(error.to_string()))?;
        let response = self.callouts.send(&self.target, request).await;
        let response = response.map_err(Failure::Connection)?;
        let code = response.status();
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        let bytes = body
            .map_err(|error| Failure::Connection(error.to_string()))?
            .to_bytes();
        if !code.is_success() {
            return Err(Failure::Answer(format!("the webhook answered {code}")));
        }
        serde_json::from_slice(&bytes).map_err(|error| Failure::Answer(error.to_string()))
    }
}

/// Why there is no answer.
enum Failure {
    Connection(String),
    Answer(String),
}

/// Answers that hold for a while.
#[derive(Debug)]
pub(super) struct Answers<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Answers<T> {
    pub(super) fn get(&self, question: &[u8; 32]) -> Option<T> {
        let answers = self.0.lock();
        let (until, answer) = answers.get(question)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    pub(super) fn keep(&self, question: [u8; 32], answer: T, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.0.lock();
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() < REMEMBERED {
            answers.insert(question, (now + ttl, answer));
        }
    }
}
