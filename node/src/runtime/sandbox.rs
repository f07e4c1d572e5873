//! One pod's sandbox as the agent sees it.
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::client::Client;
use super::prepare::Preparer;
use super::{
    ContainerConfig, ContainerExit, ContainerState, ContainerStatus, Error, SandboxConfig,
    SandboxEvent, SandboxStats, Started,
};
use crate::cgroup::Cgroups;
use crate::shim::protocol::{MountSource, Refusal, Reply, Request};
use crate::shim::record::Records;

/// Version of the protocol that knows [`MountSource::OwnRoot`].
const OWN_ROOT_SINCE: u32 = 3;

/// How long a shim may take for what needs no waiting for processes.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long setting up a container may take; mounts may have to wait for slow storage.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long killed processes may take to go.
pub(super) const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// A handle on one pod's shim; clones share it. Dropping it leaves the pod running.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: SandboxConfig,
    pub(super) pod_group: String,
    pub(super) records: Records,
    pub(super) shim_pid: i32,
    /// None for a shim that was found dead.
    pub(super) client: Option<Client>,
    pub(super) cgroups: Arc<dyn Cgroups>,
    pub(super) preparer: Arc<Preparer>,
}

/// A command that runs in a container, with the agent's ends of its streams.
#[derive(Debug)]
pub struct ExecStreams {
    /// Standard input, if asked for; closing it ends the input. With a terminal: the terminal itself.
    pub stdin: Option<OwnedFd>,
    /// Standard output. With a terminal: the terminal itself.
    pub stdout: OwnedFd,
    /// Standard error; none with a terminal.
    pub stderr: Option<OwnedFd>,
    /// Resolves to the exit code when the command ends, to an error if the shim dies before.
    pub exit: oneshot::Receiver<i32>,
}

impl Sandbox {
    /// What it was made from.
    pub fn config(&self) -> &SandboxConfig {
        &self.inner.config
    }

    /// Process id of the shim; `/proc/<pid>/ns/net` is the pod's network namespace. 0 for a shim that was found dead.
    pub fn shim_pid(&self) -> i32 {
        self.inner.shim_pid
    }

    /// Whether the shim still runs.
    pub fn is_alive(&self) -> bool {
        self.inner.client.as_ref().is_some_and(Client::is_alive)
    }

    /// Sets up and starts a container; its program runs when this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Step`] names the step and the cause; nothing is left behind then.
    pub async fn start_container(&self, config: ContainerConfig) -> Result<Started, Error> {
        let (id, name) = (config.id.clone(), config.name.clone());
        let among = match &config.among {
            Some(other) => Some(self.pid_of(other).await?),
            None => None,
        };
        let inner = Arc::clone(&self.inner);
        let prepared = tokio::task::spawn_blocking(move || {
            let group = format!("{}/{}", inner.pod_group, config.id);
            let bundle = inner.records.bundle(&config.id);
            inner.preparer.prepare(
                &inner.config,
                (inner.shim_pid, among),
                &config,
                group,
                bundle,
            )
        });
        let (mut launch, fds) = prepared.await.map_err(|_| self.lost())??;
        if self.client()?.version() < OWN_ROOT_SINCE {
            // There the volumes of an image are what they are in its root, which is writable where it is not read-only.
            launch
                .mounts
                .retain(|step| step.source != MountSource::OwnRoot);
        }
        let request = Request::Start(Box::new(launch));
        match self.client()?.call(request, fds, START_LIMIT).await?.0 {
            Ok(Reply::Started(started)) => Ok(started),
            Ok(other) => Err(self.unexpected(&other)),
            Err(refusal) => Err(self.refused(refusal, &id, "start", format!("container {name}"))),
        }
    }

    /// The first process of a container that must be running.
    async fn pid_of(&self, id: &str) -> Result<i32, Error> {
        let states = self.containers().await?;
        let state = states.into_iter().find(|state| state.id == id);
        match state.map(|state| state.status) {
            None => Err(self.not_found(id)),
            Some(ContainerStatus::Running { pid, .. }) => Ok(pid),
            Some(_) => Err(Error::WrongState {
                id: id.to_owned(),
                problem: "is not running, so nobody can live among its processes".to_owned(),
            }),
        }
    }

    /// Kills all processes of a container; its end is told as any other. An ended container is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Lost`].
    pub async fn kill(&self, id: &str) -> Result<(), Error> {
        self.simple(Request::Kill { id: id.to_owned() }, id, ANSWER_LIMIT)
            .await
    }

