//! One pod's sandbox as the agent sees it.
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{
    ContainerConfig, ContainerExit, ContainerState, Error, ExecConfig, ExecOutcome, SandboxConfig,
    SandboxEvent, SandboxStats, Started,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A handle on one pod's shim; clones share it. Dropping it leaves the pod running.
#[derive(Debug, Clone)]
pub struct Sandbox {
    config: std::sync::Arc<SandboxConfig>,
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
    /// Resolves to the exit code when the command ends, to [`super::UNKNOWN_EXIT_CODE`] if the shim dies before.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

impl Sandbox {
    /// What it was made from.
    pub fn config(&self) -> &SandboxConfig {
        &self.config
    }

    /// Process id of the shim; `/proc/<pid>/ns/net` is the pod's network namespace.
    pub fn shim_pid(&self) -> i32 {
        0
    }

    /// Whether the shim still runs.
    pub fn is_alive(&self) -> bool {
        false
    }

    /// Sets up and starts a container; its program runs when this returns.
    ///
    /// # Errors
    /// [`Error::Step`] names the step and the cause; nothing is left behind then.
    pub async fn start_container(&self, config: ContainerConfig) -> Result<Started, Error> {
        let _ = config;
        Err(self.lost())
    }

    /// Sends a signal to a container's first process; an ended container is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Lost`].
    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), Error> {
        let _ = (id, signal);
        Err(self.lost())
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
        let _ = (id, signal, grace);
        Err(self.lost())
    }

    /// Forgets an ended container: its cgroup and records go; its log and root directories stay with their owners.
    /// One that still runs is killed first; an unknown one is no error.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Timeout`].
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        Err(self.lost())
    }

    /// All containers not yet removed, in order of their start.
    ///
    /// # Errors
    /// [`Error::File`] when the shim is gone and its records cannot be read.
    pub async fn containers(&self) -> Result<Vec<ContainerState>, Error> {
        Err(self.lost())
    }

    /// What happens from now on; exits before that are in [`Sandbox::containers`].
    pub fn events(&self) -> UnboundedReceiverStream<SandboxEvent> {
        let (_, receiver) = tokio::sync::mpsc::unbounded_channel();
        UnboundedReceiverStream::new(receiver)
    }

    /// Runs a command in a container to its end, as probes and hooks do, keeping at most `max_output` bytes of each stream.
    ///
    /// # Errors
    /// [`Error::Step`] when the command cannot be started; a timeout is no error but [`ExecOutcome::timed_out`].
    pub async fn exec(
        &self,
        id: &str,
        config: ExecConfig,
        max_output: usize,
    ) -> Result<ExecOutcome, Error> {
        let _ = (id, config, max_output);
        Err(self.lost())
    }

    /// Starts a command in a container and hands over its streams.
    ///
    /// # Errors
    /// [`Error::Step`] when the command cannot be started.
    pub async fn exec_stream(&self, id: &str, config: ExecConfig) -> Result<ExecStreams, Error> {
        let _ = (id, config);
        Err(self.lost())
    }

    /// What the pod and its containers use now.
    ///
    /// # Errors
    /// [`Error::File`] when the cgroups cannot be read.
    pub fn stats(&self) -> Result<SandboxStats, Error> {
        Err(self.lost())
    }

    /// Kills everything in the pod, ends the shim, and removes its cgroups and the `runtime/` directory.
    /// Bounded; safe to repeat; works on a dead shim.
    ///
    /// # Errors
    /// [`Error::Timeout`] when a process does not die even when killed.
    pub async fn shutdown(&self) -> Result<(), Error> {
        Err(self.lost())
    }

    fn lost(&self) -> Error {
        Error::Lost {
            pod: self.config.pod_uid.clone(),
        }
    }
}
