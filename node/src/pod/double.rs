//! A node without a machine, for tests: does at once what it is asked, writes down what that was, and fails where it is told to.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Secret};
use k8s_openapi::jiff::Timestamp;
use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::members;
use super::observed::{ImageId, Problem};
use super::services::{
    EventSink, ImageError, ImageService, LocalImage, NetworkService, NodeFacts, PodApi, PodNetwork,
    PodObjects, PodRuntime, PodVolumes, Services, Severity, VolumeService,
};
use crate::runtime::{
    self, AttachStreams, ContainerConfig, ContainerExit, ContainerState, ContainerStatus,
    ExecConfig, ExecOutcome, ExecStreams, NetnsMode, Resources, SandboxConfig, SandboxEvent,
    Started,
};

/// The node. Everything it was asked is in `log`, in the order it was asked.
pub(crate) struct Double {
    log: watch::Sender<Vec<String>>,
    events: Mutex<Vec<String>>,
    failing: Mutex<BTreeMap<String, String>>,
    state: Mutex<State>,
    /// The newest object of the pod as the API server has it.
    pub(crate) object: watch::Sender<Option<Pod>>,
    dir: PathBuf,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, ContainerState>,
    configs: BTreeMap<String, ContainerConfig>,
    sandbox: bool,
    listeners: Vec<mpsc::UnboundedSender<SandboxEvent>>,
    changes: Vec<mpsc::UnboundedSender<()>>,
    objects: PodObjects,
    /// Containers that do not mind the stop signal.
    stubborn: BTreeSet<String>,
    version: u64,
    /// Of containers by id, of the pod by nothing.
    limits: BTreeMap<String, Resources>,
}

impl Double {
    pub(crate) fn new(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            log: watch::Sender::default(),
            events: Mutex::default(),
            failing: Mutex::default(),
            state: Mutex::default(),
            object: watch::Sender::default(),
            dir,
        })
    }

    pub(crate) fn services(self: &Arc<Self>) -> Services {
        Services {
            runtime: Arc::clone(self) as _,
            images: Arc::clone(self) as _,
            network: Arc::clone(self) as _,
            volumes: Arc::clone(self) as _,
            api: Arc::clone(self) as _,
            events: Arc::clone(self) as _,
            room: Arc::default(),
            node: Arc::new(NodeFacts {
                name: "node".into(),
                ips: vec!["192.168.0.5".parse().unwrap()],
                memory_bytes: 1 << 34,
                cluster_domain: "cluster.local".into(),
                allocatable: BTreeMap::new(),
                pods_dir: self.dir.clone(),
                seccomp_dir: self.dir.join("seccomp"),
                resolv_conf: self.dir.join("resolv.conf"),
            }),
        }
    }

    fn note(&self, what: String) {
        self.log.send_modify(|log| log.push(what));
    }

    fn failure(&self, what: &str) -> Option<String> {
        self.failing.lock().get(what).cloned()
    }

    fn refused(&self, what: &str) -> Result<(), runtime::Error> {
        match self.failure(what) {
            Some(cause) => Err(runtime::Error::Step {
                action: "start",
                object: what.to_owned(),
                source: runtime::StepError {
                    step: runtime::Step::Exec,
                    object: None,
                    errno: 2,
                    cause,
                },
            }),
            None => Ok(()),
        }
    }

    /// From now on `what` fails.
    pub(crate) fn fail(&self, what: &str, cause: &str) {
        self.failing
            .lock()
            .insert(what.to_owned(), cause.to_owned());
    }

    /// From now on it does not.
    pub(crate) fn mend(&self, what: &str) {
        self.failing.lock().remove(what);
    }

    pub(crate) fn stubborn(&self, container: &str) {
        self.state.lock().stubborn.insert(container.to_owned());
    }

    /// The container of that name exits by itself.
    pub(crate) fn exit(&self, name: &str, exit_code: i32, oom_killed: bool) {
        let mut state = self.state.lock();
        let running = state
            .containers
            .values_mut()
            .filter(|container| container.name == name)
            .find(|container| matches!(container.status, ContainerStatus::Running { .. }))
            .expect("a running container");
        let exit = ContainerExit {
            id: running.id.clone(),
            exit_code,
            signal: None,
            oom_killed,
            started_at: Timestamp::now(),
            finished_at: Timestamp::now(),
        };
        running.status = ContainerStatus::Exited(exit.clone());
        state
            .listeners
            .retain(|listener| listener.send(SandboxEvent::Exited(exit.clone())).is_ok());
    }

    /// The shim dies.
    pub(crate) fn lose_sandbox(&self) {
        let mut state = self.state.lock();
        state.sandbox = false;
        for listener in state.listeners.drain(..) {
            let _ = listener.send(SandboxEvent::Lost);
        }
    }

    pub(crate) fn change_objects(&self, change: impl FnOnce(&mut PodObjects)) {
        let mut state = self.state.lock();
        change(&mut state.objects);
        state.changes.retain(|listener| listener.send(()).is_ok());
    }

    pub(crate) fn config(&self, name: &str) -> ContainerConfig {
        self.state.lock().configs[name].clone()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().clone()
    }

    /// Waits until `what` was asked.
    pub(crate) async fn asked(&self, what: &str) {
        let mut log = self.log.subscribe();
        let found = log.wait_for(|log| log.iter().any(|entry| entry == what));
        tokio::time::timeout(std::time::Duration::from_secs(20), found)
            .await
            .expect(what)
            .unwrap();
    }

    /// Waits until the pod's status is as wanted.
    pub(crate) async fn status(&self, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let mut object = self.object.subscribe();
        let found = object.wait_for(|pod| {
            pod.as_ref()
                .and_then(|pod| pod.status.as_ref())
                .is_some_and(&wanted)
        });
        let pod = tokio::time::timeout(std::time::Duration::from_secs(20), found).await;
        let pod = pod
            .unwrap_or_else(|_| panic!("status never came: {:?}", self.object.borrow()))
            .unwrap()
            .clone();
        pod.and_then(|pod| pod.status).unwrap()
    }

    /// Puts the pod on the API server.
    pub(crate) fn put(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        let mut state = self.state.lock();
        state.version += 1;
        pod.metadata.resource_version = Some(state.version.to_string());
        self.object.send_replace(Some(pod.clone()));
        pod
    }
}

