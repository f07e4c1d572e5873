//! How a process being set up tells its shim what went wrong; silence until the channel closes means that it became the
//! program it should be, or is about to send that through its gate.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use crate::kernel::socket;
use crate::runtime::StepError;
use crate::runtime::identity::Identity;

/// Longest report.
const MAX_REPORT: usize = 16 << 10;

/// One thing a process being set up has to tell.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// Worth a line in the shim's log; the set-up goes on.
    Note(String),
    /// The terminal comes with this message.
    Terminal,
    /// A mount comes with this message that shows the processes of the sender's pid namespace.
    Processes,
    /// Who the container's program runs as.
    Identity(Identity),
    /// The step that failed; the process ends.
    Failed(StepError),
}

/// The end of the process being set up; closed by `exec`.
#[derive(Debug)]
pub(super) struct Reporter(OwnedFd);

/// The shim's end.
#[derive(Debug)]
pub(super) struct Reports(OwnedFd);

/// What the shim finds on its end.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// A report, with a descriptor if it is a terminal.
    Report(Report, Option<OwnedFd>),
    /// The process has become its program, has ended, or goes through its gate.
    Closed,
}

/// Both ends of a new channel.
pub(super) fn channel() -> nix::Result<(Reporter, Reports)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (child, shim) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((Reporter(child), Reports(shim)))
}

impl Reporter {
    /// Tells the shim; if it cannot be told there is nobody who would want to know.
    pub(super) fn tell(&self, report: &Report, fds: &[OwnedFd]) {
        if let Ok(mut bytes) = serde_json::to_vec(report) {
            // A cut-off report is unreadable, and said to be so.
            bytes.truncate(MAX_REPORT);
            let _ = socket::send(&self.0, &bytes, fds);
        }
    }

    /// Tells the shim of something that is not as it should be but does not stop the container.
    pub(super) fn note(&self, text: String) {
        self.tell(&Report::Note(text), &[]);
    }
}

impl Reports {
    /// The next thing there is to hear.
    pub(super) fn hear(&self) -> Heard {
        let mut buffer = [0; MAX_REPORT];
        let mut fds = Vec::new();
        match socket::receive(&self.0, &mut buffer, &mut fds) {
            Err(Errno::EAGAIN | Errno::EINTR) => Heard::Nothing,
            Err(_) | Ok(0) => Heard::Closed,
            Ok(length) => match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
                Ok(report) => Heard::Report(report, fds.pop()),
                Err(error) => {
                    Heard::Report(Report::Note(format!("unreadable report: {error}")), None)
                }
            },
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
