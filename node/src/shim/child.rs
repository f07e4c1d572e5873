//! What a new process does between `clone3` and its program: a container's first process, or one more in it.
//!
//! Where others live in the pid namespace already, it stays outside and sends another one in ([`super::gate`]).
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::unistd::setsid;
use seccompiler::sock_filter;

use super::gate::{Gate, processes_seen_by};
use super::process::{Streams, adjust_oom_score, become_program, connect, look_up};
use super::protocol::{Launch, ProcessPlan};
use super::report::{Report, Reporter};
use super::root::{self, Prepared};
use super::terminal::open_terminal;
use crate::cgroup::Entrance;
use crate::kernel::ioctl::set_controlling_terminal;
use crate::kernel::mount::{attach, clone_tree};
use crate::kernel::passage::Slip;
use crate::kernel::path::{TargetKind, open_in_root, target_in_root};
use crate::kernel::process::{die_with_parent, reset_signals};
use crate::runtime::identity::Identity;
use crate::runtime::{Step, StepError, User};

/// What both kinds of process need.
#[derive(Debug)]
pub(super) struct Common<'a> {
    /// The way into the container's cgroup.
    pub(super) entrance: Entrance,
    /// Streams, unless it gets a terminal.
    pub(super) streams: Option<Streams>,
    /// Its system call filters.
    pub(super) filters: &'a [Vec<sock_filter>],
    /// Tells the shim what went wrong.
    pub(super) reporter: Reporter,
    /// A process of the pid namespace that the program is to be born in, where others live in it; and where the shim
    /// reads who was born. Without it, this process becomes the program itself.
    pub(super) into: Option<(&'a OwnedFd, &'a Slip)>,
}

/// Who one more process runs as.
#[derive(Debug)]
pub(super) enum Who<'a> {
    /// The container's own user, as it was resolved when the container started.
    Known(&'a Identity),
    /// Somebody else, looked up now.
    Asked(&'a User),
}

/// Runs one of the functions below and reports its failure; returns only then.
pub(super) fn run(
    common: Common<'_>,
    body: impl FnOnce(&mut Common<'_>) -> Result<Infallible, StepError>,
) -> i32 {
    let mut common = common;
    match body(&mut common) {
        Ok(never) => match never {},
        Err(error) => {
            common.reporter.tell(&Report::Failed(error), &[]);
            1
        }
    }
}

/// A container's first process, born in its new mount and pid namespaces.
pub(super) fn first_process(
    common: &mut Common<'_>,
    launch: &Launch,
    mut prepared: Prepared<'_>,
) -> Result<Infallible, StepError> {
    let gate = begin(common)?;
    if let (Some((target, _)), None) = (common.into, &prepared.processes) {
        let seen = processes_seen_by(target);
        prepared.processes =
            Some(seen.map_err(|errno| StepError::os(Step::Mount, "/proc", errno))?);
    }
    adjust_oom_score(launch.process.oom_score_adj, &common.reporter);
    // After entering the cgroups: they are what the new namespace calls its root.
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| StepError::os(Step::Namespaces, "cgroup", errno))?;
    let root = root::build(launch, prepared)?;
    let cwd = Path::new(&launch.process.cwd);
    match target_in_root(&root, cwd, TargetKind::Directory) {
        // On a read-only root a missing directory stays missing, and entering it says so.
        Ok(_) | Err(Errno::EROFS) => {}
        Err(errno) => {
            return Err(StepError::os(
                Step::WorkingDirectory,
                &launch.process.cwd,
                errno,
            ));
        }
    }
    let plan = &launch.process;
    set_up_streams(common, plan, &root, true)?;
    root::enter(&root)?;
    drop(root);
    let identity = look_up(&plan.user)?;
    common
        .reporter
        .tell(&Report::Identity(identity.clone()), &[]);
    let gate = gate.as_ref();
    become_program(plan, &identity, common.filters, &common.reporter, gate)
}

/// One more process in a container: it enters the namespaces of the process behind `target`.
pub(super) fn further_process(
    common: &mut Common<'_>,
    plan: &ProcessPlan,
    who: &Who<'_>,
    target: &OwnedFd,
) -> Result<Infallible, StepError> {
    let gate = begin(common)?;
    adjust_oom_score(plan.oom_score_adj, &common.reporter);
    setns(
        target,
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(|errno| StepError::os(Step::Namespaces, "mount and cgroup", errno))?;
    let root = std::fs::File::open("/")
        .map_err(|error| StepError::io(Step::PivotRoot, "/", &error))?
        .into();
    set_up_streams(common, plan, &root, false)?;
    drop(root);
    let resolved;
    let identity = match who {
        Who::Known(identity) => identity,
        Who::Asked(user) => {
            resolved = look_up(user)?;
            &resolved
        }
    };
    let gate = gate.as_ref();
    become_program(plan, identity, common.filters, &common.reporter, gate)
}

fn begin<'a>(common: &mut Common<'a>) -> Result<Option<Gate<'a>>, StepError> {
    // Nobody may look into this process before it has become what it should be.
    let _ = prctl::set_dumpable(false);
    let _ = die_with_parent();
    reset_signals()
        .and_then(|()| setsid().map(drop))
        .map_err(|errno| StepError::os(Step::Clone, "session", errno))?;
    common
        .entrance
        .enter_split()
        .map_err(|error| StepError::io(Step::Cgroup, "joining", &error))?;
    common
        .into
        .map(|(target, slip)| Gate::to(target, slip))
        .transpose()
}

/// Connects streams or makes a terminal, whose controlling side goes to the shim. `root` is the container's file tree.
fn set_up_streams(
    common: &mut Common<'_>,
    plan: &ProcessPlan,
    root: &OwnedFd,
    console: bool,
) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::Stdio, "/dev/null", errno);
    let streams = match common.streams.take() {
        Some(mut streams) => {
            if !plan.stdin {
                // The container's own, so that no descriptor leads to a file of the host.
                let null = open_in_root(root, Path::new("/dev/null"), OFlag::O_RDWR);
                streams.stdin = null.map_err(fail)?;
            }
            streams
        }
        None => {
            let (master, peer) = open_terminal(root)?;
            if console {
                show_console(root, &peer)?;
            }
            common.reporter.tell(&Report::Terminal, &[master]);
            // Behind a gate, whoever is born there takes it.
            if common.into.is_none() {
                set_controlling_terminal(&peer)
                    .map_err(|errno| StepError::os(Step::Terminal, "controlling", errno))?;
            }
            let copy = || {
                peer.try_clone()
                    .map_err(|e| StepError::io(Step::Stdio, "terminal", &e))
            };
            Streams {
                stdin: copy()?,
                stdout: copy()?,
                stderr: copy()?,
            }
        }
    };
    connect(&streams)
}

/// `/dev/console` is the container's terminal.
fn show_console(root: &OwnedFd, peer: &OwnedFd) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::Terminal, "/dev/console", errno);
    let target = target_in_root(root, Path::new("/dev/console"), TargetKind::File).map_err(fail)?;
    let terminal = clone_tree(peer.as_fd(), Path::new(""), false).map_err(fail)?;
    attach(terminal, target).map_err(fail)
}
