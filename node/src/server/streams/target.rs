//! Which pod and container a session is for.
use std::sync::Arc;

use http::StatusCode;

use crate::agent::dispatch::LivePod;
use crate::pod::members;
use crate::pod::services::PodRuntime;
use crate::server::logs::find;
use crate::server::{NodeApi, Refusal};

/// A running container.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) runtime: Arc<dyn PodRuntime>,
    pub(super) pod_uid: String,
    /// Id of the run that runs now.
    pub(super) id: String,
    /// It has a terminal.
    pub(super) tty: bool,
    stdin_once: bool,
}

impl Target {
    /// Finds a container that runs.
    ///
    /// # Errors
    /// There is no such pod or container here, or it does not run.
    pub(super) fn find(
        api: &NodeApi,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Self, Refusal> {
        let live = find(api, namespace, pod)?;
        let missing = || {
            let message = format!("container not found (\"{container}\")");
            Refusal::new(StatusCode::NOT_FOUND, message)
        };
        let member = members::member(&live.pod, container).ok_or_else(missing)?;
        let running = running(&live, container).ok_or_else(missing)?;
        Ok(Self {
            runtime: Arc::clone(&api.runtime),
            pod_uid: members::uid(&live.pod).to_owned(),
            id: running,
            tty: member.container.tty.unwrap_or(false),
            stdin_once: member.container.stdin_once.unwrap_or(false),
        })
    }

    /// Whether its input ends with the first session that has given it some. A terminal's does not.
    pub(super) fn ends_input(&self) -> bool {
        self.stdin_once && !self.tty
    }
}

fn running(live: &LivePod, container: &str) -> Option<String> {
    let seen = live.seen.borrow();
    let running = seen.containers.get(container)?.running()?;
    Some(running.id.clone())
}
