//! What the runtime reports: containers, exits, outcomes of exec, usage.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A container as its shim knows it, or as its records on disk say once the shim is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// [`super::ContainerConfig::id`].
    pub id: String,
    /// Name in the pod's spec.
    pub name: String,
    /// [`super::ContainerConfig::attempt`].
    pub attempt: u32,
    /// Where it stands.
    pub status: ContainerStatus,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStatus {
    /// Being set up; its program does not run yet.
    Starting,
    /// Its program runs.
    Running {
        /// Process id on the host.
        pid: i32,
        /// When the program was started.
        started_at: Timestamp,
    },
    /// Its program ended.
    Exited(ContainerExit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// Which container.
    pub id: String,
    /// Exit code as Kubernetes reports it: 128 + the signal's number when a signal ended it. [`UNKNOWN_EXIT_CODE`] when
    /// the shim died before it could know.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of this container because its memory was used up, and it failed.
    pub oom_killed: bool,
    /// When its program was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Reported when nobody saw how a container ended, as containerd does.
pub const UNKNOWN_EXIT_CODE: i32 = 255;

/// A running container, as reported by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id on the host.
    pub pid: i32,
    /// When the program was started.
    pub started_at: Timestamp,
}

/// Something that happened in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxEvent {
    /// A container's program ended.
    Exited(ContainerExit),
    /// The shim died: what is left of the pod is being killed, and `containers` reports every container as exited.
    Lost,
}

/// What a command run to its end left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code, 128 + signal if one ended it.
    pub exit_code: i32,
    /// Killed because its time was up; `exit_code` then is of that kill.
    pub timed_out: bool,
    /// First bytes of standard output, at most the limit asked for.
    pub stdout: Vec<u8>,
    /// First bytes of standard error, at most the limit asked for.
    pub stderr: Vec<u8>,
}

/// What a pod uses at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// The pod as a whole.
    pub pod: Usage,
    /// Each container that has a cgroup, by id.
    pub containers: Vec<(String, Usage)>,
}

/// Use of one cgroup; zero where the controller is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since it began, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory charged, page cache included, in bytes.
    pub memory_bytes: u64,
    /// Memory that cannot be dropped at once: without inactive page cache, in bytes.
    pub working_set_bytes: u64,
    /// Anonymous memory in bytes.
    pub rss_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}
