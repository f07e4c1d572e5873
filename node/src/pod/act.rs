//! The effects: carries out one step of a plan and reports what came of it. Each function is one step.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use parking_lot::Mutex;

use super::config::{self, Ingredients, container_config, host_network};
use super::dns::{ResolvConf, Surroundings, resolv_conf};
use super::files::PodDir;
use super::hooks;
use super::hosts::{host_network_hosts_file, hosts_file, names};
use super::members;
use super::mount_points::mount_points;
use super::observed::{ImageId, Problem};
use super::resources::{pod_resources, qos_class};
use super::security::{self, SeccompChoice};
use super::services::{PodNetwork, PodVolumes, Services, Severity, chain};
use super::step::{Outcome, StartFailure, Started, Step};
use super::sysctls::sysctls;
use crate::env::{ContainerEnv, container_env};
use crate::inputs::PodInputs;
use crate::kernel::path::normal_relative;
use crate::runtime::{self, ContainerConfig, DEFAULT_SHM_BYTES, NetnsMode, SandboxConfig, Seccomp};

mod image;
pub(super) mod resize;
mod stop;

/// What the steps of one pod share.
pub(crate) struct Ground {
    pub(crate) services: Services,
    pub(crate) dir: PodDir,
    pub(crate) volumes: Mutex<PodVolumes>,
    pub(crate) network: Mutex<Option<PodNetwork>>,
}

/// What a step needs to know of the container it is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// The running container's id.
    pub(crate) id: String,
    /// The image it runs, or is to run.
    pub(crate) image: ImageId,
    /// Containers made so far.
    pub(crate) attempts: u32,
    /// Id of the container whose processes it is to live among, if that runs.
    pub(crate) target: Option<String>,
    /// Ids of the containers that run, by name.
    pub(crate) running: BTreeMap<String, String>,
    /// Addresses of the pod.
    pub(crate) ips: Vec<std::net::IpAddr>,
    /// How long the step may take.
    pub(crate) limit: Duration,
}

/// One pod's ground with the pod as it is now.
#[derive(Clone)]
pub(crate) struct Act {
    pub(crate) ground: Arc<Ground>,
    pub(crate) pod: Arc<Pod>,
}

impl Act {
    /// Carries out `step`; `None` for the steps that have no outcome.
    pub(crate) async fn perform(self, step: Step, subject: Subject) -> Option<Outcome> {
        Some(match step {
            Step::PrepareVolumes => Outcome::VolumesPrepared(self.prepare_volumes().await),
            Step::RefreshVolumes => Outcome::VolumesRefreshed(self.prepare_volumes().await),
            Step::CreateSandbox { attempt } => {
                Outcome::SandboxCreated(self.create_sandbox(attempt).await)
            }
            Step::EnsureImage { container } => {
                let result = self.ensure_image(&container).await;
                Outcome::Image { container, result }
            }
            Step::StartContainer { container, attempt } => {
                let result = self.start_container(&container, attempt, &subject).await;
                Outcome::Started { container, result }
            }
            Step::PostStart { container } => {
                let result = self.post_start(&container, &subject).await;
                Outcome::PostStarted { container, result }
            }
            Step::PreStop { container } => {
                self.pre_stop(&container, &subject).await;
                Outcome::PreStopped { container }
            }
            Step::RemoveContainer { container, id } => {
                self.remove_container(&container, &id, subject.attempts)
                    .await;
                Outcome::Removed { container, id }
            }
            Step::Resize => Outcome::Resized(self.resize(&subject).await),
            Step::StopSandbox => Outcome::SandboxStopped(self.stop_sandbox().await),
            Step::ReleaseVolumes => Outcome::VolumesReleased(self.release_volumes().await),
            Step::DeleteObject => {
                Outcome::ObjectDeleted(self.ground.services.api.delete(&self.pod).await)
            }
            Step::Stop { container, why, .. } => {
                self.tell_why(&container, &why);
                return None;
            }
            Step::Terminate { container } => {
                self.terminate(&container, &subject).await;
                return None;
            }
            Step::Kill { .. } => {
                self.kill(&subject).await;
                return None;
            }
            Step::Fail { reason, message } => {
                self.event(None, Severity::Normal, &reason, message);
                return None;
            }
            Step::Forget | Step::WakeAt(_) => return None,
        })
    }