    /// Sends a signal to a container's first process; an ended container is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Lost`].
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), Error> {
        self.simple(
            Request::Signal {
                id: id.to_owned(),
                signal,
            },
            id,
            ANSWER_LIMIT,
        )
        .await
    }

    /// Sends `signal`, waits up to `grace`, then kills all processes of the container; returns how it ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Lost`], [`Error::Timeout`] if it cannot even be killed.
    pub async fn stop_container(
        &self,
        id: &str,
        signal: i32,
        grace: Duration,
    ) -> Result<ContainerExit, Error> {
        let mut events = self.client()?.subscribe();
        let state = self
            .containers()
            .await?
            .into_iter()
            .find(|state| state.id == id);
        match state.map(|state| state.status) {
            None => return Err(self.not_found(id)),
            Some(ContainerStatus::Exited(exit)) => return Ok(exit),
            Some(_) => {}
        }
        if !grace.is_zero() {
            self.signal(id, signal).await?;
            let ended = tokio::time::timeout(grace, exit_of(id, &mut events)).await;
            if let Ok(exit) = ended {
                return exit.ok_or_else(|| self.lost());
            }
        }
        self.simple(Request::Kill { id: id.to_owned() }, id, ANSWER_LIMIT)
            .await?;
        match tokio::time::timeout(DEATH_LIMIT, exit_of(id, &mut events)).await {
            Ok(exit) => exit.ok_or_else(|| self.lost()),
            Err(_) => Err(self.timeout(DEATH_LIMIT)),
        }
    }

    /// Forgets an ended container: its cgroup and records go; its log and root directories stay with their owners.
    /// One that still runs is killed first; an unknown one is no error.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Timeout`].
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.simple(Request::Remove { id: id.to_owned() }, id, DEATH_LIMIT)
            .await
    }

    /// All containers not yet removed, in order of their start.
    ///
    /// # Errors
    /// [`Error::File`] when the shim is gone and its records cannot be read.
    pub async fn containers(&self) -> Result<Vec<ContainerState>, Error> {
        if let Ok(client) = self.client() {
            match client.call(Request::List, Vec::new(), ANSWER_LIMIT).await {
                Ok((Ok(Reply::Containers(states)), _)) => return Ok(states),
                Ok((Ok(other), _)) => return Err(self.unexpected(&other)),
                Ok((Err(refusal), _)) => {
                    let object = format!("pod {}", self.inner.config.pod_uid);
                    return Err(self.refused(refusal, "", "list the containers of", object));
                }
                Err(Error::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let records = self
            .inner
            .records
            .read_containers()
            .map_err(|source| Error::File {
                path: self.inner.records.dir().to_owned(),
                source,
            })?;
        Ok(records.into_iter().map(|record| record.state).collect())
    }

    /// What happens from now on; exits before that are in [`Sandbox::containers`].
    pub fn events(&self) -> UnboundedReceiverStream<SandboxEvent> {
        UnboundedReceiverStream::new(match &self.inner.client {
            Some(client) => client.subscribe(),
            None => {
                let (sender, receiver) = mpsc::unbounded_channel();
                // The receiver is held, so this cannot fail.
                let _ = sender.send(SandboxEvent::Lost);
                receiver
            }
        })
    }

    /// What the pod and its containers use now.
    ///
    /// # Errors
    /// As for [`Sandbox::containers`].
    pub async fn stats(&self) -> Result<SandboxStats, Error> {
        let group = &self.inner.pod_group;
        let containers = self.containers().await?.into_iter().map(|state| {
            let usage = self.inner.cgroups.usage(&format!("{group}/{}", state.id));
            (state.id, usage)
        });
        Ok(SandboxStats {
            containers: containers.collect(),
            pod: self.inner.cgroups.usage(group),
        })
    }

    pub(super) fn client(&self) -> Result<&Client, Error> {
        self.inner
            .client
            .as_ref()
            .filter(|client| client.is_alive())
            .ok_or_else(|| self.lost())
    }

    /// A call whose good answer says nothing.
    pub(super) async fn simple(
        &self,
        request: Request,
        id: &str,
        limit: Duration,
    ) -> Result<(), Error> {
        match self.client()?.call(request, Vec::new(), limit).await?.0 {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.refused(refusal, id, "change", format!("container {id}"))),
        }
    }

    pub(super) fn refused(
        &self,
        refusal: Refusal,
        id: &str,
        action: &'static str,
        object: String,
    ) -> Error {
        match refusal {
            Refusal::Step(source) => Error::Step {
                action,
                object,
                source,
            },
            Refusal::NotFound => self.not_found(id),
            Refusal::WrongState(problem) => Error::WrongState {
                id: id.to_owned(),
                problem,
            },
        }
    }

    pub(super) fn unexpected(&self, reply: &Reply) -> Error {
        Error::Protocol {
            pod: self.inner.config.pod_uid.clone(),
            problem: format!("{reply:?} answers another question"),
        }
    }

    fn not_found(&self, id: &str) -> Error {
        Error::NotFound {
            pod: self.inner.config.pod_uid.clone(),
            id: id.to_owned(),
        }
    }

    pub(super) fn lost(&self) -> Error {
        Error::Lost {
            pod: self.inner.config.pod_uid.clone(),
        }
    }

    pub(super) fn timeout(&self, limit: Duration) -> Error {
        Error::Timeout {
            pod: self.inner.config.pod_uid.clone(),
            seconds: limit.as_secs(),
        }
    }
}

/// Waits for a container's end; none if the shim ends before.
async fn exit_of(
    id: &str,
    events: &mut mpsc::UnboundedReceiver<SandboxEvent>,
) -> Option<ContainerExit> {
    while let Some(event) = events.recv().await {
        match event {
            SandboxEvent::Exited(exit) if exit.id == id => return Some(exit),
            SandboxEvent::Exited(_) => {}
            SandboxEvent::Lost => return None,
        }
    }
    None
}
