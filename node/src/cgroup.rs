//! Control groups in whichever layout the host has: v1, hybrid or v2.
//!
//! A group is named by its path below the root of every hierarchy, e.g. `davit/burstable/pod<uid>/<container>`.
mod limits;
mod usage;
mod v1;
mod v2;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::runtime::{Resources, Step, StepError, Usage};

/// Where systems mount their cgroups.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The cgroups of the host, whatever their layout.
pub(crate) trait Cgroups: std::fmt::Debug + Send + Sync {
    /// Makes a group that will hold groups, with its parents; one that exists is kept.
    fn create_branch(&self, group: &str) -> Result<(), StepError>;

    /// Makes a group that will hold processes; its parent is a branch.
    fn create(&self, group: &str) -> Result<(), StepError>;

    /// Sets limits. A limit that needs a controller the host lacks is an error that names it.
    fn limit(&self, group: &str, resources: &Resources) -> Result<(), StepError>;

    /// The limits that are in force: memory, CPU time and weight. What is not limited or cannot be read is absent.
    fn limits(&self, group: &str) -> Resources;

    /// What [`Self::limits`] says once these limits are set: the kernel rounds, and weighs by a scale of its own.
    fn kept(&self, resources: &Resources) -> Resources;

    /// Lets the group use these devices and no others.
    fn allow_devices(&self, group: &str, rules: &[DeviceRule]) -> Result<(), StepError>;

    /// What a process needs to move itself into the group.
    fn entrance(&self, group: &str) -> Result<Entrance, StepError>;

    /// What a container in this group is shown at `/sys/fs/cgroup`.
    fn view(&self, group: &str) -> View;

    /// Processes in the group and in groups beneath it.
    fn processes(&self, group: &str) -> Vec<Pid>;

    /// Kills every process in the group and beneath it, however fast they fork. Does not wait until they are gone.
    fn kill(&self, group: &str) -> Result<(), StepError>;

    /// How many processes of the group the kernel has killed because memory ran out.
    fn oom_kills(&self, group: &str) -> u64;

    /// What the group uses now.
    fn usage(&self, group: &str) -> Usage;

    /// Removes the group and all groups beneath it; a missing one is no error. Fails with `EBUSY` while processes live.
    fn remove(&self, group: &str) -> Result<(), StepError>;
}

/// What a process needs to move itself into a group.
///
/// A process that moves itself, as a single thread, needs no lock that all forks of the machine share; moving another
/// one costs milliseconds.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// Files of v1 hierarchies that take a thread by having `0` written by it.
    tasks: Vec<File>,
    /// The directory in the v2 hierarchy, to be entered by `clone3` at birth.
    pub(crate) unified: Option<OwnedFd>,
}

impl Entrance {
    /// Moves the calling process, which has one thread, into the v1 part of the group.
    pub(crate) fn enter_split(&mut self) -> std::io::Result<()> {
        self.tasks
            .iter_mut()
            .try_for_each(|file| file.write_all(b"0"))
    }
}

/// What a container is shown at `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// A cgroup v2 file system of its own cgroup namespace.
    Unified,
    /// One directory of the host for each hierarchy.
    Split(Vec<SplitView>),
}

/// One hierarchy in [`View::Split`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitView {
    /// Name beneath `/sys/fs/cgroup`.
    pub(crate) name: String,
    /// The group's directory on the host.
    pub(crate) directory: PathBuf,
    /// Links to `name`, one for each controller in it.
    pub(crate) aliases: Vec<String>,
}

/// A kind of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    /// Both.
    Any,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// What may be done with a device, as bits with the kernel's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Access(u32);

impl Access {
    /// Make a node of it.
    pub(crate) const MKNOD: Self = Self(1);
    /// Open it for reading.
    pub(crate) const READ: Self = Self(2);
    /// Open it for writing.
    pub(crate) const WRITE: Self = Self(4);
    /// All of these.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self(7);

    /// The bits.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Whether every bit of `other` is set.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Devices that a group may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    /// Which kind.
    pub(crate) kind: DeviceKind,
    /// Major number, any if absent.
    pub(crate) major: Option<u32>,
    /// Minor number, any if absent.
    pub(crate) minor: Option<u32>,
    /// What for.
    pub(crate) access: Access,
}

/// Finds out what the host has.
///
/// # Errors
/// When no cgroups are mounted at all.
pub(crate) fn detect() -> Result<Box<dyn Cgroups>, StepError> {
    let unified = statfs(MOUNT_POINT).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if unified {
        return Ok(Box::new(v2::Unified::new(PathBuf::from(MOUNT_POINT))));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| failure("/proc/self/mountinfo", &e))?;
    let mut split = v1::Split::from_mountinfo(&mounts);
    split.forget_hidden();
    if split.is_empty() {
        return Err(StepError::other(
            Step::Cgroup,
            MOUNT_POINT,
            "no cgroups are mounted; mount cgroup2 there",
        ));
    }
    Ok(Box::new(split))
}

/// What all layouts make of limits: memory comes in whole pages.
fn kept(resources: &Resources) -> Resources {
    Resources {
        memory_bytes: resources.memory_bytes.map(limits::whole_pages),
        cpu_shares: resources.cpu_shares,
        cpu_quota_us: resources.cpu_quota_us,
        ..Resources::default()
    }
}

fn failure(path: impl AsRef<Path>, error: &std::io::Error) -> StepError {
    StepError::io(Step::Cgroup, path.as_ref().display().to_string(), error)
}

/// Writes a control file in one call, as the kernel wants it.
fn write(path: &Path, value: &str) -> Result<(), StepError> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|e| failure(path, &e))
}

/// Makes one directory; one that exists is kept.
fn make_directory(path: &Path) -> Result<(), StepError> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(failure(path, &e)),
        _ => Ok(()),
    }
}

/// Removes a group's directory and those beneath it, deepest first.
fn remove_tree(path: &Path) -> Result<(), StepError> {
    match std::fs::remove_dir(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for child in children(path) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failure(path, &e)),
        _ => Ok(()),
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Collects the processes of a directory and those beneath it.
fn collect_processes(path: &Path, into: &mut Vec<Pid>) {
    if let Ok(text) = std::fs::read_to_string(path.join("cgroup.procs")) {
        let pids = text.lines().filter_map(|line| line.parse().ok());
        into.extend(pids.map(Pid::from_raw));
    }
    for child in children(path) {
        collect_processes(&child, into);
    }
}

#[cfg(test)]
mod tests;
