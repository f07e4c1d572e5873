//! What the agent asks of the runtime: a pod's sandbox and its containers, as plain data.
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the runtime works and how it starts a shim.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Parent of all pod directories; a pod's own is `<pods_dir>/<uid>`.
    pub pods_dir: PathBuf,
    /// The executable started as shim; it must hand `shim …` to [`crate::shim::main`] before any thread exists.
    pub program: PathBuf,
    /// Cgroup that holds all pods, relative to the root of each hierarchy.
    pub cgroup_root: String,
}

impl RuntimeConfig {
    /// The usual configuration: cgroup `davit`.
    pub fn new(pods_dir: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self {
            pods_dir: pods_dir.into(),
            program: program.into(),
            cgroup_root: "davit".to_owned(),
        }
    }
}

/// One pod's sandbox: the namespaces and the cgroup its containers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Host name in the pod's UTS namespace; unused with [`NetnsMode::Host`], which shares the host's.
    pub hostname: String,
    /// The pod's directory, `<pods_dir>/<uid>`; the runtime keeps its files in `runtime/` beneath it.
    pub dir: PathBuf,
    /// Quality of service class as a cgroup below the runtime's root: empty (guaranteed), `burstable` or `besteffort`.
    pub cgroup_parent: String,
    /// The network namespace.
    pub netns: NetnsMode,
    /// `spec.hostPID`.
    pub host_pid: bool,
    /// `spec.hostIPC`.
    pub host_ipc: bool,
    /// `spec.shareProcessNamespace`: one pid namespace for all containers, with a reaping init of davit's as pid 1.
    pub share_pid: bool,
    /// `spec.securityContext.sysctls`, as name and value; only namespaced ones are taken.
    pub sysctls: Vec<(String, String)>,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Size of the memory file system at `/dev/shm` that all containers share.
    pub shm_bytes: u64,
}

/// Size of `/dev/shm` when nothing else is asked for, as with Docker and containerd.
pub const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// Which network namespace a pod lives in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetnsMode {
    /// The host's (`hostNetwork: true`); the pod then shares the host's name too.
    Host,
    /// One that is pinned at this path.
    Path(PathBuf),
    /// A new one with nothing but loopback, gone with the pod.
    New,
}

/// Limits for a cgroup; absent means unlimited or the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Most bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Relative CPU weight in the scale of cgroup v1 (2 to 262144, 1024 per core), as the kubelet computes it from requests.
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds per period of [`CPU_PERIOD_US`].
    pub cpu_quota_us: Option<u64>,
    /// Most processes and threads.
    pub pids_max: Option<u64>,
    /// `oom_score_adj` of the container's processes; unused for a pod.
    pub oom_score_adj: Option<i32>,
}

/// Length of the period in which [`Resources::cpu_quota_us`] may be used.
pub const CPU_PERIOD_US: u64 = 100_000;

/// A container's root file system: overlay directories, top layer first.
///
/// The shim mounts it inside the container's mount namespace, so the host has no mount to leak.
/// `upper` and `work` must be empty directories on one file system, used by no earlier mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Read-only layers, top first; at least one.
    pub lower: Vec<PathBuf>,
    /// Takes the container's writes.
    pub upper: PathBuf,
    /// Overlay's work directory.
    pub work: PathBuf,
    /// Makes the whole root read-only once the mount points exist in it.
    pub read_only: bool,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique among all containers of the node and over restarts; letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Name in the pod's spec.
    pub name: String,
    /// How many times this container was started before.
    pub attempt: u32,
    /// Its root.
    pub rootfs: RootFs,
    /// Command line; the first word is looked up in the container's `PATH` unless it has a slash.
    pub args: Vec<String>,
    /// Environment in order; a later entry of a name wins.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; made if it is missing.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// Another container of the pod, by its id, whose processes it lives among (`targetContainerName`); unused where the
    /// pod has one pid namespace anyway.
    #[serde(default)]
    pub among: Option<String>,
    /// Mounts beside those every container has (`/proc`, `/dev`, `/sys`, …), applied in order.
    pub mounts: Vec<Mount>,
    /// Device nodes of the host made in `/dev` and allowed; a privileged container sees all of them.
    pub devices: Vec<PathBuf>,
    /// Its limits.
    pub resources: Resources,
    /// Its confinement.
    pub security: Security,
    /// Resource limits as name (`RLIMIT_NOFILE`), soft and hard value.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Where the log goes, in the CRI format.
    pub log_path: PathBuf,
    /// Size at which a log file is put aside; 0 for never.
    pub log_max_bytes: u64,
    /// Most log files kept, the current one counted.
    pub log_max_files: u32,
    /// Keep standard input open for attach; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Give the process a terminal.
    pub tty: bool,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The image's `User` (`name`, `uid`, `name:group`, …): numbers are those numbers, names are looked up in the
    /// container's own `/etc/passwd` and `/etc/group`; consulted for whatever `uid` and `gid` leave open.
    pub name: Option<String>,
    /// `runAsUser`; wins over `name`.
    pub uid: Option<u32>,
    /// `runAsGroup`; wins over `name`.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub additional_gids: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: no groups from the container's `/etc/group`.
    #[serde(default)]
    pub strict_groups: bool,
    /// `runAsNonRoot`: whoever it turns out to be, not root.
    #[serde(default)]
    pub not_root: bool,
}

/// A mount asked for by a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path in the container; symbolic links in it are followed inside the container's root only.
    pub destination: String,
    /// No writes through this mount.
    pub read_only: bool,
    /// With `read_only`: also every mount beneath it (`recursiveReadOnly`).
    pub recursive_read_only: bool,
    /// How mounts made later travel.
    pub propagation: Propagation,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host and all that is mounted beneath it.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// A path beneath `source` (`subPath`), resolved at the time of the mount without leaving `source`; made as a
        /// directory if it is missing.
        sub_path: Option<PathBuf>,
    },
    /// What the container's own root has at the destination, writable even where the root is not: a `VOLUME` of the
    /// image. It goes with the container.
    OwnRoot,
    /// A new memory file system.
    Tmpfs {
        /// Most bytes it holds.
        size_bytes: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
}

/// `mountPropagation` of a volume mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// `None`: neither way.
    #[default]
    Private,
    /// `HostToContainer`.
    HostToContainer,
    /// `Bidirectional`; for privileged containers only.
    Bidirectional,
}

/// A container's confinement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, no masked paths, no seccomp, writable `/sys`.
    pub privileged: bool,
    /// Capabilities beside the default set, without `CAP_`; `ALL` for every one.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken away; `ALL` empties the default set before `add_capabilities` are given, names go after that.
    pub drop_capabilities: Vec<String>,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// `procMount: Unmasked` shows `/proc` whole.
    pub unmasked_proc: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            privileged: false,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            no_new_privileges: false,
            seccomp: Seccomp::RuntimeDefault,
            unmasked_proc: false,
        }
    }
}

/// Which system call filter a container gets. Nothing but [`Seccomp::Unconfined`] means none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// davit's default profile.
    #[default]
    RuntimeDefault,
    /// No filter.
    Unconfined,
    /// A profile in the JSON of Docker and OCI; an empty or broken one is refused.
    Profile(serde_json::Value),
}

/// One more process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecConfig {
    /// Command line.
    pub args: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<(String, String)>,
    /// Working directory; the container's own when absent.
    pub cwd: Option<String>,
    /// Who runs it; when absent the container's own user, as it was resolved when the container started.
    pub user: Option<User>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep standard input open for writing.
    pub stdin: bool,
    /// Killed after this long; no limit when absent.
    pub timeout: Option<Duration>,
}
