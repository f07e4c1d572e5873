//! What a plan can ask for, and what comes back from it.
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;

use super::observed::{Exit, ImageId, Problem, Why};
use super::resize::Resized;
use crate::runtime::Resources;

/// One thing to do for a pod. A plan lists what can be done now, in order; steps of one plan may run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make, fill and mount the pod's volumes.
    PrepareVolumes,
    /// Bring the contents of the volumes up to date.
    RefreshVolumes,
    /// Make the pod's network and the shim that holds its namespaces.
    CreateSandbox {
        /// How many there were before it.
        attempt: u32,
    },
    /// Make sure the container's image is there, by its pull policy.
    EnsureImage {
        /// The container.
        container: String,
    },
    /// Build the container's configuration and start it.
    StartContainer {
        /// The container.
        container: String,
        /// How many times it was started before.
        attempt: u32,
    },
    /// Run the `postStart` hook.
    PostStart {
        /// The container.
        container: String,
    },
    /// The container is to end: note when and why. Running it again with an earlier deadline shortens the time left.
    Stop {
        /// The container.
        container: String,
        /// When it is killed.
        deadline: Timestamp,
        /// The reason, told in an Event.
        why: Why,
    },
    /// Run the `preStop` hook.
    PreStop {
        /// The container.
        container: String,
    },
    /// Send the container its stop signal.
    Terminate {
        /// The container.
        container: String,
    },
    /// Send the container SIGKILL.
    Kill {
        /// The container.
        container: String,
    },
    /// Drop what a container that ended leaves behind (root file system, old logs).
    RemoveContainer {
        /// The container's name in the pod.
        container: String,
        /// The ended container's id.
        id: String,
    },
    /// Give the containers what the pod asks for now, as far as the node has it.
    Resize,
    /// End the shim and take the pod's network back.
    StopSandbox,
    /// Unmount and remove the pod's volumes.
    ReleaseVolumes,
    /// The pod as a whole has failed.
    Fail {
        /// CamelCase, for the status.
        reason: String,
        /// For people.
        message: String,
    },
    /// Delete the pod's object: nothing of it runs here any more.
    DeleteObject,
    /// Drop everything kept about the pod; the worker ends.
    Forget,
    /// Look again then, even if nothing happens.
    WakeAt(Timestamp),
}

/// What a container start reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The container's id, without the `davit://` in front.
    pub id: String,
    /// Its first process, as the node sees it.
    pub pid: i32,
    /// When it was started.
    pub at: Timestamp,
    /// Its limits, as the kernel has them; `None` where that was not asked.
    pub limits: Option<Resources>,
}

/// Why a start did not lead to a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// Nothing was made (`CreateContainerConfigError`, `CreateContainerError`, `PreStartHookError`): try again soon.
    Refused(Problem),
    /// The container was made but its program did not start; counts as an exit with code 128.
    NotRun {
        /// The id it had.
        id: String,
        /// What the runtime said.
        message: String,
    },
}

/// Which probe of a container.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum ProbeKind {
    /// Holds the others back until it has passed once.
    Startup,
    /// Failing restarts the container.
    Liveness,
    /// Failing takes the pod out of its Services.
    Readiness,
}

impl ProbeKind {
    /// As messages name it at the start of a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// As messages name it within a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// What came of a step, or happened by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`Step::PrepareVolumes`]: when tokens among them should be renewed.
    VolumesPrepared(Result<Option<Timestamp>, Problem>),
    /// Of [`Step::RefreshVolumes`], alike.
    VolumesRefreshed(Result<Option<Timestamp>, Problem>),
    /// An object that the pod refers to has changed, appeared or gone.
    ObjectsChanged,
    /// Of [`Step::ReleaseVolumes`].
    VolumesReleased(Result<(), Problem>),
    /// Of [`Step::CreateSandbox`]: the pod's addresses.
    SandboxCreated(Result<Vec<IpAddr>, Problem>),
    /// Of [`Step::Resize`].
    Resized(Resized),
    /// Of [`Step::StopSandbox`].
    SandboxStopped(Result<(), Problem>),
    /// The shim is gone, and with it every container.
    SandboxLost,
    /// Of [`Step::EnsureImage`].
    Image {
        /// The container.
        container: String,
        /// The image it will use.
        result: Result<ImageId, Problem>,
    },
    /// Of [`Step::StartContainer`].
    Started {
        /// The container.
        container: String,
        /// The running container.
        result: Result<Started, StartFailure>,
    },
    /// Of [`Step::PostStart`].
    PostStarted {
        /// The container.
        container: String,
        /// The message when the hook failed.
        result: Result<(), String>,
    },
    /// Of [`Step::PreStop`], whether the hook did well or not.
    PreStopped {
        /// The container.
        container: String,
    },
    /// A container ended.
    Exited {
        /// The container.
        container: String,
        /// How.
        exit: Exit,
    },
    /// Of [`Step::RemoveContainer`].
    Removed {
        /// The container's name in the pod.
        container: String,
        /// The container that is gone.
        id: String,
    },
    /// A probe's verdict changed, its thresholds counted.
    Probed {
        /// The container.
        container: String,
        /// The container's id when it was probed; verdicts of an earlier one are dropped.
        id: String,
        /// Which probe.
        kind: ProbeKind,
        /// Whether it passes.
        passing: bool,
    },
    /// Of [`Step::DeleteObject`].
    ObjectDeleted(Result<(), Problem>),
}
