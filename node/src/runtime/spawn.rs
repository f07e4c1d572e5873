//! Starting a shim: the one place where davit makes a process.
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::kernel::program::Program;

/// A process that is on its way to becoming a shim: it ends as soon as the shim has detached itself from it.
#[derive(Debug)]
pub(super) struct Launched {
    /// Where the shim is talked to.
    pub(super) socket: OwnedFd,
    child: Child,
}

impl Launched {
    /// Reaps the process, which has ended or is about to.
    pub(super) fn reap(mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }

    /// Takes it apart into the socket and what is left to reap.
    pub(super) fn split(self) -> io::Result<(OwnedFd, Self)> {
        let socket = self.socket.try_clone()?;
        Ok((socket, self))
    }
}

/// Executes the shim for a pod; it inherits its socket as standard input, a log as standard error, and nothing else.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where davit makes a process: a re-exec of itself"
)]
pub(super) fn spawn(program: &Program, pod_uid: &str, log: File) -> io::Result<Launched> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let child = Command::new(program.exec_path())
        .arg0("davit")
        .args(["shim", pod_uid])
        .env_clear()
        // The C library would have the kernel write to its memory at any time, also where a process gives that up
        // (`kernel::passage`).
        .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    Ok(Launched { socket, child })
}
