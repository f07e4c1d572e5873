//! A container as its shim holds it.
use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2, read};
use seccompiler::sock_filter;

use super::attach::Followers;
use super::log::{LineBuffer, LogWriter, Stream};
use super::poller::{Poller, Source, Token};
use super::process::Streams;
use super::protocol::Launch;
use crate::kernel::process::pidfd_open;
use crate::kernel::wait::End;
use crate::runtime::identity::Identity;
use crate::runtime::{ContainerExit, ContainerState, ContainerStatus, Step, StepError};

/// Most read of one stream before others get their turn.
const TURN: usize = 256 << 10;

/// One container, from its start until it is removed.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) launch: Launch,
    pub(super) filters: Vec<Vec<sock_filter>>,
    /// Its first process; until it runs, the process that sets it up.
    pub(super) pid: Pid,
    /// Tells of its end even while a tracer keeps that from its parent.
    pub(super) pidfd: Option<(OwnedFd, Token)>,
    /// Who its program runs as, once that is resolved.
    pub(super) identity: Option<Identity>,
    pub(super) status: ContainerStatus,
    pub(super) outputs: Vec<Output>,
    pub(super) log: LogWriter,
    /// Kept open for attach.
    pub(super) stdin: Option<OwnedFd>,
    /// Who waits for it to be removed: connection and call.
    pub(super) removers: Vec<(Token, u64)>,
}

/// One stream that a container writes to.
#[derive(Debug)]
pub(super) struct Output {
    fd: OwnedFd,
    pub(super) token: Token,
    stream: Stream,
    line: LineBuffer,
    /// Not read until a follower has taken what it was given.
    paused: bool,
}

/// What a read of an output came to.
#[derive(Debug, PartialEq, Eq)]
enum Drained {
    Empty,
    More,
    Ended,
    /// Somebody must take first what there is.
    HeldUp,
}

impl Output {
    /// Watches a stream.
    pub(super) fn watch(fd: OwnedFd, stream: Stream, poller: &mut Poller) -> nix::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let token = poller.watch(&fd, Source::Output)?;
        Ok(Self {
            fd,
            token,
            stream,
            line: LineBuffer::default(),
            paused: false,
        })
    }

    /// Whether it carries this stream.
    pub(super) fn is(&self, stream: Stream) -> bool {
        self.stream == stream
    }

    /// The pipe or terminal it is read from.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn drain(&mut self, limit: usize, mut take: impl FnMut(&mut Self, &[u8]) -> bool) -> Drained {
        let mut buffer = [0; 32 << 10];
        let mut total = 0;
        while total < limit {
            match read(&self.fd, &mut buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Drained::Empty,
                // A terminal says EIO once nobody has it open any more.
                Err(_) | Ok(0) => return Drained::Ended,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    total += length;
                    if !take(self, bytes) {
                        return Drained::HeldUp;
                    }
                }
            }
        }
        Drained::More
    }
}

impl Container {
    /// Writes what one stream delivers to the log and to those who follow it; an ended one is closed.
    pub(super) fn read_output(
        &mut self,
        token: Token,
        poller: &mut Poller,
        followers: &mut Followers,
    ) {
        let Some(index) = self.outputs.iter().position(|output| output.token == token) else {
            return;
        };
        let Self {
            outputs,
            log,
            launch,
            ..
        } = self;
        let Some(output) = outputs.get_mut(index) else {
            return;
        };
        let drained = output.drain(TURN, |output, bytes| {
            log.take(output.stream, &mut output.line, bytes, Timestamp::now());
            followers.take(&launch.id, output.stream, bytes, poller);
            !followers.hold_up(&launch.id, output.stream)
        });
        match drained {
            Drained::Ended => {
                let output = self.outputs.remove(index);
                self.close(output, poller, followers);
            }
            Drained::HeldUp => {
                output.paused = true;
                poller.pause(&output.fd);
            }
            Drained::Empty | Drained::More => {}
        }
    }