    pub(crate) fn event(
        &self,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        self.ground
            .services
            .events
            .event(&self.pod, container, severity, reason, message);
    }

    fn uid(&self) -> &str {
        members::uid(&self.pod)
    }

    async fn prepare_volumes(&self) -> Result<Option<k8s_openapi::jiff::Timestamp>, Problem> {
        let services = &self.ground.services;
        let prepared = async {
            let objects = services.api.objects(&self.pod).await?;
            services.volumes.prepare(&self.pod, &objects).await
        };
        match prepared.await {
            Ok(volumes) => {
                let refresh_at = volumes.refresh_at;
                *self.ground.volumes.lock() = volumes;
                Ok(refresh_at)
            }
            Err(problem) => {
                self.event(
                    None,
                    Severity::Warning,
                    "FailedMount",
                    problem.message.clone(),
                );
                Err(problem)
            }
        }
    }

    async fn release_volumes(&self) -> Result<(), Problem> {
        let result = self.ground.services.volumes.release(&self.pod).await;
        if let Err(problem) = &result {
            self.event(
                None,
                Severity::Warning,
                "FailedUnMount",
                problem.message.clone(),
            );
        }
        result
    }

    async fn create_sandbox(&self, attempt: u32) -> Result<Vec<std::net::IpAddr>, Problem> {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.event(None, Severity::Normal, "SandboxChanged", message);
        }
        let made = async {
            let network = self.ground.services.network.attach(&self.pod).await?;
            let servers = self.ground.services.api.cluster_dns().await?;
            self.write_etc(&network, &servers)?;
            let config = self.sandbox_config(network.netns.clone());
            let created = self.ground.services.runtime.create_sandbox(config).await;
            created.map_err(|error| Problem::new("FailedCreatePodSandBox", chain(&error)))?;
            Ok(network)
        };
        match made.await {
            Ok(network) => {
                let ips = network.ips.clone();
                *self.ground.network.lock() = Some(network);
                Ok(ips)
            }
            Err(Problem { message, .. }) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.event(
                    None,
                    Severity::Warning,
                    "FailedCreatePodSandBox",
                    message.clone(),
                );
                Err(Problem::new("FailedCreatePodSandBox", message))
            }
        }
    }

    fn sandbox_config(&self, netns: NetnsMode) -> SandboxConfig {
        let spec = members::spec(&self.pod);
        let node = &self.ground.services.node;
        SandboxConfig {
            pod_uid: self.uid().to_owned(),
            namespace: members::namespace(&self.pod).to_owned(),
            name: members::name(&self.pod).to_owned(),
            hostname: names(&self.pod, &node.cluster_domain).hostname,
            dir: self.ground.dir.path().to_owned(),
            cgroup_parent: qos_class(&self.pod).cgroup().to_owned(),
            netns,
            host_pid: spec.host_pid.unwrap_or(false),
            host_ipc: spec.host_ipc.unwrap_or(false),
            share_pid: spec.share_process_namespace.unwrap_or(false),
            sysctls: sysctls(&self.pod),
            resources: pod_resources(&self.pod),
            shm_bytes: DEFAULT_SHM_BYTES,
        }
    }

    fn write_etc(
        &self,
        network: &PodNetwork,
        cluster_servers: &[std::net::IpAddr],
    ) -> Result<(), Problem> {
        let node = &self.ground.services.node;
        let names = names(&self.pod, &node.cluster_domain);
        let on_host = host_network(&self.pod);
        let (hosts, hostname) = if on_host {
            let node_hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            (
                host_network_hosts_file(&self.pod, &node_hosts),
                node.name.clone(),
            )
        } else {
            (hosts_file(&self.pod, &names, &network.ips), names.hostname)
        };
        // A node without the file has no name servers to pass on.
        let node_conf =
            ResolvConf::parse(&std::fs::read_to_string(&node.resolv_conf).unwrap_or_default());
        let around = Surroundings {
            cluster_servers,
            cluster_domain: &node.cluster_domain,
            node: &node_conf,
            network: network.dns.as_ref(),
        };
        let conf = resolv_conf(&self.pod, around).render();
        self.ground.dir.write_etc(&hosts, &hostname, &conf)
    }

    async fn start_container(
        &self,
        name: &str,
        attempt: u32,
        subject: &Subject,
    ) -> Result<Started, StartFailure> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let result = self.try_start(name, attempt, subject, &id).await;
        match &result {
            Ok(_) => {
                self.event(
                    Some(name),
                    Severity::Normal,
                    "Started",
                    format!("Started container {name}"),
                );
            }
            Err(failure) => {
                let message = match failure {
                    StartFailure::Refused(problem) => &problem.message,
                    StartFailure::NotRun { message, .. } => message,
                };
                self.event(
                    Some(name),
                    Severity::Warning,
                    "Failed",
                    format!("Error: {message}"),
                );
                if matches!(failure, StartFailure::Refused(_)) {
                    self.drop_root(&id).await;
                }
            }
        }
        result
    }

    async fn try_start(
        &self,
        name: &str,
        attempt: u32,
        subject: &Subject,
        id: &str,
    ) -> Result<Started, StartFailure> {
        let config = self
            .configure(name, attempt, subject, id)
            .await
            .map_err(StartFailure::Refused)?;
        let wanted = config.resources.clone();
        self.event(
            Some(name),
            Severity::Normal,
            "Created",
            format!("Created container: {name}"),
        );
        match self
            .ground
            .services
            .runtime
            .start_container(self.uid(), config)
            .await
        {
            Ok(runtime::Started { pid, started_at }) => Ok(Started {
                id: id.to_owned(),
                pid,
                at: started_at,
                limits: self.limits(Some(id), &wanted),
            }),
            Err(error @ runtime::Error::Step { .. }) => Err(StartFailure::NotRun {
                id: id.to_owned(),
                message: chain(&error),
            }),
            Err(error) => Err(StartFailure::Refused(Problem::new(
                "CreateContainerError",
                chain(&error),
            ))),
        }
    }

    async fn configure(
        &self,
        name: &str,
        attempt: u32,
        subject: &Subject,
        id: &str,
    ) -> Result<ContainerConfig, Problem> {
        let refused = |message: String| Problem::new("CreateContainerConfigError", message);
        let member = members::member(&self.pod, name)
            .ok_or_else(|| refused(format!("no container {name}")))?;
        let services = &self.ground.services;
        let target = members::target(&self.pod, name);
        if let (Some(target), None) = (target, &subject.target) {
            let why = format!("targetContainerName \"{target}\": that container does not run");
            return Err(Problem::new("CreateContainerError", why));
        }
        let env = self.environment(&member.container, subject).await?;
        let choice = security::seccomp(&self.pod, &member.container)
            .map_err(|error| refused(error.to_string()))?;
        let seccomp = self.seccomp(choice).map_err(refused)?;
        let image = services.images.config(&subject.image);
        let image = image.ok_or_else(|| {
            Problem::new(
                "ImageInspectError",
                format!("image {} is gone", subject.image.name),
            )
        })?;
        let rootfs = services.images.prepare(&subject.image, id);
        let rootfs = rootfs.map_err(|error| Problem::new("CreateContainerError", chain(&error)))?;
        let termination_log = self.ground.dir.make_termination_log(id)?;
        let volumes = self.ground.volumes.lock().sources.clone();
        let dir = &self.ground.dir;
        let config = container_config(Ingredients {
            pod: &self.pod,
            container: &member.container,
            among: subject.target.clone(),
            id: id.to_owned(),
            attempt,
            image: &image,
            rootfs,
            env: &env,
            volumes: &volumes,
            seccomp,
            hostname: &self.hostname(),
            files: &[
                ("/etc/hosts", dir.hosts()),
                ("/etc/hostname", dir.hostname()),
                ("/etc/resolv.conf", dir.resolv_conf()),
            ],
            termination_log,
            log_path: crate::logs::log_path(&dir.logs(), name, attempt),
            node_memory: services.node.memory_bytes,
        });
        let config = config.map_err(|error| {
            let reason = match error {
                config::Error::NoCommand => "CreateContainerError",
                _ => "CreateContainerConfigError",
            };
            Problem::new(reason, chain(&error))
        })?;
        for point in mount_points(&config.mounts, &volumes) {
            point.make()?;
        }
        Ok(config)
    }

    fn hostname(&self) -> String {
        let node = &self.ground.services.node;
        if host_network(&self.pod) {
            node.name.clone()
        } else {
            names(&self.pod, &node.cluster_domain).hostname
        }
    }

    async fn environment(
        &self,
        container: &k8s_openapi::api::core::v1::Container,
        subject: &Subject,
    ) -> Result<ContainerEnv, Problem> {
        let services = &self.ground.services;
        let objects = services.api.objects(&self.pod).await?;
        let ips = if subject.ips.is_empty() {
            &services.node.ips
        } else {
            &subject.ips
        };
        let inputs = PodInputs {
            pod: &self.pod,
            node_name: &services.node.name,
            host_ips: &services.node.ips,
            pod_ips: ips,
            allocatable: &services.node.allocatable,
            config_maps: &objects.config_maps,
            secrets: &objects.secrets,
            service_env: &objects.service_env,
        };
        let env = container_env(&inputs, container)
            .map_err(|error| Problem::new("CreateContainerConfigError", chain(&error)))?;
        for skipped in &env.skipped {
            let message = skipped.to_string();
            self.event(
                Some(&container.name),
                Severity::Warning,
                "InvalidEnvironmentVariableNames",
                message,
            );
        }
        Ok(env)
    }

    fn seccomp(&self, choice: SeccompChoice) -> Result<Seccomp, String> {
        let file = match choice {
            SeccompChoice::RuntimeDefault => return Ok(Seccomp::RuntimeDefault),
            SeccompChoice::Unconfined => return Ok(Seccomp::Unconfined),
            SeccompChoice::File(file) => file,
        };
        let inside = normal_relative(&file).filter(|path| !path.as_os_str().is_empty());
        let Some(inside) = inside else {
            return Err(format!(
                "localhostProfile \"{file}\" must be a relative path without '..'"
            ));
        };
        let path = self.ground.services.node.seccomp_dir.join(inside);
        let text = std::fs::read(&path)
            .map_err(|error| format!("cannot read seccomp profile {}: {error}", path.display()))?;
        let profile = serde_json::from_slice(&text)
            .map_err(|error| format!("seccomp profile {} is not JSON: {error}", path.display()))?;
        Ok(Seccomp::Profile(profile))
    }

    async fn post_start(&self, name: &str, subject: &Subject) -> Result<(), String> {
        let result = hooks::post_start(self, name, subject).await;
        if let Err(message) = &result {
            self.event(
                Some(name),
                Severity::Warning,
                "FailedPostStartHook",
                message.clone(),
            );
        }
        result
    }

    async fn pre_stop(&self, name: &str, subject: &Subject) {
        if let Err(message) = hooks::pre_stop(self, name, subject).await {
            self.event(Some(name), Severity::Warning, "FailedPreStopHook", message);
        }
    }

    /// The pod's pull secrets that exist.
    async fn pull_secrets(&self) -> Vec<Arc<Secret>> {
        let wanted: Vec<_> = members::spec(&self.pod)
            .image_pull_secrets
            .iter()
            .flatten()
            .collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let objects = self
            .ground
            .services
            .api
            .objects(&self.pod)
            .await
            .unwrap_or_default();
        wanted
            .iter()
            .filter_map(|reference| objects.secrets.get(&reference.name).cloned())
            .collect()
    }
}