#[async_trait]
impl PodRuntime for Double {
    async fn create_sandbox(&self, _config: SandboxConfig) -> Result<(), runtime::Error> {
        self.note("sandbox".into());
        self.refused("sandbox")?;
        self.state.lock().sandbox = true;
        Ok(())
    }

    async fn stop_sandbox(&self, _pod_uid: &str) -> Result<(), runtime::Error> {
        self.note("stop-sandbox".into());
        let mut state = self.state.lock();
        state.sandbox = false;
        state.listeners.clear();
        Ok(())
    }

    async fn start_container(
        &self,
        _pod_uid: &str,
        config: ContainerConfig,
    ) -> Result<Started, runtime::Error> {
        let what = format!("start:{}#{}", config.name, config.attempt);
        self.note(what.clone());
        self.refused(&what)?;
        let started = Started {
            pid: 100,
            started_at: Timestamp::now(),
        };
        let mut state = self.state.lock();
        let container = ContainerState {
            id: config.id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            status: ContainerStatus::Running {
                pid: started.pid,
                started_at: started.started_at,
            },
        };
        state.containers.insert(config.id.clone(), container);
        state
            .limits
            .insert(config.id.clone(), config.resources.clone());
        state.configs.insert(config.name.clone(), config);
        Ok(started)
    }

    async fn signal(&self, _pod_uid: &str, id: &str, signal: i32) -> Result<(), runtime::Error> {
        let name = self.state.lock().containers[id].name.clone();
        self.note(format!("signal:{name}:{signal}"));
        if !self.state.lock().stubborn.contains(&name) {
            self.exit(&name, 128 + signal, false);
        }
        Ok(())
    }

    async fn kill(&self, _pod_uid: &str, id: &str) -> Result<(), runtime::Error> {
        let name = self.state.lock().containers[id].name.clone();
        self.note(format!("kill:{name}"));
        self.exit(&name, 137, false);
        Ok(())
    }

