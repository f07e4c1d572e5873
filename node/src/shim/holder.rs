//! The first process of a pid namespace that a pod's containers share: it keeps the namespace, and reaps.
//!
//! All containers of the pod see it, one with `CAP_SYS_PTRACE` sees into it. So it gives up everything before anybody is
//! there: its root is empty, it is nobody, it has no capabilities, no descriptors, no memory but two pages, and can do
//! nothing but wait.
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::CapSet;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid, setsid};
use seccompiler::sock_filter;

use super::kept_mount::KeptMount;
use super::report::{self, Heard, Report, Reporter, Reports};
use super::root;
use crate::kernel::mount::{FsContext, attach, attr};
use crate::kernel::passage::{Rest, TopOfMemory};
use crate::kernel::process::{
    CloneOptions, NATIVE_ARCH, SingleThreaded, die_with_parent, ignore_children, install_filter,
    pidfd_open, reset_signals, spawn,
};
use crate::kernel::wait::until_ended;
use crate::runtime::{Step, StepError};

/// Who it is: nobody, so that no program of the pod is the same user.
const NOBODY: u32 = 65534;

/// The shared namespace.
#[derive(Debug)]
pub(super) struct Holder {
    /// Its first process.
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// It has ended, and with it all that was in the namespace. Nothing can be born there any more.
    pub(super) ended: bool,
    /// Where the kernel cannot show a pid namespace to whom is not in it.
    processes: Option<KeptMount>,
}

impl Holder {
    /// Makes the namespace. `dir` is a directory of the pod's own, not visible to its containers.
    pub(super) fn start(proof: &SingleThreaded, dir: &Path) -> Result<Self, StepError> {
        let fail = |errno| StepError::os(Step::Namespaces, "pid", errno);
        let options = CloneOptions {
            namespaces: (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP) as u64,
            cgroup: None,
        };
        let top = TopOfMemory::look()
            .map_err(|error| StepError::io(Step::Namespaces, "/proc/self/maps", &error))?;
        let shows_itself = !can_look_from_outside();
        let (reporter, reports) = report::channel().map_err(fail)?;
        let place = dir.to_owned();
        let pid = spawn(proof, options, || {
            let error = give_up(&place, top, shows_itself, &reporter);
            reporter.tell(&Report::Failed(error), &[]);
            1
        })
        .map_err(fail)?;
        drop(reporter);
        match until_held(&reports) {
            Ok(mount) => Ok(Self {
                pid,
                pidfd: pidfd_open(pid).map_err(fail)?,
                ended: false,
                processes: mount
                    .map(|mount| KeptMount::new(mount, dir.join("proc")))
                    .transpose()?,
            }),
            Err(error) => {
                let _ = until_ended(pid);
                Err(error)
            }
        }
    }

    /// A mount that shows the processes of the namespace.
    pub(super) fn processes(&self) -> Result<OwnedFd, StepError> {
        match &self.processes {
            Some(kept) => kept.copy(),
            None => processes_of(self.pid),
        }
        .map_err(|errno| StepError::os(Step::Mount, "/proc", errno))
    }
}

/// A mount that shows the processes of the pid namespace that `pid` is in (Linux 6.17).
pub(super) fn processes_of(pid: Pid) -> nix::Result<OwnedFd> {
    let namespace = PathBuf::from(format!("/proc/{pid}/ns/pid"));
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let fs = FsContext::open("proc")?;
    fs.set_fd("pidns", open(&namespace, flags, Mode::empty())?)?;
    fs.mount(0)
}

/// Whether this kernel shows a pid namespace to whom is not in it.
pub(super) fn can_look_from_outside() -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open("/proc/self/ns/pid", flags, Mode::empty())
        .and_then(|namespace| FsContext::open("proc")?.set_fd("pidns", namespace))
        .is_ok()
}

/// Waits until the process has given up what it had, its end of the channel last.
fn until_held(reports: &Reports) -> Result<Option<OwnedFd>, StepError> {
    let mut mount = None;
    loop {
        match reports.hear() {
            Heard::Nothing => {
                let mut wait = [PollFd::new(reports.as_fd(), PollFlags::POLLIN)];
                // Interrupted or not, what there is to hear is asked for again.
                let _ = poll(&mut wait, PollTimeout::NONE);
            }
            Heard::Report(Report::Failed(error), _) => return Err(error),
            Heard::Report(_, fd) => mount = fd,
            Heard::Closed => return Ok(mount),
        }
    }
}

