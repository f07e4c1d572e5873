//! davit's own container runtime: one shim process a pod, containers started from an OCI runtime spec.
//!
//! [`Runtime`] starts and adopts sandboxes; a [`Sandbox`] starts, signals and removes containers in one pod. The work in
//! the kernel is done by the pod's shim ([`crate::shim`]), so containers live on when this process dies.
//!
//! The way of a container: [`ContainerConfig`] → OCI spec ([`spec`]) → launch plan ([`launch`]), both pure, → shim.
mod attach;
mod capabilities;
mod client;
mod config;
mod error;
mod exec;
mod host;
pub(crate) mod identity;
mod launch;
mod limits;
mod prepare;
mod sandbox;
mod shutdown;
mod spawn;
mod spec;
mod state;

pub use attach::AttachStreams;
pub use config::{
    CPU_PERIOD_US, ContainerConfig, DEFAULT_SHM_BYTES, ExecConfig, Mount, MountKind, NetnsMode,
    Propagation, Resources, RootFs, RuntimeConfig, SandboxConfig, Seccomp, Security, User,
};
pub use error::{Error, Step, StepError};
pub use exec::resize_terminal;
pub use sandbox::{ExecStreams, Sandbox};
pub use state::{
    ContainerExit, ContainerState, ContainerStatus, ExecOutcome, SandboxEvent, SandboxStats,
    Started, UNKNOWN_EXIT_CODE, Usage,
};

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::cgroup::{self, Cgroups};
use crate::kernel::program::Program;
use crate::shim::protocol::Begin;
use crate::shim::record::Records;
use client::{Client, dial};
use futures::StreamExt;
use prepare::Preparer;
use sandbox::Inner;

/// How many shims are talked to at once when they are adopted.
const ADOPTED_AT_ONCE: usize = 32;

/// Starts and finds sandboxes. Cheap to share; holds the executable that all its shims run.
#[derive(Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    program: Arc<Program>,
    cgroups: Arc<dyn Cgroups>,
    preparer: Arc<Preparer>,
}

