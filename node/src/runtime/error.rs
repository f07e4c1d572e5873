//! Why the runtime could not do as asked.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why an operation on a sandbox or container failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong; the same request fails again.
    #[error("{object}: {field} {problem}")]
    Invalid {
        /// The container or pod.
        object: String,
        /// The field.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A step inside the shim or the starting container failed. Worth a retry unless [`StepError::step`] is
    /// [`Step::Exec`].
    #[error("cannot {action} {object}")]
    Step {
        /// What was wanted, as a verb.
        action: &'static str,
        /// The container or pod.
        object: String,
        /// The step that failed.
        #[source]
        source: StepError,
    },
    /// The shim could not be started, or died at once. Worth a retry.
    #[error("cannot start the shim of pod {pod}")]
    Spawn {
        /// The pod's uid.
        pod: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The shim is gone: its containers are being ended; make a new sandbox.
    #[error("the shim of pod {pod} is gone")]
    Lost {
        /// The pod's uid.
        pod: String,
    },
    /// The shim did not answer in time; the operation may still happen.
    #[error("the shim of pod {pod} did not answer within {seconds} s")]
    Timeout {
        /// The pod's uid.
        pod: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No such container in this sandbox.
    #[error("container {id} is not in pod {pod}")]
    NotFound {
        /// The pod's uid.
        pod: String,
        /// The container.
        id: String,
    },
    /// The container is in the wrong state for this, e.g. exec into one that has ended.
    #[error("container {id} {problem}")]
    WrongState {
        /// The container.
        id: String,
        /// What its state is and what it should be.
        problem: String,
    },
    /// A file or directory of the runtime cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Shim and agent do not understand each other.
    #[error("the shim of pod {pod} sent something unexpected: {problem}")]
    Protocol {
        /// The pod's uid.
        pod: String,
        /// What was wrong.
        problem: String,
    },
}

/// One failed step of setting up a sandbox, a container or an exec, as it comes back from the process that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}{}: {cause}", .object.as_ref().map(|o| format!(" {o}")).unwrap_or_default())]
pub struct StepError {
    /// Which step.
    pub step: Step,
    /// What it worked on (a path, a name).
    pub object: Option<String>,
    /// The kernel's error number, 0 if it was not the kernel.
    pub errno: i32,
    /// The cause in words.
    pub cause: String,
}

impl StepError {
    /// The kernel refused.
    pub(crate) fn os(step: Step, object: impl Into<String>, errno: nix::errno::Errno) -> Self {
        Self {
            step,
            object: Some(object.into()),
            errno: errno as i32,
            cause: errno.desc().to_owned(),
        }
    }

    /// Reading or writing a file failed.
    pub(crate) fn io(step: Step, object: impl Into<String>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::os(step, object, nix::errno::Errno::from_raw(errno)),
            None => Self::other(step, object, error.to_string()),
        }
    }

    /// Something other than the kernel refused.
    pub(crate) fn other(step: Step, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            step,
            object: Some(object.into()),
            errno: 0,
            cause: cause.into(),
        }
    }

    /// A limit needs a cgroup controller that this host does not have.
    pub(crate) fn missing_controller(controller: &str) -> Self {
        Self::other(
            Step::Cgroup,
            format!("controller {controller}"),
            "not available on this host; enable it (kernel command line, cgroup mounts) or ask for no such limit",
        )
    }
}

/// The steps from nothing to a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Setting up the sandbox's namespaces.
    Namespaces,
    /// Making, limiting or joining a cgroup.
    Cgroup,
    /// Creating the process.
    Clone,
    /// Opening the log or the pipes.
    Stdio,
    /// Mounting the root file system.
    RootFs,
    /// One mount of the container.
    Mount,
    /// A device node.
    Device,
    /// A masked or read-only path.
    MaskedPath,
    /// Entering the new root.
    PivotRoot,
    /// A sysctl.
    Sysctl,
    /// The terminal.
    Terminal,
    /// A resource limit.
    Rlimit,
    /// User and groups.
    User,
    /// Capabilities and no-new-privileges.
    Capabilities,
    /// The system call filter.
    Seccomp,
    /// The working directory.
    WorkingDirectory,
    /// Finding and starting the program.
    Exec,
    /// Writing down the state.
    Record,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::Stdio => "standard streams",
            Self::RootFs => "root file system",
            Self::Mount => "mount",
            Self::Device => "device",
            Self::MaskedPath => "masked path",
            Self::PivotRoot => "pivot_root",
            Self::Sysctl => "sysctl",
            Self::Terminal => "terminal",
            Self::Rlimit => "resource limit",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
            Self::WorkingDirectory => "working directory",
            Self::Exec => "exec",
            Self::Record => "record",
        })
    }
}