    /// Reads on where followers held it up, as far as none does any more.
    pub(super) fn go_on(&mut self, poller: &Poller, followers: &Followers) {
        let id = &self.launch.id;
        for output in self.outputs.iter_mut().filter(|output| output.paused) {
            if !followers.hold_up(id, output.stream) {
                output.paused = poller.resume(&output.fd, output.token).is_err();
            }
        }
    }

    /// Writes all there is to the log and closes the streams: the program has ended. What a process that left the
    /// container's control still writes is lost.
    pub(super) fn finish_output(&mut self, poller: &mut Poller, followers: &mut Followers) {
        for mut output in std::mem::take(&mut self.outputs) {
            let Self { log, launch, .. } = self;
            // A pipe holds at most a megabyte, so the limit only guards against somebody who writes on and on.
            output.drain(16 << 20, |output, bytes| {
                log.take(output.stream, &mut output.line, bytes, Timestamp::now());
                followers.take(&launch.id, output.stream, bytes, poller);
                true
            });
            self.close(output, poller, followers);
        }
    }

    fn close(&mut self, mut output: Output, poller: &mut Poller, followers: &mut Followers) {
        self.log
            .end(output.stream, &mut output.line, Timestamp::now());
        poller.forget(&output.fd, output.token);
        followers.end(&self.launch.id, output.stream, poller);
    }

    /// Has the poller tell when its first process has ended.
    pub(super) fn watch_end(&mut self, poller: &mut Poller) -> nix::Result<()> {
        let pidfd = pidfd_open(self.pid)?;
        let token = poller.watch(&pidfd, Source::End)?;
        self.pidfd = Some((pidfd, token));
        Ok(())
    }

    /// The end is known.
    pub(super) fn forget_end(&mut self, poller: &mut Poller) {
        if let Some((pidfd, token)) = self.pidfd.take() {
            poller.forget(&pidfd, token);
        }
    }

    /// Its state, to be told.
    pub(super) fn state(&self) -> ContainerState {
        ContainerState {
            id: self.launch.id.clone(),
            name: self.launch.name.clone(),
            attempt: self.launch.attempt,
            status: self.status.clone(),
        }
    }

    /// Whether its program runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status, ContainerStatus::Running { .. })
    }

    /// Whether its program has ended.
    pub(super) fn has_exited(&self) -> bool {
        matches!(self.status, ContainerStatus::Exited(_))
    }

    /// How it ended, from what the kernel says; none if it has not been running.
    pub(super) fn exit(&self, end: End, oom_kills: u64) -> Option<ContainerExit> {
        let ContainerStatus::Running { started_at, .. } = self.status else {
            return None;
        };
        let (exit_code, signal) = exit_code(end);
        Some(ContainerExit {
            id: self.launch.id.clone(),
            exit_code,
            signal,
            oom_killed: oom_kills > 0 && exit_code != 0,
            started_at,
            finished_at: Timestamp::now(),
        })
    }
}

/// Exit code in Kubernetes' sense, and the signal if one ended it.
pub(super) fn exit_code(end: End) -> (i32, Option<i32>) {
    match end {
        End::Exited(code) => (code, None),
        End::Signaled(signal) => (128 + signal, Some(signal)),
    }
}

/// The shim's ends of a container's pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Pipes for a container without a terminal. Without `stdin` the container puts its own `/dev/null` in its place.
pub(super) fn pipes(stdin: bool) -> Result<(Streams, Pipes), StepError> {
    let make =
        || pipe2(OFlag::O_CLOEXEC).map_err(|errno| StepError::os(Step::Stdio, "pipe", errno));
    let (out_read, stdout) = make()?;
    let (err_read, stderr) = make()?;
    let (input, keep) = if stdin {
        let (input, keep) = make()?;
        (input, Some(keep))
    } else {
        let copy = stdout.as_fd().try_clone_to_owned();
        (
            copy.map_err(|e| StepError::io(Step::Stdio, "pipe", &e))?,
            None,
        )
    };
    let streams = Streams {
        stdin: input,
        stdout,
        stderr,
    };
    Ok((
        streams,
        Pipes {
            stdin: keep,
            stdout: out_read,
            stderr: err_read,
        },
    ))
}
