//! Making processes and confining the calling one.
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use seccompiler::sock_filter;

/// libc has this one in a type too small for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How filters know the architecture that this is built for (`AUDIT_ARCH_*`).
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE_ARCH: u32 = 0xC000_00B7;

/// Proof that this process has one thread, so that a child made by `clone3` finds no lock held by a thread that was not
/// copied. Whoever holds it starts no thread.
#[derive(Debug)]
pub(crate) struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// Looks at the process's threads.
    pub(crate) fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(PhantomData)),
            count => Err(io::Error::other(format!(
                "{count} threads run where one is allowed"
            ))),
        }
    }
}

/// A new namespace of each kind named by the flags of `clone(2)`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CloneOptions<'a> {
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: u64,
    /// A cgroup v2 directory that the child starts in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a child process that runs `body` and exits with its result; a panic in it exits with 101.
pub(crate) fn spawn(
    _proof: &SingleThreaded,
    options: CloneOptions<'_>,
    body: impl FnOnce() -> i32,
) -> nix::Result<Pid> {
    let mut args = CloneArgs {
        flags: options.namespaces,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of this address space and goes on with the same stack, as after
    // fork; the process has one thread, so no lock of the allocator or of the runtime is held by another.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match Errno::result(result)? {
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends the child without running destructors or exit handlers copied from the parent.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(pid as libc::pid_t)),
    }
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers.
    super::owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Gives every signal its default action and unblocks all, as a new program expects.
pub(crate) fn reset_signals() -> nix::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of this process; the kernel refuses signals that cannot be changed, harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()
}

/// Marks every descriptor from `first` on to be closed by the next `exec`.
pub(crate) fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: closes nothing now, so no owner of a descriptor is surprised; after exec there are no owners.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    Errno::result(result).map(drop)
}

/// Sets a resource limit of this process by its number.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Closes every descriptor from `first` on: for a copy of a process that goes on without anything it had open.
pub(crate) fn close_from(first: u32) -> nix::Result<()> {
    // SAFETY: the owners of these descriptors are copies in a process that never returns to them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    Errno::result(result).map(drop)
}

/// Has the kernel reap this process's children.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN runs no code of this process.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Installs a system call filter for this process and all it makes.
/// Needs either no-new-privileges or `CAP_SYS_ADMIN`.
pub(crate) fn install_filter(program: &[sock_filter]) -> nix::Result<()> {
    #[repr(C)]
    struct SockFprog {
        len: u16,
        filter: *const sock_filter,
    }
    let fprog = SockFprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const fprog,
        )
    };
    Errno::result(result).map(drop)
}

/// Hands a program that was written to bytes by [`filter_to_bytes`] back as instructions.
pub(crate) fn filter_from_bytes(bytes: &[u8]) -> Option<Vec<sock_filter>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| {
        chunks
            .iter()
            .map(|c| sock_filter {
                code: u16::from_le_bytes([c[0], c[1]]),
                jt: c[2],
                jf: c[3],
                k: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
            })
            .collect()
    })
}

/// A filter program as bytes, eight an instruction.
pub(crate) fn filter_to_bytes(program: &[sock_filter]) -> Vec<u8> {
    program
        .iter()
        .flat_map(|i| {
            let code = i.code.to_le_bytes();
            let k = i.k.to_le_bytes();
            [code[0], code[1], i.jt, i.jf, k[0], k[1], k[2], k[3]]
        })
        .collect()
}

/// Leaves the session's keys behind for a new, empty keyring, which children inherit.
pub(crate) fn new_session_keyring() -> nix::Result<()> {
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: without a name the call takes no pointer.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    Errno::result(result).map(drop)
}

/// Sends this process SIGKILL when its parent dies.
pub(crate) fn die_with_parent() -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
}
