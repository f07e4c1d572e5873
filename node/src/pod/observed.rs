//! What a worker knows of its pod's things on this node. It is saved beside the pod, so that the next agent goes on with it.
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::step::ProbeKind;
use crate::runtime::Resources;

mod transition;
pub(crate) use transition::LEAST_GRACE;

/// Everything known of one pod here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// When this node first saw the pod.
    pub start_time: Option<Timestamp>,
    /// The pod's volumes as a whole.
    pub volumes: Hold,
    /// Bringing what is in them up to date.
    pub refresh: Refresh,
    /// The pod's network and shim.
    pub sandbox: Hold,
    /// Sandboxes made or tried so far.
    pub sandbox_attempts: u32,
    /// Addresses of the sandbox, the first is the pod's IP.
    pub ips: Vec<IpAddr>,
    /// Changes of what its containers may use.
    pub resize: Resize,
    /// State by container name; a container without an entry was never looked at.
    pub containers: BTreeMap<String, Known>,
    /// Whether a main container was started in this sandbox, so that init containers are done with.
    pub main_started: bool,
    /// The pod failed as a whole.
    pub failure: Option<Failure>,
    /// Since when the pod is ending, whatever the reason.
    pub ending_since: Option<Timestamp>,
    /// The pod's object is gone from the API server.
    pub removed: bool,
    /// Deletion of the pod's object.
    pub deletion: Hold,
}

/// Contents of volumes that come from objects and tokens, and change while the pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refresh {
    /// An object, or the pod itself, has changed since the volumes were last written.
    pub stale: bool,
    /// What of the pod its volumes show, as a digest; `None` where they show nothing of it.
    pub shown: Option<u64>,
    /// When tokens should be renewed.
    pub at: Option<Timestamp>,
    /// A step writes them now.
    pub busy: bool,
    /// Failures to write them.
    pub backoff: Backoff,
}

/// A change of what the containers may use, while they run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resize {
    /// A step carries it out now.
    pub busy: bool,
    /// What was asked for last, as a digest.
    pub asked: Option<u64>,
    /// Why the node does not give it: `Deferred` or `Infeasible`.
    pub pending: Option<Problem>,
    /// Why it is given and not in force.
    pub problem: Option<Problem>,
    /// Tries that came to nothing.
    pub backoff: Backoff,
}

/// Something the pod holds on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hold {
    /// Where it is in its life.
    pub phase: HoldPhase,
    /// Failures to make it.
    pub backoff: Backoff,
    /// Failures to remove it.
    pub removal: Backoff,
    /// The newest failure, until it succeeds.
    pub problem: Option<Problem>,
}

/// Life of a [`Hold`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldPhase {
    /// Nothing is there.
    #[default]
    Absent,
    /// A step makes it now.
    Making,
    /// It is there and whole.
    Ready,
    /// Something may be there and cannot be used; to be removed or made again.
    Broken,
    /// A step removes it now.
    Removing,
}

impl HoldPhase {
    /// Whether a step works on it now.
    pub fn busy(self) -> bool {
        matches!(self, Self::Making | Self::Removing)
    }
}

/// A failure as status and Events show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// CamelCase.
    pub reason: String,
    /// For people: cause and, where there is one, remedy.
    pub message: String,
}

impl Problem {
    /// A problem of that reason.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Why a pod failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Goes to `status.reason`.
    pub reason: String,
    /// Goes to `status.message`.
    pub message: String,
}

/// One container of the pod over all its restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// What it does now.
    pub phase: Phase,
    /// The image for the next start.
    pub image: ImageState,
    /// Containers made so far; restarts are one less.
    pub attempts: u32,
    /// How the run before the present phase ended.
    pub last_exit: Option<Exit>,
    /// Restarts after exits.
    pub crashes: Backoff,
    /// Starts that failed before there was a container.
    pub refusals: Backoff,
    /// The newest such failure, until a start succeeds.
    pub problem: Option<Problem>,
    /// Ids of ended containers whose remains are still there.
    pub remains: Vec<String>,
    /// What it may use: what it asked for when it was first started, or what the node gave it since.
    pub allotted: Option<Allotted>,
}