/// Becomes what holds the namespace; returns only if that fails.
fn give_up(dir: &Path, top: TopOfMemory, shows_itself: bool, reporter: &Reporter) -> StepError {
    let prepared = if shows_itself {
        let shown = FsContext::open("proc").and_then(|fs| fs.mount(0));
        shown
            .map_err(|errno| StepError::os(Step::Mount, "/proc", errno))
            .map(|mount| reporter.tell(&Report::Processes, &[mount]))
    } else {
        Ok(())
    };
    let fail = |errno| StepError::os(Step::Namespaces, "pid", errno);
    let done = prepared
        .and_then(|()| begin().map_err(fail))
        .and_then(|()| enter_nothing(dir))
        // Before there is a filter that takes away even memory.
        .and_then(|()| Rest::prepare(top).map_err(fail))
        .and_then(|rest| become_nobody().map(|()| rest));
    match done {
        Err(error) => error,
        Ok(rest) => rest.begin(),
    }
}

fn begin() -> nix::Result<()> {
    prctl::set_name(c"davit-init")?;
    prctl::set_dumpable(false)?;
    reset_signals()?;
    // Out of reach of signals to its group, and with none of the shim's in its own.
    setsid()?;
    // What loses its parent in the pod is reaped by the kernel.
    ignore_children();
    Ok(())
}

/// Makes an empty directory that cannot be written to the only file tree there is.
fn enter_nothing(dir: &Path) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::PivotRoot, "the pod's first process", errno);
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(fail)?;
    let fs = FsContext::open("tmpfs").map_err(fail)?;
    fs.set("mode", b"555").map_err(fail)?;
    fs.set("nr_inodes", b"1").map_err(fail)?;
    let locked = attr::READ_ONLY | attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC;
    let empty = fs.mount(locked).map_err(fail)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    attach(&empty, open(dir, flags, Mode::empty()).map_err(fail)?).map_err(fail)?;
    root::enter(&empty)
}

fn become_nobody() -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::Capabilities, "the pod's first process", errno);
    for capability in caps::all() {
        // One that this host does not know or has taken away already is what was wanted.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(fail)?;
    // Another user has none but the inheritable ones, and those do nothing without a program.
    let left = caps::clear(None, CapSet::Inheritable);
    left.map_err(|error| StepError::other(Step::Capabilities, "inheritable", error.to_string()))?;
    // Changing the user forgets both.
    prctl::set_dumpable(false)
        .and_then(|()| die_with_parent())
        .and_then(|()| prctl::set_no_new_privs())
        .and_then(|()| install_filter(&waits_only()))
        .map_err(fail)
}

/// Nothing but what [`Rest::begin`] does; anything else ends the process, and the pod with it.
fn waits_only() -> Vec<sock_filter> {
    let instruction = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let calls = [
        libc::SYS_ppoll,
        libc::SYS_restart_syscall,
        libc::SYS_munmap,
        libc::SYS_close_range,
        libc::SYS_exit_group,
    ];
    let (load, equal, back) = (0x20, 0x15, 0x06);
    let mut program = vec![
        instruction(load, 4, 0, 0),
        instruction(equal, NATIVE_ARCH, 1, 0),
        instruction(back, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        instruction(load, 0, 0, 0),
    ];
    for (index, call) in calls.iter().enumerate() {
        let to_allow = (calls.len() - index) as u8;
        program.push(instruction(equal, *call as u32, to_allow, 0));
    }
    program.push(instruction(back, libc::SECCOMP_RET_KILL_PROCESS, 0, 0));
    program.push(instruction(back, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::seccomp::tests::answer;

    #[test]
    fn it_can_do_nothing_but_wait() {
        let program = waits_only();
        let allowed: Vec<i64> = (0..600)
            .filter(|call| answer(&program, NATIVE_ARCH, *call, &[]) == libc::SECCOMP_RET_ALLOW)
            .collect();
        assert_eq!(allowed.len(), 5);
        for call in [libc::SYS_ppoll, libc::SYS_munmap, libc::SYS_exit_group] {
            assert!(allowed.contains(&call));
            let other = answer(&program, 0x4000_0003, call, &[]);
            assert_eq!(other, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn errors_are_told() {
        let (reporter, reports) = report::channel().unwrap();
        let error = StepError::os(Step::PivotRoot, "x", Errno::EBUSY);
        reporter.tell(&Report::Failed(error.clone()), &[]);
        drop(reporter);
        assert_eq!(until_held(&reports).unwrap_err(), error);
    }
}
