//! The pod's namespaces, held by the shim that is in them.
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, sethostname};

use crate::kernel::ioctl::loopback_up;
use crate::kernel::mount::{FsContext, Spread, attach, attr, clone_tree, set_attributes};
use crate::kernel::process::{
    CloneOptions, SingleThreaded, close_from, die_with_parent, ignore_children, pidfd_open,
    reset_signals, spawn,
};
use crate::runtime::{NetnsMode, SandboxConfig, Step, StepError};

/// What of a pod's sandbox is not simply where the shim is.
#[derive(Debug)]
pub(super) struct Sandbox {
    shared_memory: Option<SharedMemory>,
    /// The first process of a pid namespace that all containers share.
    pub(super) init: Option<PodInit>,
    own_pid_namespace: OwnedFd,
}

/// The first process of the pod's pid namespace.
#[derive(Debug)]
pub(super) struct PodInit {
    pub(super) pid: Pid,
    pidfd: OwnedFd,
}

/// The memory file system at `/dev/shm`.
#[derive(Debug)]
enum SharedMemory {
    /// A mount that is attached nowhere.
    Detached(OwnedFd),
    /// Kernels before 6.15 cannot copy a detached mount: it is on the pod's directory.
    OnHost(std::path::PathBuf),
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
            Some(SharedMemory::make(config.shm_bytes, dir)?)
        };
        let init = if config.share_pid && !config.host_pid {
            Some(PodInit::start(proof)?)
        } else {
            None
        };
        let own_pid_namespace = File::open("/proc/self/ns/pid")
            .map_err(|e| StepError::io(Step::Namespaces, "pid", &e))?
            .into();
        Ok(Self {
            shared_memory,
            init,
            own_pid_namespace,
        })
    }

    /// A copy of the shared memory's mount for one container.
    pub(super) fn shared_memory(&self) -> Result<Option<OwnedFd>, StepError> {
        let Some(memory) = &self.shared_memory else {
            return Ok(None);
        };
        let copy = match memory {
            SharedMemory::Detached(fd) => clone_tree(fd.as_fd(), Path::new(""), false),
            SharedMemory::OnHost(path) => clone_tree(AT_FDCWD, path, false),
        };
        copy.map(Some)
            .map_err(|errno| StepError::os(Step::Mount, "/dev/shm", errno))
    }

    /// Makes children be born in the pod's pid namespace, or that of `target`, while `body` runs.
    pub(super) fn in_pid_namespace<T>(
        &self,
        target: Option<&OwnedFd>,
        body: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let target = target.or(self.init.as_ref().map(|init| &init.pidfd));
        let Some(target) = target else {
            return body();
        };
        setns(target, CloneFlags::CLONE_NEWPID).map_err(namespace_failure("pid"))?;
        let result = body();
        setns(&self.own_pid_namespace, CloneFlags::CLONE_NEWPID)
            .map_err(namespace_failure("pid"))?;
        result
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

impl SharedMemory {
    fn make(bytes: u64, dir: &Path) -> Result<Self, StepError> {
        let fail = |errno| StepError::os(Step::Mount, "/dev/shm", errno);
        let fs = FsContext::open("tmpfs").map_err(fail)?;
        fs.set("mode", b"1777").map_err(fail)?;
        fs.set("size", bytes.to_string().as_bytes()).map_err(fail)?;
        let locked = attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC;
        let mount = fs.mount(locked).map_err(fail)?;
        if clone_tree(mount.as_fd(), Path::new(""), false).is_ok() {
            return Ok(Self::Detached(mount));
        }
        let path = dir.join("shm");
        std::fs::create_dir_all(&path)
            .map_err(|e| StepError::io(Step::Mount, path.display().to_string(), &e))?;
        let target = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
        set_attributes(&mount, 0, Spread::Private, false).map_err(fail)?;
        attach(&mount, target).map_err(fail)?;
        Ok(Self::OnHost(path))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Self::OnHost(path) = self {
            // One that somebody has taken away already is what was wanted.
            let _ = nix::mount::umount2(path.as_path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl PodInit {
    fn start(proof: &SingleThreaded) -> Result<Self, StepError> {
        let options = CloneOptions {
            namespaces: libc::CLONE_NEWPID as u64,
            cgroup: None,
        };
        let pid = spawn(proof, options, init_loop).map_err(namespace_failure("pid"))?;
        let pidfd = pidfd_open(pid).map_err(namespace_failure("pid"))?;
        Ok(Self { pid, pidfd })
    }
}

/// Stays while the pod lives. What loses its parent in the pod is reaped by the kernel, because this process ignores
/// its children.
fn init_loop() -> i32 {
    let _ = die_with_parent();
    let _ = nix::sys::prctl::set_name(c"davit-init");
    let _ = close_from(3);
    let _ = reset_signals();
    ignore_children();
    loop {
        nix::unistd::pause();
    }
}
