//! `/containerLogs/<namespace>/<pod>/<container>` with kubelet's parameters.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::StatusCode;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::streams::websocket::{self, Protocol};
use super::{NodeApi, Refusal};
use crate::agent::dispatch::LivePod;
use crate::logs::{self, Error, LogOptions, LogStream};
use crate::pod::files::PodDir;
use crate::pod::members;
use crate::pod::observed::{Known, Observed, Phase};

/// What `kubectl logs` can ask for, as the API server passes it on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wishes {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    since_seconds: Option<i64>,
    since_time: Option<String>,
    stream: Option<String>,
}

/// Present and not false, as Kubernetes reads boolean parameters.
fn is_set(value: Option<&String>) -> bool {
    value.is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

impl Wishes {
    fn options(&self, now: Timestamp) -> Result<LogOptions, Refusal> {
        let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
        let count = |name: &str, value: Option<i64>, least: i64| match value {
            Some(value) if value < least => {
                Err(bad(format!("{name} must be at least {least}, not {value}")))
            }
            value => Ok(value.and_then(|value| u64::try_from(value).ok())),
        };
        let since = match (&self.since_time, self.since_seconds) {
            (Some(_), Some(_)) => {
                return Err(bad(
                    "at most one of sinceTime and sinceSeconds may be given".into(),
                ));
            }
            (Some(time), None) => Some(time.parse().map_err(|error| {
                bad(format!("sinceTime \"{time}\" is no RFC 3339 time: {error}"))
            })?),
            (None, Some(seconds)) if seconds < 1 => {
                return Err(bad(format!(
                    "sinceSeconds must be at least 1, not {seconds}"
                )));
            }
            (None, Some(seconds)) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
            (None, None) => None,
        };
        let stream = match self.stream.as_deref() {
            None | Some("" | "All") => None,
            Some("Stdout") => Some(LogStream::Stdout),
            Some("Stderr") => Some(LogStream::Stderr),
            Some(other) => {
                return Err(bad(format!(
                    "stream must be All, Stdout or Stderr, not \"{other}\""
                )));
            }
        };
        Ok(LogOptions {
            follow: is_set(self.follow.as_ref()),
            tail_lines: count("tailLines", self.tail_lines, 0)?,
            since,
            limit_bytes: count("limitBytes", self.limit_bytes, 1)?,
            timestamps: is_set(self.timestamps.as_ref()),
            stream,
        })
    }
}

/// A container's log.
pub(super) async fn container_logs(
    State(api): State<Arc<NodeApi>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(wishes): Query<Wishes>,
    request: axum::extract::Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    let options = wishes.options(Timestamp::now())?;
    let live = find(&api, &namespace, &name)?;
    if members::member(&live.pod, &container).is_none() {
        let message = format!("container {container} is not valid for pod {name}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    }
    let seen = Arc::clone(&live.seen.borrow());
    let attempt = attempt(&live, &seen, &container, is_set(wishes.previous.as_ref()))?;
    let dir = PodDir::new(&api.pods_dir, members::uid(&live.pod));
    let path = logs::log_path(&dir.logs(), &container, attempt);
    let ended = ended(
        live,
        container.clone(),
        attempt,
        &api.shutdown,
        options.follow,
    );
    let stream = match logs::read(&path, options, ended.token()).await {
        Ok(stream) => stream.left_stream(),
        // It was made but has not written anything, or its log is gone with time.
        Err(Error::NotFound { .. }) => futures::stream::empty().right_stream(),
        Err(error) => {
            let message = crate::pod::services::chain(&error);
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
    };
    // The guard lives as long as the body, and ends the watch of the container with it.
    let body = stream.map(move |chunk| {
        let _ = &ended;
        chunk
    });
    if websocket::is_wanted(&parts) {
        let accepted = websocket::accept(&mut parts, Protocol::LOG).await?;
        return Ok(accepted.start(async move |socket, protocol| {
            websocket::send_all(socket, protocol, body).await;
        }));
    }
    Ok(([("content-type", "text/plain")], Body::from_stream(body)).into_response())
}

/// The pod of that name; of several in a row, the newest.
pub(super) fn find(api: &NodeApi, namespace: &str, name: &str) -> Result<LivePod, Refusal> {
    let pods = api.pods.read();
    let named = pods.values().filter(|live| {
        members::namespace(&live.pod) == namespace && members::name(&live.pod) == name
    });
    let newest = named.max_by_key(|live| {
        live.pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
    });
    let message = || format!("pod \"{name}\" in namespace \"{namespace}\" is not on this node");
    newest
        .cloned()
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, message()))
}

/// Which run's log is meant.
fn attempt(
    live: &LivePod,
    seen: &Observed,
    container: &str,
    previous: bool,
) -> Result<u32, Refusal> {
    let name = members::name(&live.pod);
    let bad = |message: String| Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    let known = seen.containers.get(container);
    let Some(newest) = known.and_then(|known| known.attempts.checked_sub(1)) else {
        let reason = waiting_reason(live, container);
        return bad(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"
        ));
    };
    if !previous {
        return Ok(newest);
    }
    match newest.checked_sub(1) {
        Some(before) => Ok(before),
        None => bad(format!(
            "previous terminated container \"{container}\" in pod \"{name}\" not found"
        )),
    }
}

fn waiting_reason(live: &LivePod, container: &str) -> String {
    let status = live.pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| {
        status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten())
            .chain(status.ephemeral_container_statuses.iter().flatten())
    });
    let own = all
        .filter(|status| status.name == container)
        .find_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    own.unwrap_or_else(|| "ContainerCreating".to_owned())
}

/// Tells a reader that follows when there will be no more; dropping it ends the wait.
struct Ending(CancellationToken, Option<tokio::task::AbortHandle>);

impl Ending {
    fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(task) = &self.1 {
            task.abort();
        }
    }
}

fn ended(
    live: LivePod,
    container: String,
    attempt: u32,
    shutdown: &CancellationToken,
    follow: bool,
) -> Ending {
    let token = shutdown.child_token();
    if !follow {
        token.cancel();
        return Ending(token, None);
    }
    let ended = token.clone();
    let mut seen = live.seen;
    let task = tokio::spawn(async move {
        // A worker that is gone has ended its containers.
        let _ = seen.wait_for(|seen| !runs(seen, &container, attempt)).await;
        ended.cancel();
    });
    Ending(token, Some(task.abort_handle()))
}

fn runs(seen: &Observed, container: &str, attempt: u32) -> bool {
    seen.containers.get(container).is_some_and(|known: &Known| {
        matches!(known.phase, Phase::Running(_)) && known.attempts.checked_sub(1) == Some(attempt)
    })
}