impl Runtime {
    /// Opens the shim's executable (so that replacing the file later does no harm), makes the pods' directory, and looks
    /// at the host's cgroups.
    ///
    /// # Errors
    /// [`Error::File`] when either cannot be used, [`Error::Step`] when there are no cgroups.
    pub fn new(config: RuntimeConfig) -> Result<Self, Error> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        std::fs::create_dir_all(&config.pods_dir).map_err(file(&config.pods_dir))?;
        let program = Program::open(&config.program).map_err(file(&config.program))?;
        let cgroups = cgroup::detect().map_err(|source| Error::Step {
            action: "use",
            object: "the cgroups of this host".to_owned(),
            source,
        })?;
        Ok(Self {
            config,
            program: Arc::new(program),
            cgroups: Arc::from(cgroups),
            preparer: Arc::new(Preparer::new()),
        })
    }

    /// Starts the shim of a new pod: its namespaces and cgroup exist when this returns.
    /// A shim of the same pod that still runs is ended first, with all that is in it.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Spawn`], or [`Error::Step`] naming what could not be set up.
    pub async fn create_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, Error> {
        check(&config)?;
        let records = Records::of_pod(&config.dir);
        if records.dir().exists() {
            self.find(&records, &config).await?.shutdown().await?;
        }
        let root = self.config.cgroup_root.as_str();
        let parts = [
            root,
            &config.cgroup_parent,
            &format!("pod{}", config.pod_uid),
        ];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let begin = Begin {
            pod_group: parts.join("/"),
            shim_group: format!("{root}/shims"),
            sandbox: config,
        };
        let pod = begin.sandbox.pod_uid.clone();
        let launched = self.launch(&pod, &records).await?;
        let (socket, remains) = launched.split().map_err(|source| Error::Spawn {
            pod: pod.clone(),
            source,
        })?;
        let greeted = Client::greet(&pod, socket, Some(&begin)).await;
        // The process that became the shim's parent ends by itself.
        let _ = tokio::task::spawn_blocking(move || remains.reap()).await;
        match greeted {
            Ok((client, greeting)) => Ok(self.sandbox(begin, records, greeting.pid, Some(client))),
            Err(error) => {
                let failed = self.sandbox(begin, records, 0, None);
                // What went wrong first is what the caller wants to know.
                let _ = failed.shutdown().await;
                Err(error)
            }
        }
    }

    /// Finds every sandbox left under the pods' directory by an earlier agent, dead ones included, with the exits that
    /// happened meanwhile. One that cannot be read is an error of its own and does not hide the others.
    pub async fn adopt(&self) -> Vec<Result<Sandbox, Error>> {
        let entries = match std::fs::read_dir(&self.config.pods_dir) {
            Ok(entries) => entries,
            Err(source) => {
                return vec![Err(Error::File {
                    path: self.config.pods_dir.clone(),
                    source,
                })];
            }
        };
        let found = entries.flatten().filter_map(|entry| {
            let records = Records::of_pod(&entry.path());
            records.dir().exists().then(|| self.adopt_one(records))
        });
        futures::stream::iter(found)
            .buffered(ADOPTED_AT_ONCE)
            .collect()
            .await
    }

    async fn adopt_one(&self, records: Records) -> Result<Sandbox, Error> {
        match records.read_sandbox() {
            Ok(begin) => Ok(self.reconnect(begin, records).await),
            Err(source) => {
                let path = records.dir().join("sandbox.json");
                Err(Error::File { path, source })
            }
        }
    }

    /// Removes the cgroup that held all pods, once they are shut down. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Step`] while a pod or a shim still lives in it.
    pub fn remove_root_cgroup(&self) -> Result<(), Error> {
        self.cgroups
            .remove(&self.config.cgroup_root)
            .map_err(|source| Error::Step {
                action: "remove",
                object: format!("cgroup {}", self.config.cgroup_root),
                source,
            })
    }

    async fn launch(&self, pod: &str, records: &Records) -> Result<spawn::Launched, Error> {
        let (program, records, uid) = (Arc::clone(&self.program), records.clone(), pod.to_owned());
        let launched = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(records.dir().join("containers"))?;
            let log = File::options()
                .append(true)
                .create(true)
                .open(records.log())?;
            spawn::spawn(&program, &uid, log)
        });
        launched
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| Error::Spawn {
                pod: pod.to_owned(),
                source,
            })
    }

    /// What an earlier shim of a pod has left.
    async fn find(&self, records: &Records, config: &SandboxConfig) -> Result<Sandbox, Error> {
        match records.read_sandbox() {
            Ok(begin) => Ok(self.reconnect(begin, records.clone()).await),
            // It did not get far enough to write anything down.
            Err(_) => {
                let root = &self.config.cgroup_root;
                let begin = Begin {
                    pod_group: format!("{root}/pod{}", config.pod_uid),
                    shim_group: format!("{root}/shims"),
                    sandbox: config.clone(),
                };
                Ok(self.sandbox(begin, records.clone(), 0, None))
            }
        }
    }

    async fn reconnect(&self, begin: Begin, records: Records) -> Sandbox {
        if let Ok(socket) = dial(&records)
            && let Ok((client, greeting)) =
                Client::greet(&begin.sandbox.pod_uid, socket, None).await
        {
            let begin = Begin {
                sandbox: greeting.sandbox,
                ..begin
            };
            return self.sandbox(begin, records, greeting.pid, Some(client));
        }
        self.sandbox(begin, records, 0, None)
    }

    fn sandbox(
        &self,
        begin: Begin,
        records: Records,
        shim_pid: i32,
        client: Option<Client>,
    ) -> Sandbox {
        Sandbox {
            inner: Arc::new(Inner {
                config: begin.sandbox,
                pod_group: begin.pod_group,
                records,
                shim_pid,
                client,
                cgroups: Arc::clone(&self.cgroups),
                preparer: Arc::clone(&self.preparer),
            }),
        }
    }
}

/// The uid and the class become parts of paths.
fn check(config: &SandboxConfig) -> Result<(), Error> {
    let plain = |text: &str| {
        !text.starts_with('.')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let invalid = |field: &str, problem: &str| {
        Err(Error::Invalid {
            object: format!("pod {}/{}", config.namespace, config.name),
            field: field.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if config.pod_uid.is_empty() || !plain(&config.pod_uid) {
        return invalid("uid", "must be letters, digits, '-', '_' and '.'");
    }
    if !plain(&config.cgroup_parent) {
        return invalid(
            "cgroup",
            "must be one name of letters, digits, '-', '_' and '.'",
        );
    }
    if !config.dir.is_absolute() {
        return invalid("directory", "must be an absolute path");
    }
    Ok(())
}