    async fn remove_container(&self, _pod_uid: &str, id: &str) -> Result<(), runtime::Error> {
        let removed = self.state.lock().containers.remove(id);
        self.note(format!(
            "remove:{}",
            removed.map(|container| container.name).unwrap_or_default()
        ));
        Ok(())
    }

    async fn exec_stream(
        &self,
        pod_uid: &str,
        _id: &str,
        _config: ExecConfig,
    ) -> Result<ExecStreams, runtime::Error> {
        let pod = pod_uid.to_owned();
        Err(runtime::Error::Lost { pod })
    }

    async fn attach(
        &self,
        pod_uid: &str,
        _id: &str,
        _stdout: bool,
        _stderr: bool,
    ) -> Result<AttachStreams, runtime::Error> {
        let pod = pod_uid.to_owned();
        Err(runtime::Error::Lost { pod })
    }

    fn limits(
        &self,
        _pod_uid: &str,
        id: Option<&str>,
        _wanted: &Resources,
    ) -> Result<Resources, runtime::Error> {
        let state = self.state.lock();
        Ok(state
            .limits
            .get(id.unwrap_or_default())
            .cloned()
            .unwrap_or_default())
    }

    async fn set_limits(
        &self,
        _pod_uid: &str,
        id: Option<&str>,
        limits: &Resources,
    ) -> Result<(), runtime::Error> {
        let mut state = self.state.lock();
        let name = id
            .and_then(|id| state.containers.get(id))
            .map(|own| own.name.clone());
        let what = format!("limit {}", name.as_deref().unwrap_or("pod"));
        self.note(format!(
            "{what} {:?} {:?}",
            limits.cpu_quota_us, limits.memory_bytes
        ));
        self.refused(&what)?;
        let id = id.unwrap_or_default().to_owned();
        state.limits.insert(id, limits.clone());
        Ok(())
    }

    async fn memory_in_use(&self, _pod_uid: &str, _id: Option<&str>) -> Option<u64> {
        Some(32 << 20)
    }

    async fn close_stdin(&self, _pod_uid: &str, _id: &str) -> Result<(), runtime::Error> {
        Ok(())
    }

    fn network_namespace(&self, _pod_uid: &str) -> Result<PathBuf, runtime::Error> {
        Ok(PathBuf::from("/proc/self/ns/net"))
    }

    async fn exec(
        &self,
        _pod_uid: &str,
        _id: &str,
        config: ExecConfig,
    ) -> Result<ExecOutcome, runtime::Error> {
        let what = format!("exec:{}", config.args.join(" "));
        self.note(what.clone());
        let failed = self.failure(&what);
        Ok(ExecOutcome {
            exit_code: i32::from(failed.is_some()),
            timed_out: false,
            stdout: failed.unwrap_or_default().into_bytes(),
            stderr: Vec::new(),
        })
    }

    async fn containers(&self, _pod_uid: &str) -> Option<Vec<ContainerState>> {
        Some(self.state.lock().containers.values().cloned().collect())
    }

    fn events(&self, _pod_uid: &str) -> Option<BoxStream<'static, SandboxEvent>> {
        let mut state = self.state.lock();
        if !state.sandbox {
            return None;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        state.listeners.push(sender);
        Some(UnboundedReceiverStream::new(receiver).boxed())
    }
}

fn image() -> LocalImage {
    let id = ImageId {
        name: "docker.io/library/x:1".into(),
        id: "sha256:1".into(),
        digest: "x@sha256:2".into(),
    };
    LocalImage { id, size: 5 }
}

#[async_trait]
impl ImageService for Double {
    fn find(&self, name: &str) -> Result<Option<LocalImage>, ImageError> {
        Ok((name == "here:1").then(image))
    }

    async fn pull(&self, name: &str, secrets: &[Arc<Secret>]) -> Result<LocalImage, ImageError> {
        self.note(format!("pull:{name}{}", "+secret".repeat(secrets.len())));
        match self.failure(&format!("pull:{name}")) {
            None => Ok(image()),
            Some(cause) => {
                let source = crate::image::Error::NotFound { reference: cause };
                Err(ImageError::Store {
                    name: name.to_owned(),
                    source,
                })
            }
        }
    }

