//! The shim: one small single-threaded process a pod, a re-exec of the davit binary, that outlives the agent.
//!
//! It holds the pod's namespaces, starts its containers, owns their output, reaps them, and remembers how they ended.
//! An agent talks to it over a unix socket in the pod's directory ([`protocol`]); any number may come and go.
mod attach;
mod birth;
mod child;
mod connection;
mod container;
mod gate;
mod holder;
mod kept_mount;
mod log;
mod overlay;
mod poller;
mod process;
pub(crate) mod protocol;
pub(crate) mod record;
mod report;
mod root;
mod sandbox;
mod server;
mod terminal;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::setsid;

pub(crate) use birth::bytes_as_fd;

use crate::cgroup::{self, Cgroups};
use crate::kernel::process::{CloneOptions, SingleThreaded, new_session_keyring, spawn};
use crate::kernel::socket;
use crate::runtime::{Step, StepError};
use protocol::{Begin, Decoder, Message, encode};
use record::Records;
use sandbox::Sandbox;
use server::{Parts, Shim, block_signals, listen, note};

/// Where shims stand in the order of killing when memory runs out: as containerd's.
const OOM_SCORE_ADJ: &str = "-998";

/// Entry of the hidden `davit shim …`, to be called before any thread exists; returns the process's exit code.
///
/// The agent's socket is standard input; the arguments only tell a reader of the process list which pod this is.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    drop(args.into_iter());
    let result = SingleThreaded::prove()
        .map_err(|error| StepError::io(Step::Clone, "shim", &error))
        .and_then(start);
    match result {
        Ok(code) => code,
        Err(error) => {
            note(&format!("the shim cannot start: {error}"));
            1
        }
    }
}

fn start(proof: SingleThreaded) -> Result<i32, StepError> {
    let (agent, begin) = first_words()?;
    let tell = |error: StepError| {
        if let Ok(bytes) = encode(&Message::Failed(error.clone()), 0) {
            // An agent that is gone has no use for it.
            let _ = socket::send(&agent, &bytes, &[]);
        }
        error
    };
    let cgroups = make_groups(&begin).map_err(tell)?;
    detach(proof, begin, cgroups, &agent, tell).map_err(tell)?;
    Ok(0)
}

/// Takes the agent's socket from standard input, and from it what sandbox to make.
fn first_words() -> Result<(OwnedFd, Begin), StepError> {
    let fail = |error: std::io::Error| StepError::io(Step::Clone, "standard input", &error);
    let agent = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(fail)?;
    let null = std::fs::File::open("/dev/null").map_err(fail)?;
    nix::unistd::dup2_stdin(&null).map_err(|errno| fail(errno.into()))?;
    let mut decoder = Decoder::default();
    let mut buffer = [0; 16 << 10];
    loop {
        let unreadable = |error: String| StepError::other(Step::Clone, "standard input", error);
        if let Some((begin, _)) = decoder.next().map_err(|e| unreadable(e.to_string()))? {
            return Ok((agent, begin));
        }
        match socket::receive(&agent, &mut buffer, &mut decoder.fds) {
            Ok(0) => return Err(unreadable("the agent is gone".to_owned())),
            Ok(length) => decoder.feed(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut wait = [PollFd::new(agent.as_fd(), PollFlags::POLLIN)];
                poll(&mut wait, PollTimeout::NONE).map_err(|errno| fail(errno.into()))?;
            }
            Err(errno) => return Err(fail(errno.into())),
        }
    }
}

fn make_groups(begin: &Begin) -> Result<Box<dyn Cgroups>, StepError> {
    let cgroups = cgroup::detect()?;
    if let Some((parent, _)) = begin.shim_group.rsplit_once('/') {
        cgroups.create_branch(parent)?;
    }
    cgroups.create(&begin.shim_group)?;
    cgroups.create_branch(&begin.pod_group)?;
    cgroups.limit(&begin.pod_group, &begin.sandbox.resources)?;
    Ok(cgroups)
}

/// Goes on in a child, born in the shims' own cgroup, while this process, the agent's child, ends: so the shim belongs to
/// nobody, and is not killed with the agent's service.
fn detach(
    proof: SingleThreaded,
    begin: Begin,
    cgroups: Box<dyn Cgroups>,
    agent: &OwnedFd,
    tell: impl Fn(StepError) -> StepError,
) -> Result<(), StepError> {
    let mut entrance = cgroups.entrance(&begin.shim_group)?;
    let unified = entrance.unified.take();
    let options = CloneOptions {
        namespaces: 0,
        cgroup: unified.as_ref().map(AsFd::as_fd),
    };
    let in_child = || {
        let served = entrance
            .enter_split()
            .map_err(|error| StepError::io(Step::Cgroup, "joining", &error))
            .and_then(|()| {
                drop(entrance);
                serve(begin, cgroups, agent)
            });
        match served {
            Ok(()) => 0,
            Err(error) => {
                note(&tell(error).to_string());
                1
            }
        }
    };
    spawn(&proof, options, in_child)
        .map(drop)
        .map_err(|errno| StepError::os(Step::Clone, "shim", errno))
}

fn serve(begin: Begin, cgroups: Box<dyn Cgroups>, agent: &OwnedFd) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::Clone, "shim", errno);
    let lost = |error: std::io::Error| StepError::io(Step::Clone, "shim", &error);
    let proof = SingleThreaded::prove().map_err(lost)?;
    let agent = agent.try_clone().map_err(lost)?;
    // A session of its own, out of reach of the agent's terminal.
    setsid().map_err(fail)?;
    // Keys that somebody left with the agent's session are no container's. Not every kernel has any.
    let _ = new_session_keyring();
    nix::unistd::chdir("/").map_err(fail)?;
    block_signals().map_err(fail)?;
    prctl::set_name(c"davit-shim").map_err(fail)?;
    // Containers must not be able to look into it, and what they leave behind falls to it.
    prctl::set_dumpable(false).map_err(fail)?;
    prctl::set_child_subreaper(true).map_err(fail)?;
    // When memory runs out a container goes before the shim that would tell of it. Not every host allows this.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let records = Records::of_pod(&begin.sandbox.dir);
    let sandbox = Sandbox::set_up(&begin.sandbox, &proof, records.dir())?;
    let dir = records.dir().display().to_string();
    let unwritten = |error: std::io::Error| StepError::io(Step::Record, dir.as_str(), &error);
    let listener = listen(records.dir(), Records::SOCKET).map_err(unwritten)?;
    records.write_sandbox(&begin).map_err(unwritten)?;
    let parts = Parts {
        proof,
        begin,
        records,
        cgroups,
        sandbox,
        listener,
    };
    Shim::new(parts, agent).map_err(fail)?.run().map_err(fail)
}
