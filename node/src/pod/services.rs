//! What a worker needs of the node, as narrow traits: the runtime, images, networks, volumes, the API server.
//!
//! The real ones are thin adapters in the sub-modules; tests put a recording double in their place.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

use super::observed::{ImageId, Problem};
use super::room::Room;
use crate::runtime::{
    self, AttachStreams, ContainerConfig, ContainerState, ExecConfig, ExecOutcome, ExecStreams,
    NetnsMode, Resources, RootFs, SandboxConfig, SandboxEvent, Started,
};

mod images;
mod sandboxes;

pub use sandboxes::Sandboxes;

/// Starts and stops the processes of pods. Everything is addressed by pod UID and container id.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Makes the pod's sandbox; one that exists is replaced.
    async fn create_sandbox(&self, config: SandboxConfig) -> Result<(), runtime::Error>;
    /// Ends everything in the sandbox and removes it; fine if there is none.
    async fn stop_sandbox(&self, pod_uid: &str) -> Result<(), runtime::Error>;
    /// Starts a container; its program runs when this returns.
    async fn start_container(
        &self,
        pod_uid: &str,
        config: ContainerConfig,
    ) -> Result<Started, runtime::Error>;
    /// Sends a signal to a container's first process.
    async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), runtime::Error>;
    /// Kills every process of a container.
    async fn kill(&self, pod_uid: &str, id: &str) -> Result<(), runtime::Error>;
    /// Forgets an ended container.
    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), runtime::Error>;
    /// Runs a command in a container to its end.
    async fn exec(
        &self,
        pod_uid: &str,
        id: &str,
        config: ExecConfig,
    ) -> Result<ExecOutcome, runtime::Error>;
    /// Starts a command in a container and hands over its streams.
    async fn exec_stream(
        &self,
        pod_uid: &str,
        id: &str,
        config: ExecConfig,
    ) -> Result<ExecStreams, runtime::Error>;
    /// Joins the streams of a running container.
    async fn attach(
        &self,
        pod_uid: &str,
        id: &str,
        stdout: bool,
        stderr: bool,
    ) -> Result<AttachStreams, runtime::Error>;
    /// Ends a container's standard input.
    async fn close_stdin(&self, pod_uid: &str, id: &str) -> Result<(), runtime::Error>;
    /// The limits in force for a container, or for the pod as a whole, from the kernel; in the numbers of `wanted` where
    /// those are what it has.
    fn limits(
        &self,
        pod_uid: &str,
        id: Option<&str>,
        wanted: &Resources,
    ) -> Result<Resources, runtime::Error>;
    /// Changes the limits of a container, or of the pod as a whole, while it runs.
    async fn set_limits(
        &self,
        pod_uid: &str,
        id: Option<&str>,
        limits: &Resources,
    ) -> Result<(), runtime::Error>;
    /// Bytes of memory in use by a container, or by the pod as a whole; `None` where that is not known.
    async fn memory_in_use(&self, pod_uid: &str, id: Option<&str>) -> Option<u64>;
    /// The pod's network namespace, as a path that leads to it while the sandbox lives.
    fn network_namespace(&self, pod_uid: &str) -> Result<PathBuf, runtime::Error>;
    /// All containers of the sandbox that were not removed; none if there is no live sandbox.
    async fn containers(&self, pod_uid: &str) -> Option<Vec<ContainerState>>;
    /// What happens in the sandbox from now on; ends with it. `None` if there is no live sandbox.
    fn events(&self, pod_uid: &str) -> Option<BoxStream<'static, SandboxEvent>>;
}

/// Most bytes kept of what a probe or hook prints.
pub const EXEC_OUTPUT: usize = 10 * 1024;

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is no image reference.
    #[error("couldn't parse image name \"{name}\"")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: crate::image::ParseError,
    },
    /// The store or the registry failed.
    #[error("cannot get image \"{name}\"")]
    Store {
        /// As given.
        name: String,
        /// Why.
        #[source]
        source: crate::image::Error,
    },
}

/// An image that is in the store.
#[derive(Debug, Clone)]
pub struct LocalImage {
    /// How the status names it.
    pub id: ImageId,
    /// Its size in bytes, for the Event.
    pub size: u64,
}

/// The images of the node.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    /// The image of that name, if it is here.
    fn find(&self, name: &str) -> Result<Option<LocalImage>, ImageError>;
    /// Fetches it, with what fits of the pull secrets.
    async fn pull(&self, name: &str, secrets: &[Arc<Secret>]) -> Result<LocalImage, ImageError>;
    /// The image's configuration.
    fn config(&self, image: &ImageId) -> Option<Arc<ImageConfiguration>>;
    /// Makes the root file system of the container with that id.
    fn prepare(&self, image: &ImageId, container_id: &str) -> Result<RootFs, ImageError>;
    /// Removes what [`Self::prepare`] made; fine if there is nothing.
    async fn discard(&self, container_id: &str) -> Result<(), ImageError>;
}

