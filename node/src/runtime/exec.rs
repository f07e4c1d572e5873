//! Commands in running containers.
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::sandbox::ANSWER_LIMIT;
use super::{Error, ExecConfig, ExecOutcome, ExecStreams, Sandbox, UNKNOWN_EXIT_CODE};
use crate::shim::protocol::{ExecLaunch, Reply, Request};

/// How long output is still taken from what a command left running in the background.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// A running exec: streams, and the number to kill it by.
struct Running {
    streams: ExecStreams,
    call: u64,
}

impl Sandbox {
    /// Runs a command in a container to its end, as probes and hooks do, keeping at most `max_output` bytes of each
    /// stream and dropping the rest.
    ///
    /// # Errors
    /// [`Error::Step`] when the command cannot be started; a timeout is no error but [`ExecOutcome::timed_out`].
    pub async fn exec(
        &self,
        id: &str,
        config: ExecConfig,
        max_output: usize,
    ) -> Result<ExecOutcome, Error> {
        let limit = config.timeout;
        let Running { streams, call } = self.start_exec(id, config).await?;
        drop(streams.stdin);
        let stdout = tokio::spawn(read_some(Some(streams.stdout), max_output));
        let stderr = tokio::spawn(read_some(streams.stderr, max_output));
        let mut exit = streams.exit;
        let in_time = match limit {
            Some(limit) => tokio::time::timeout(limit, &mut exit).await.ok(),
            None => Some((&mut exit).await),
        };
        let timed_out = in_time.is_none();
        let exit_code = match in_time {
            Some(code) => code.unwrap_or(UNKNOWN_EXIT_CODE),
            None => {
                self.simple(Request::KillExec { call }, id, ANSWER_LIMIT)
                    .await?;
                let killed = tokio::time::timeout(ANSWER_LIMIT, exit).await;
                killed
                    .ok()
                    .and_then(Result::ok)
                    .unwrap_or(UNKNOWN_EXIT_CODE)
            }
        };
        let (stdout, stderr) = (drained(stdout).await, drained(stderr).await);
        Ok(ExecOutcome {
            exit_code,
            timed_out,
            stdout,
            stderr,
        })
    }

    /// Starts a command in a container and hands over its streams. Its end comes with [`ExecStreams::exit`]; it is
    /// killed when this process ends. [`ExecConfig::timeout`] is not looked at.
    ///
    /// # Errors
    /// [`Error::Step`] when the command cannot be started.
    pub async fn exec_stream(&self, id: &str, config: ExecConfig) -> Result<ExecStreams, Error> {
        Ok(self.start_exec(id, config).await?.streams)
    }

    async fn start_exec(&self, id: &str, config: ExecConfig) -> Result<Running, Error> {
        let failure = |errno: nix::errno::Errno| Error::Spawn {
            pod: self.inner.config.pod_uid.clone(),
            source: errno.into(),
        };
        let terminal = config.tty;
        let (theirs, ours) = if terminal {
            (Vec::new(), None)
        } else {
            let (theirs, ours) = streams(config.stdin).map_err(failure)?;
            (theirs, Some(ours))
        };
        let launch = ExecLaunch {
            id: id.to_owned(),
            args: config.args,
            env: config.env,
            cwd: config.cwd,
            user: config.user,
            terminal,
        };
        let ((result, fds), call, exit) = self
            .client()?
            .call_exec(Request::Exec(launch), theirs, ANSWER_LIMIT)
            .await?;
        match result {
            Ok(Reply::ExecStarted) => {}
            Ok(other) => return Err(self.unexpected(&other)),
            Err(refusal) => {
                let object = format!("container {id}");
                return Err(self.refused(refusal, id, "run a command in", object));
            }
        }
        let (stdin, stdout, stderr) = match ours {
            Some(ours) => ours,
            None => {
                let Some(terminal) = fds.into_iter().next() else {
                    return Err(self.unexpected(&Reply::ExecStarted));
                };
                let copy = terminal.try_clone().map_err(|source| Error::Spawn {
                    pod: self.inner.config.pod_uid.clone(),
                    source,
                })?;
                (Some(copy), terminal, None)
            }
        };
        Ok(Running {
            streams: ExecStreams {
                stdin,
                stdout,
                stderr,
                exit,
            },
            call,
        })
    }
}

/// Sets the size of a terminal that came with [`ExecStreams`].
///
/// # Errors
/// It is no terminal, or is closed on the other side.
pub fn resize_terminal(terminal: &OwnedFd, columns: u16, rows: u16) -> std::io::Result<()> {
    crate::kernel::ioctl::set_window_size(terminal, columns, rows).map_err(Into::into)
}

type OurEnds = (Option<OwnedFd>, OwnedFd, Option<OwnedFd>);

/// Pipes: their ends for standard input, output and error, and ours. Ours do not block.
fn streams(stdin: bool) -> nix::Result<(Vec<OwnedFd>, OurEnds)> {
    let (out_ours, out_theirs) = pipe2(OFlag::O_CLOEXEC)?;
    let (err_ours, err_theirs) = pipe2(OFlag::O_CLOEXEC)?;
    // Without input the writing end is closed at once: the command reads the end of its input.
    let (in_theirs, in_ours) = pipe2(OFlag::O_CLOEXEC)?;
    for fd in [&out_ours, &err_ours, &in_ours] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let ours = (stdin.then_some(in_ours), out_ours, Some(err_ours));
    Ok((vec![in_theirs, out_theirs, err_theirs], ours))
}

/// Reads to the end, keeping the first bytes.
async fn read_some(stream: Option<OwnedFd>, keep: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(Ok(mut stream)) = stream.map(pipe::Receiver::from_owned_fd_unchecked) else {
        return kept;
    };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = keep.saturating_sub(kept.len());
        kept.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
    }
    kept
}

async fn drained(mut reader: tokio::task::JoinHandle<Vec<u8>>) -> Vec<u8> {
    match tokio::time::timeout(DRAIN_LIMIT, &mut reader).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(_) => {
            reader.abort();
            Vec::new()
        }
    }
}