/// The resources that the node has given to a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allotted(pub ResourceRequirements);

// Quantities are texts.
impl Eq for Allotted {}

impl Known {
    /// `restartCount` of the status.
    pub fn restarts(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }

    /// The running container, if there is one.
    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// How the latest run ended, if nothing started since.
    pub fn exited(&self) -> Option<&Exit> {
        match &self.phase {
            Phase::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Whether a process of it may exist.
    pub fn alive(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running(_))
    }
}

/// What a container does now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not started yet in this sandbox.
    #[default]
    Waiting,
    /// A step starts it now.
    Starting,
    /// Its process runs.
    Running(Running),
    /// Its process has ended.
    Exited(Exit),
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its id, without the `davit://` in front.
    pub id: String,
    /// Its first process as the node sees it.
    pub pid: i32,
    /// Since when.
    pub started_at: Timestamp,
    /// What it was made from.
    pub image: ImageId,
    /// The `image` of the spec it was started with.
    pub spec_image: String,
    /// Its `postStart` hook.
    pub post_start: Hook,
    /// Set once it is to end.
    pub stop: Option<Stop>,
    /// Verdicts of its probes; a missing one was not reached yet.
    pub probes: BTreeMap<ProbeKind, bool>,
    /// Its limits as the kernel had them when they were last looked at or set.
    #[serde(default)]
    pub limits: Option<Resources>,
    /// It was given other resources, of a kind that it wants to be started anew for.
    #[serde(default)]
    pub outgrown: bool,
}

/// Life of a hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// There is none, or it has ended.
    #[default]
    Done,
    /// To be run.
    Due,
    /// A step runs it now.
    Running,
}

/// How a running container is brought to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// When it is killed.
    pub deadline: Timestamp,
    /// The earliest deadline asked for; a slow `preStop` hook may have moved `deadline` behind it.
    pub asked: Timestamp,
    /// How far it is.
    pub stage: StopStage,
    /// Why.
    pub why: Why,
}

/// Stages of a [`Stop`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopStage {
    /// The `preStop` hook, not begun or running.
    PreStop(Hook),
    /// The stop signal was sent.
    Terminated,
    /// SIGKILL was sent.
    Killed,
}

/// Why a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The pod ends.
    PodEnds,
    /// A startup or liveness probe failed.
    Unhealthy(ProbeKind),
    /// Its `image` was changed.
    Redefined,
    /// Its `postStart` hook failed.
    PostStartFailed(String),
    /// The sandbox is replaced.
    SandboxChanged,
    /// It has other resources and wants to be started anew for them (`resizePolicy`).
    Resized,
}

/// An image as the store and the registry know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageId {
    /// Full name, `docker.io/library/busybox:1.36`.
    pub name: String,
    /// Digest of the image's configuration, `sha256:…`; finds it in the store.
    pub id: String,
    /// What `imageID` shows: the repository with the manifest's digest where known, else `id`.
    pub digest: String,
}

/// The image for a container's next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageState {
    /// Where it is.
    pub phase: ImagePhase,
    /// The spec's `image` all this is about.
    pub spec_image: String,
    /// Failed pulls.
    pub backoff: Backoff,
    /// The newest failure, until it is there.
    pub problem: Option<Problem>,
    /// When the newest failure was.
    pub failed_at: Option<Timestamp>,
}

/// Life of an image on its way to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePhase {
    /// Not looked for.
    #[default]
    Unknown,
    /// A step looks for it or pulls it now.
    Fetching,
    /// It is in the store.
    Present(ImageId),
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// Id of the container that ended.
    pub id: String,
    /// 128 and the signal's number for a signal, as shells and containerd count.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it was made from.
    pub image: ImageId,
    /// It was stopped because its `image` was changed, so it starts again whatever the policy.
    pub redefined: bool,
}
