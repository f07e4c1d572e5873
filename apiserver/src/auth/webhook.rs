//! Authentication and authorization asked of another server, as kubeconfig files say where.

mod access;
mod config;
mod kubeconfig;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use notify::RecommendedWatcher;
use parking_lot::Mutex;
use serde_json::Value;

pub(crate) use access::AccessWebhook;
pub(crate) use config::{Step, load_steps};
pub(crate) use token::TokenWebhook;

use super::ConfigError;
use crate::callout::Callouts;
use crate::reload;
use kubeconfig::Access;

const MAX_BYTES: usize = 1 << 20;
/// Answers that are remembered.
const REMEMBERED: usize = 4096;

/// Another server that answers reviews. What the kubeconfig says is taken in again when it, or a file that it names,
/// has changed; one that is broken changes nothing.
pub(super) struct Remote {
    path: PathBuf,
    callouts: Arc<Callouts>,
    access: ArcSwap<Access>,
    /// Something happened to one of the files.
    changed: Arc<AtomicBool>,
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("place", &self.access.load().target.place)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// The server of a kubeconfig's current context, and what is shown to it.
    pub(super) fn load(path: &Path, callouts: Arc<Callouts>) -> Result<Self, ConfigError> {
        let access = Access::read(path)?;
        let remote = Self {
            path: path.to_owned(),
            callouts,
            access: ArcSwap::from_pointee(access),
            changed: Arc::default(),
            watcher: Mutex::default(),
        };
        remote.watch();
        Ok(remote)
    }

    /// What the files say now.
    fn access(&self) -> Arc<Access> {
        if self.changed.swap(false, Ordering::AcqRel) {
            match Access::read(&self.path) {
                Ok(access) => {
                    self.access.store(Arc::new(access));
                    self.watch();
                }
                Err(error) => {
                    let file = self.path.display();
                    tracing::error!(%file, error = &error as &dyn std::error::Error, "the changed file is not used");
                }
            }
        }
        self.access.load_full()
    }

    fn watch(&self) {
        let changed = self.changed.clone();
        let tell = move || changed.store(true, Ordering::Release);
        match reload::watch(&self.access.load().files, tell) {
            Ok(watcher) => *self.watcher.lock() = Some(watcher),
            Err(error) => {
                let file = self.path.display();
                tracing::warn!(%file, %error, "changes of the file will not be noticed");
            }
        }
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
        let access = self.access();
        let mut request = Request::post(access.target.place.url())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*");
        if let Some(authorization) = &access.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Body::from(review.to_string()));
        let request = request.map_err(|error| Failure::Answer(error.to_string()))?;
        let response = self.callouts.send(&access.target, request).await;
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
