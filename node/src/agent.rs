//! The agent of one node: registers the node, runs a worker for each pod bound to it, and serves the node API.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

mod caches;
mod claims;
pub(crate) mod dispatch;
mod heartbeat;
mod machine;
mod network_objects;
mod networks;
mod node_object;
mod events;
mod objects;
mod plugin_objects;
mod pod_api;
mod volumes;

/// What one agent is told when it starts; nothing is read from the environment.
#[derive(Clone)]
pub struct AgentConfig {
    /// Holds everything that survives a reboot: images, pods, volumes, plugins, ledger.
    pub data_dir: PathBuf,
    /// Holds what a reboot makes void (pinned network namespaces, boot records); a tmpfs.
    pub run_dir: PathBuf,
    /// Name of this node's `Node` object and Lease.
    pub node_name: String,
    /// A client with the rights of `system:node:<node_name>`.
    pub client: kube::Client,
    /// Where the node API listens; port 0 takes a free one, which the Node object then publishes.
    pub listen: SocketAddr,
    /// What the node API shows to its clients and which clients it admits.
    pub tls: ServingIdentity,
    /// The address other nodes and the API server reach this node by; found from the default route when absent.
    pub node_ip: Option<IpAddr>,
    /// The davit binary, started again as the shim of each pod.
    pub program: PathBuf,
    /// Name servers written to pods with `dnsPolicy: ClusterFirst`; none falls back to the node's own.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of Services, `cluster.local` by default.
    pub cluster_domain: String,
    /// Most pods this node accepts.
    pub max_pods: u32,
    /// Labels added to the Node beside the ones every node has.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig")
            .field("data_dir", &self.data_dir)
            .field("node_name", &self.node_name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The node API's TLS identity, all in PEM.
#[derive(Clone)]
pub struct ServingIdentity {
    /// Certificate chain of the server, leaf first.
    pub certificate_pem: String,
    /// Private key of the leaf.
    pub key_pem: String,
    /// The cluster's authority: only clients it has certified are admitted.
    pub client_ca_pem: String,
}

impl std::fmt::Debug for ServingIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingIdentity").finish_non_exhaustive()
    }
}

/// Why an agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory of the agent cannot be made or read; mend its permissions or free space.
    #[error("cannot use {path} for the node's data")]
    DataDir {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A part of the agent that this build does not have yet.
    #[error("{0} is not available")]
    Unavailable(&'static str),
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
}

impl Agent {
    /// Opens the node's data and adopts what still runs of an earlier agent.
    ///
    /// # Errors
    /// [`Error::DataDir`] when a directory cannot be used.
    pub async fn open(config: AgentConfig) -> Result<Self, Error> {
        std::fs::create_dir_all(&config.data_dir).map_err(|source| Error::DataDir {
            path: config.data_dir.clone(),
            source,
        })?;
        Ok(Self { config })
    }

    /// Runs the node until `shutdown`; pods keep running afterwards and are adopted by the next agent.
    ///
    /// # Errors
    /// Only what no retry can mend; a lost API server is waited for.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let _ = (self.config, shutdown);
        Err(Error::Unavailable("the node agent"))
    }
}

/// What [`teardown`] removed, in numbers for the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeardownReport {
    /// Pods whose processes were ended.
    pub pods: usize,
    /// Things given away by the host (mounts, links, rules, cgroups) that were taken back.
    pub host_objects: usize,
    /// What could not be removed, one line each with the cause.
    pub failures: Vec<String>,
}

/// Ends every pod under `data_dir` and takes back every mount, link, rule and cgroup its ledger names.
/// Data (images, volumes, objects) stays. Safe to run twice and after a crash.
///
/// # Errors
/// [`Error::DataDir`] when the directory cannot be read.
pub async fn teardown(data_dir: &Path) -> Result<TeardownReport, Error> {
    let _ = data_dir;
    Err(Error::Unavailable("teardown"))
}