    fn config(&self, _image: &ImageId) -> Option<Arc<ImageConfiguration>> {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Cmd": ["run"], "StopSignal": "SIGINT" },
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [],
        });
        serde_json::from_value(config).ok()
    }

    fn prepare(&self, _image: &ImageId, container_id: &str) -> Result<runtime::RootFs, ImageError> {
        let upper = PathBuf::from(container_id);
        Ok(runtime::RootFs {
            lower: Vec::new(),
            work: upper.clone(),
            upper,
            read_only: false,
        })
    }

    async fn discard(&self, _container_id: &str) -> Result<(), ImageError> {
        Ok(())
    }
}

#[async_trait]
impl NetworkService for Double {
    async fn attach(&self, _pod: &Pod) -> Result<PodNetwork, Problem> {
        self.note("attach".into());
        if let Some(cause) = self.failure("attach") {
            return Err(Problem::new("FailedCreatePodSandBox", cause));
        }
        Ok(PodNetwork {
            netns: NetnsMode::New,
            ips: vec!["10.1.0.2".parse().unwrap()],
            dns: None,
        })
    }

    async fn release(&self, _pod_uid: &str) -> Result<(), Problem> {
        self.note("detach".into());
        Ok(())
    }
}

#[async_trait]
impl VolumeService for Double {
    async fn prepare(&self, _pod: &Pod, objects: &PodObjects) -> Result<PodVolumes, Problem> {
        self.note("volumes".into());
        match self.failure("volumes") {
            Some(name) if !objects.config_maps.contains_key(&name) => Err(Problem::new(
                "FailedMount",
                format!("configmap \"{name}\" not found"),
            )),
            _ => Ok(PodVolumes::default()),
        }
    }

    async fn release(&self, _pod: &Pod) -> Result<(), Problem> {
        self.note("release".into());
        Ok(())
    }
}

#[async_trait]
impl PodApi for Double {
    async fn objects(&self, _pod: &Pod) -> Result<PodObjects, Problem> {
        Ok(self.state.lock().objects.clone())
    }

    async fn cluster_dns(&self) -> Result<Vec<std::net::IpAddr>, Problem> {
        Ok(Vec::new())
    }

    fn changes(&self, _pod: &Pod) -> BoxStream<'static, ()> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().changes.push(sender);
        UnboundedReceiverStream::new(receiver).boxed()
    }

    async fn patch_status(&self, pod: &Pod, patch: Value) -> Result<Option<Pod>, Problem> {
        if let Some(cause) = self.failure("patch") {
            return Err(Problem::new("FailedPatch", cause));
        }
        let Some(mut object) = self.object.borrow().clone() else {
            return Ok(None);
        };
        if object.metadata.uid != pod.metadata.uid {
            return Ok(None);
        }
        let mut status = serde_json::to_value(object.status.unwrap_or_default()).unwrap();
        merge(&mut status, &patch["status"]);
        object.status = serde_json::from_value(status).unwrap();
        Ok(Some(self.put(&object)))
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Problem> {
        self.note("delete".into());
        assert_eq!(
            self.object.borrow().as_ref().map(members::uid),
            Some(members::uid(pod))
        );
        self.object.send_replace(None);
        Ok(())
    }
}

/// Enough of a strategic merge for statuses: conditions by type, all else replaced.
fn merge(status: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        if key != "conditions" {
            status[key] = value.clone();
            continue;
        }
        for item in value.as_array().unwrap() {
            let list = status[key].as_array().cloned().unwrap_or_default();
            let mut list: Vec<Value> = list
                .into_iter()
                .filter(|other| other["type"] != item["type"])
                .collect();
            list.push(item.clone());
            status[key] = Value::Array(list);
        }
    }
}

impl EventSink for Double {
    fn event(
        &self,
        _pod: &Pod,
        _container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let mark = if severity == Severity::Warning {
            "!"
        } else {
            ""
        };
        self.events
            .lock()
            .push(format!("{mark}{reason}: {message}"));
    }
}
