//! davit's runtime as the workers use it: sandboxes by pod UID.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::RwLock;

use super::{EXEC_OUTPUT, PodRuntime};
use crate::runtime::{
    AttachStreams, ContainerConfig, ContainerState, Error, ExecConfig, ExecOutcome, ExecStreams,
    Resources, Runtime, Sandbox, SandboxConfig, SandboxEvent, SandboxStats, Started,
};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Every sandbox of the node, live ones and dead ones not yet cleaned up.
#[derive(Debug)]
pub struct Sandboxes {
    runtime: Runtime,
    known: RwLock<HashMap<String, Sandbox>>,
}

impl Sandboxes {
    /// Finds what an earlier agent left. Sandboxes that cannot be read are reported in the second value.
    pub async fn adopt(runtime: Runtime) -> (Arc<Self>, Vec<Error>) {
        let mut known = HashMap::new();
        let mut failures = Vec::new();
        for found in runtime.adopt().await {
            match found {
                Ok(sandbox) => drop(known.insert(sandbox.config().pod_uid.clone(), sandbox)),
                Err(error) => failures.push(error),
            }
        }
        (
            Arc::new(Self {
                runtime,
                known: RwLock::new(known),
            }),
            failures,
        )
    }

    /// UIDs of all pods that have a sandbox.
    pub fn pods(&self) -> Vec<String> {
        self.known.read().keys().cloned().collect()
    }

    /// What a pod uses now; `None` if it has no live sandbox.
    pub async fn stats(&self, pod_uid: &str) -> Option<SandboxStats> {
        self.live(pod_uid)?.stats().await.ok()
    }

    /// Removes the cgroup that held all pods, once they are stopped.
    ///
    /// # Errors
    /// While a pod or a shim still lives in it.
    pub fn remove_root_cgroup(&self) -> Result<(), Error> {
        self.runtime.remove_root_cgroup()
    }

    fn live(&self, pod_uid: &str) -> Option<Sandbox> {
        self.known
            .read()
            .get(pod_uid)
            .filter(|sandbox| sandbox.is_alive())
            .cloned()
    }

    /// The pod's live sandbox, for streaming into its containers.
    ///
    /// # Errors
    /// [`Error::Lost`] when there is none.
    pub fn get(&self, pod_uid: &str) -> Result<Sandbox, Error> {
        self.live(pod_uid).ok_or_else(|| Error::Lost {
            pod: pod_uid.to_owned(),
        })
    }
}

#[async_trait]
impl PodRuntime for Sandboxes {
    async fn create_sandbox(&self, config: SandboxConfig) -> Result<(), Error> {
        let uid = config.pod_uid.clone();
        let sandbox = self.runtime.create_sandbox(config).await?;
        self.known.write().insert(uid, sandbox);
        Ok(())
    }

    async fn stop_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        let sandbox = self.known.read().get(pod_uid).cloned();
        if let Some(sandbox) = sandbox {
            sandbox.shutdown().await?;
            self.known.write().remove(pod_uid);
        }
        Ok(())
    }

    async fn start_container(
        &self,
        pod_uid: &str,
        config: ContainerConfig,
    ) -> Result<Started, Error> {
        self.get(pod_uid)?.start_container(config).await
    }

    async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), Error> {
        self.get(pod_uid)?.signal(id, signal).await
    }

    async fn kill(&self, pod_uid: &str, id: &str) -> Result<(), Error> {
        self.get(pod_uid)?
            .stop_container(id, SIGKILL, Duration::ZERO)
            .await
            .map(drop)
    }

    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), Error> {
        self.get(pod_uid)?.remove_container(id).await
    }

    async fn exec(
        &self,
        pod_uid: &str,
        id: &str,
        config: ExecConfig,
    ) -> Result<ExecOutcome, Error> {
        self.get(pod_uid)?.exec(id, config, EXEC_OUTPUT).await
    }

    async fn exec_stream(
        &self,
        pod_uid: &str,
        id: &str,
        config: ExecConfig,
    ) -> Result<ExecStreams, Error> {
        self.get(pod_uid)?.exec_stream(id, config).await
    }

    async fn attach(
        &self,
        pod_uid: &str,
        id: &str,
        stdout: bool,
        stderr: bool,
    ) -> Result<AttachStreams, Error> {
        self.get(pod_uid)?.attach(id, stdout, stderr).await
    }

    async fn close_stdin(&self, pod_uid: &str, id: &str) -> Result<(), Error> {
        self.get(pod_uid)?.close_stdin(id).await
    }

    fn limits(
        &self,
        pod_uid: &str,
        id: Option<&str>,
        wanted: &Resources,
    ) -> Result<Resources, Error> {
        Ok(self.get(pod_uid)?.limits(id, wanted))
    }

    async fn set_limits(
        &self,
        pod_uid: &str,
        id: Option<&str>,
        limits: &Resources,
    ) -> Result<(), Error> {
        self.get(pod_uid)?.set_limits(id, limits).await
    }

    async fn memory_in_use(&self, pod_uid: &str, id: Option<&str>) -> Option<u64> {
        let stats = self.stats(pod_uid).await?;
        let Some(id) = id else {
            return Some(stats.pod.working_set_bytes);
        };
        let own = stats
            .containers
            .into_iter()
            .find(|(other, _)| other == id)?;
        Some(own.1.working_set_bytes)
    }

    fn network_namespace(&self, pod_uid: &str) -> Result<PathBuf, Error> {
        let shim = self.get(pod_uid)?.shim_pid();
        Ok(PathBuf::from(format!("/proc/{shim}/ns/net")))
    }

    async fn containers(&self, pod_uid: &str) -> Option<Vec<ContainerState>> {
        let sandbox = self.known.read().get(pod_uid).cloned()?;
        sandbox.containers().await.ok()
    }

    fn events(&self, pod_uid: &str) -> Option<BoxStream<'static, SandboxEvent>> {
        Some(self.live(pod_uid)?.events().boxed())
    }
}