/// A pod's network as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// The namespace for the sandbox.
    pub netns: NetnsMode,
    /// The pod's addresses, primary first; empty for the host's network.
    pub ips: Vec<IpAddr>,
    /// Name servers, search domains and options that the network brings.
    pub dns: Option<davit_plugins::network::Dns>,
}

/// The networks of the node.
#[async_trait]
pub trait NetworkService: Send + Sync + 'static {
    /// Makes the pod's network namespace and attaches it; repeating it gives the same.
    async fn attach(&self, pod: &Pod) -> Result<PodNetwork, Problem>;
    /// Takes the pod's addresses, links and namespace back; fine if there are none.
    async fn release(&self, pod_uid: &str) -> Result<(), Problem>;
}

/// A volume on the host, ready to be mounted into containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSource {
    /// Directory, file or device.
    pub path: PathBuf,
    /// Relative path inside it, resolved beneath it when mounted.
    pub sub_path: PathBuf,
    /// No container may write it.
    pub read_only: bool,
    /// It is a block device.
    pub block: bool,
    /// Its files are davit's own making (a ConfigMap, a Secret and the like), so that places for mounts within it may be
    /// made in it, although no container may write it.
    pub own_files: bool,
}

/// The volumes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodVolumes {
    /// By `spec.volumes[].name`.
    pub sources: BTreeMap<String, VolumeSource>,
    /// When tokens among them should be renewed by preparing them again.
    pub refresh_at: Option<Timestamp>,
}

/// The volumes of the node.
#[async_trait]
pub trait VolumeService: Send + Sync + 'static {
    /// Makes, fills and mounts all volumes of the pod, or brings them up to date.
    async fn prepare(&self, pod: &Pod, objects: &PodObjects) -> Result<PodVolumes, Problem>;
    /// Unmounts and removes them; fine if there are none.
    async fn release(&self, pod: &Pod) -> Result<(), Problem>;
}

/// The objects a pod refers to.
#[derive(Debug, Clone, Default)]
pub struct PodObjects {
    /// ConfigMaps by name; an absent one does not exist.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name; an absent one does not exist.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Variables that tell of Services.
    pub service_env: BTreeMap<String, String>,
}

/// What a worker asks of and tells the API server.
#[async_trait]
pub trait PodApi: Send + Sync + 'static {
    /// The objects that the pod's environment and volumes are made of, as they are now.
    async fn objects(&self, pod: &Pod) -> Result<PodObjects, Problem>;
    /// Name servers for `dnsPolicy: ClusterFirst`; none if the cluster has no DNS.
    async fn cluster_dns(&self) -> Result<Vec<IpAddr>, Problem>;
    /// Yields whenever one of those objects has changed, appeared or gone.
    fn changes(&self, pod: &Pod) -> BoxStream<'static, ()>;
    /// Applies a strategic merge patch to the pod's status and returns the pod; `None` if it is gone or another.
    async fn patch_status(
        &self,
        pod: &Pod,
        patch: serde_json::Value,
    ) -> Result<Option<Pod>, Problem>;
    /// Deletes the pod's object if it still has this UID; fine if it is gone.
    async fn delete(&self, pod: &Pod) -> Result<(), Problem>;
}

/// Whether an Event reports the ordinary or a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// Where Events of pods go; never blocks and never fails.
pub trait EventSink: Send + Sync + 'static {
    /// Records an Event about the pod, or about one of its containers.
    fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: String,
    );
}

/// Facts of the node that pods are made with.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// The node's addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// Bytes of memory of the machine.
    pub memory_bytes: u64,
    /// Domain of Services.
    pub cluster_domain: String,
    /// What pods can have of the node, for `resourceFieldRef`.
    pub allocatable: BTreeMap<String, davit_api::Quantity>,
    /// Parent of all pod directories.
    pub pods_dir: PathBuf,
    /// Holds seccomp profiles for `localhostProfile`.
    pub seccomp_dir: PathBuf,
    /// The node's `resolv.conf`.
    pub resolv_conf: PathBuf,
}

/// All of it.
#[derive(Clone)]
pub struct Services {
    /// Processes.
    pub runtime: Arc<dyn PodRuntime>,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Networks.
    pub network: Arc<dyn NetworkService>,
    /// Volumes.
    pub volumes: Arc<dyn VolumeService>,
    /// The API server.
    pub api: Arc<dyn PodApi>,
    /// Events.
    pub events: Arc<dyn EventSink>,
    /// The node.
    pub node: Arc<NodeFacts>,
    /// What of it is left.
    pub room: Arc<Room>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("node", &self.node.name)
            .finish_non_exhaustive()
    }
}

/// Longest a hook of a pod may take before its step gives up on it, when nothing else limits it.
pub(crate) const HOOK_LIMIT: Duration = Duration::from_secs(60 * 60);

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // The client's errors print their sources themselves; of an answer only the message is for people.
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => return status.message.clone(),
        Some(error) => return error.to_string(),
        None => {}
    }
    let mut text = error.to_string();
    if let Some(cause) = error.source() {
        text.push_str(": ");
        text.push_str(&chain(cause));
    }
    text
}
