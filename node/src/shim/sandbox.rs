//! The pod's namespaces, held by the shim that is in them.
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::sethostname;

use super::holder::Holder;
use super::kept_mount::KeptMount;
use crate::kernel::ioctl::loopback_up;
use crate::kernel::mount::{FsContext, attr};
use crate::kernel::process::SingleThreaded;
use crate::runtime::{NetnsMode, SandboxConfig, Step, StepError};

/// What of a pod's sandbox is not simply where the shim is.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// The memory file system at `/dev/shm`.
    shared_memory: Option<KeptMount>,
    /// Holds the pid namespace that all containers share.
    pub(super) holder: Option<Holder>,
}

fn namespace_failure(object: &str) -> impl FnOnce(nix::errno::Errno) -> StepError {
    let object = object.to_owned();
    move |errno| StepError::os(Step::Namespaces, object, errno)
}

impl Sandbox {
    /// Brings the calling process into the pod's namespaces.
    pub(super) fn set_up(
        config: &SandboxConfig,
        proof: &SingleThreaded,
        dir: &Path,
    ) -> Result<Self, StepError> {
        enter_namespaces(config)?;
        if config.netns != NetnsMode::Host && !config.hostname.is_empty() {
            sethostname(&config.hostname).map_err(namespace_failure("host name"))?;
        }
        for (name, value) in &config.sysctls {
            set_sysctl(config, name, value)?;
        }
        let shared_memory = if config.host_ipc {
            None
        } else {
            Some(make_shared_memory(config.shm_bytes, dir)?)
        };
        let holder = if config.share_pid && !config.host_pid {
            Some(Holder::start(proof, dir)?)
        } else {
            None
        };
        Ok(Self {
            shared_memory,
            holder,
        })
    }

    /// A copy of the shared memory's mount for one container.
    pub(super) fn shared_memory(&self) -> Result<Option<OwnedFd>, StepError> {
        self.shared_memory
            .as_ref()
            .map(KeptMount::copy)
            .transpose()
            .map_err(|errno| StepError::os(Step::Mount, "/dev/shm", errno))
    }
}

fn enter_namespaces(config: &SandboxConfig) -> Result<(), StepError> {
    let mut new = CloneFlags::empty();
    match &config.netns {
        NetnsMode::Host => {}
        NetnsMode::New => new |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS,
        NetnsMode::Path(path) => {
            let object = path.display().to_string();
            let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(namespace_failure(&object))?;
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(namespace_failure(&object))?;
            new |= CloneFlags::CLONE_NEWUTS;
        }
    }
    if !config.host_ipc {
        new |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(new).map_err(namespace_failure("net, uts, ipc"))?;
    if config.netns == NetnsMode::New {
        loopback_up().map_err(namespace_failure("interface lo"))?;
    }
    Ok(())
}

/// Sets a kernel parameter that belongs to one of the pod's own namespaces.
fn set_sysctl(config: &SandboxConfig, name: &str, value: &str) -> Result<(), StepError> {
    let refuse = |cause: &str| Err(StepError::other(Step::Sysctl, name, cause));
    let path = name.replace('.', "/");
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return refuse("is no name of a kernel parameter");
    }
    let ipc = path.starts_with("fs/mqueue/")
        || path.starts_with("kernel/shm")
        || path.starts_with("kernel/msg")
        || path == "kernel/sem";
    let net = path.starts_with("net/");
    if net && config.netns == NetnsMode::Host {
        return refuse("is the host's, because the pod shares the host's network");
    }
    if ipc && config.host_ipc {
        return refuse("is the host's, because the pod shares the host's IPC");
    }
    if !net && !ipc {
        return refuse("is not namespaced, it would change the host");
    }
    std::fs::write(Path::new("/proc/sys").join(path), value)
        .map_err(|error| StepError::io(Step::Sysctl, name, &error))
}

fn make_shared_memory(bytes: u64, dir: &Path) -> Result<KeptMount, StepError> {
    let fail = |errno| StepError::os(Step::Mount, "/dev/shm", errno);
    let fs = FsContext::open("tmpfs").map_err(fail)?;
    fs.set("mode", b"1777").map_err(fail)?;
    fs.set("size", bytes.to_string().as_bytes()).map_err(fail)?;
    let locked = attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC;
    KeptMount::new(fs.mount(locked).map_err(fail)?, dir.join("shm"))
}
