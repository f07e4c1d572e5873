//! The shim's one loop: it hears calls, children that end, output, and answers.
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::{Pid, getpid};

use super::attach::Followers;
use super::birth::{Birth, Exec};
use super::connection::{Connection, is_trusted};
use super::container::{Container, exit_code};
use super::poller::{Poller, Source, Token};
use super::protocol::{Begin, Message, Refusal, Reply, Request, VERSION};
use super::record::Records;
use super::sandbox::Sandbox;
use crate::cgroup::Cgroups;
use crate::kernel::process::SingleThreaded;
use crate::kernel::wait::{self, Change, End};
use crate::runtime::{ContainerStatus, StepError};

/// First wait before something that was busy is tried again; doubled each time.
const FIRST_RETRY_MICROS: i64 = 500;
/// Longest wait between tries.
const LAST_RETRY_MICROS: i64 = 100_000;
/// After so many tries, about a second, a failure is told although something of what failed is still there.
const PATIENCE: u32 = 16;
/// Changes of children taken at once: who is stopped and let go again and again must not keep others waiting.
const CHANGES: usize = 64;

/// Who asked for something: a connection, and the number of the call on it.
pub(super) type Asker = (Token, u64);

/// What is left of a container that could not be started.
#[derive(Debug)]
pub(super) struct Failed {
    /// Its cgroup.
    pub(super) group: String,
    /// Who waits to be told why, once all is gone.
    pub(super) tell: Option<(Asker, StepError)>,
    /// How often it was tried to remove it.
    pub(super) tries: u32,
}

/// The shim.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) proof: SingleThreaded,
    pub(super) begin: Begin,
    pub(super) records: Records,
    pub(super) cgroups: Box<dyn Cgroups>,
    pub(super) sandbox: Sandbox,
    pub(super) poller: Poller,
    pub(super) containers: Vec<Container>,
    pub(super) births: Vec<Birth>,
    pub(super) execs: Vec<Exec>,
    pub(super) failed: Vec<Failed>,
    pub(super) followers: Followers,
    connections: BTreeMap<Token, Connection>,
    signals: SignalFd,
    listener: UnixListener,
    retry: TimerFd,
    retry_micros: i64,
    closing: Option<Asker>,
    done: bool,
}

/// What is made before the loop.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) proof: SingleThreaded,
    pub(super) begin: Begin,
    pub(super) records: Records,
    pub(super) cgroups: Box<dyn Cgroups>,
    pub(super) sandbox: Sandbox,
    pub(super) listener: UnixListener,
}

impl Shim {
    /// A shim whose sandbox is set up, and `first`, the agent that started it.
    pub(super) fn new(parts: Parts, first: OwnedFd) -> nix::Result<Self> {
        let mut poller = Poller::new()?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        poller.watch(&signals, Source::Signals)?;
        poller.watch(&parts.listener, Source::Listener)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let retry = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        poller.watch(retry.as_fd(), Source::Retry)?;
        let mut shim = Self {
            proof: parts.proof,
            begin: parts.begin,
            records: parts.records,
            cgroups: parts.cgroups,
            sandbox: parts.sandbox,
            poller,
            containers: Vec::new(),
            births: Vec::new(),
            execs: Vec::new(),
            failed: Vec::new(),
            followers: Followers::default(),
            connections: BTreeMap::new(),
            signals,
            listener: parts.listener,
            retry,
            retry_micros: FIRST_RETRY_MICROS,
            closing: None,
            done: false,
        };
        shim.connect(first)?;
        Ok(shim)
    }

    /// Serves until the pod is shut down.
    pub(super) fn run(mut self) -> nix::Result<()> {
        while !self.done {
            for (token, source) in self.poller.wait()? {
                if self.poller.knows(token) {
                    self.handle(token, source);
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, token: Token, source: Source) {
        match source {
            Source::Signals => self.reap(),
            Source::Listener => self.accept(),
            Source::Retry => {
                let _ = self.retry.wait();
                self.try_removals();
            }
            Source::Connection => self.hear(token),
            Source::Birth => self.hear_birth(token),
            Source::End => self.see_end(token),
            Source::Follower => self.wake_follower(token),
            Source::Output => {
                let Self {
                    containers,
                    poller,
                    followers,
                    ..
                } = self;
                let owner = containers
                    .iter_mut()
                    .find(|c| c.outputs.iter().any(|output| output.token == token));
                if let Some(container) = owner {
                    container.read_output(token, poller, followers);
                    let lost = container.log.take_lost();
                    if lost > 0 {
                        note(&format!(
                            "{}: {lost} bytes of log lost",
                            container.launch.id
                        ));
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let socket = OwnedFd::from(socket);
            if is_trusted(&socket)
                && let Err(errno) = self.connect(socket)
            {
                note(&format!("a connection was refused: {errno}"));
            }
        }
    }

    fn connect(&mut self, socket: OwnedFd) -> nix::Result<()> {
        let token = self.poller.watch(&socket, Source::Connection)?;
        self.connections
            .insert(token, Connection::new(socket, token));
        let hello = Message::Hello {
            version: VERSION,
            pid: getpid().as_raw(),
            sandbox: Box::new(self.begin.sandbox.clone()),
        };
        self.say(token, &hello, Vec::new());
        Ok(())
    }

    fn hear(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if connection.flush(&self.poller).is_err() {
            return self.disconnect(token);
        }
        match connection.receive() {
            Err(_) => self.disconnect(token),
            Ok(calls) => {
                for (call, fds) in calls {
                    self.answer((token, call.number), call.request, fds);
                }
            }
        }
    }

    /// What somebody who is gone has started and cannot hear of any more, ends.
    fn disconnect(&mut self, token: Token) {
        if let Some(connection) = self.connections.remove(&token) {
            self.poller.forget(&connection, token);
        }
        for exec in self.execs.iter().filter(|exec| exec.asker.0 == token) {
            self.kill_exec(exec);
        }
    }

    pub(super) fn say(&mut self, token: Token, message: &Message, fds: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&token)
            && connection.say(&self.poller, message, fds).is_err()
        {
            self.disconnect(token);
        }
    }

    pub(super) fn reply(&mut self, asker: Asker, result: Result<Reply, Refusal>) {
        self.say(
            asker.0,
            &Message::Reply {
                number: asker.1,
                result,
            },
            Vec::new(),
        );
    }

    fn answer(&mut self, asker: Asker, request: Request, fds: Vec<OwnedFd>) {
        let result = match request {
            Request::Start(launch) => return self.start(asker, *launch, fds),
            Request::Exec(exec) => return self.exec(asker, exec, fds),
            Request::Attach(plan) => return self.attach(asker, &plan, fds),
            Request::CloseStdin { id } => self.close_stdin(&id),
            Request::Remove { id } => return self.remove(asker, &id),
            Request::Shutdown => return self.shut_down(asker),
            Request::KillExec { call } => {
                for exec in self
                    .execs
                    .iter()
                    .filter(|exec| exec.asker == (asker.0, call))
                {
                    self.kill_exec(exec);
                }
                Ok(Reply::Done)
            }
            Request::Signal { id, signal } => self.signal(&id, signal),
            Request::Kill { id } => self.kill(&id),
            Request::List => Ok(Reply::Containers(
                self.containers.iter().map(Container::state).collect(),
            )),
        };
        self.reply(asker, result);
    }

    pub(super) fn find(&self, id: &str) -> Option<&Container> {
        self.containers
            .iter()
            .find(|container| container.launch.id == id)
    }

    fn signal(&self, id: &str, signal: i32) -> Result<Reply, Refusal> {
        let container = self.find(id).ok_or(Refusal::NotFound)?;
        if container.is_running() {
            // Not reaped yet, so the number is still this process's. One that has ended meanwhile needs no signal.
            if let Err(errno @ Errno::EINVAL) = wait::send_signal(container.pid, signal) {
                let problem = format!("cannot get signal {signal}: {}", errno.desc());
                return Err(Refusal::WrongState(problem));
            }
        }
        Ok(Reply::Done)
    }

    fn kill(&self, id: &str) -> Result<Reply, Refusal> {
        let container = self.find(id).ok_or(Refusal::NotFound)?;
        if !container.has_exited() {
            self.kill_container(container);
        }
        Ok(Reply::Done)
    }

    /// The end of a pid namespace's first process is the end of all in it; elsewhere the cgroup says who belongs to it.
    fn kill_container(&self, container: &Container) {
        let _ = nix::sys::signal::kill(container.pid, Signal::SIGKILL);
        if !container.launch.own_pid_namespace
            && let Err(error) = self.cgroups.kill(&container.launch.group)
        {
            note(&format!("{}: {error}", container.launch.id));
        }
    }

    fn remove(&mut self, asker: Asker, id: &str) {
        let Some(index) = self.containers.iter().position(|c| c.launch.id == id) else {
            return self.reply(asker, Ok(Reply::Done));
        };
        if let Some(container) = self.containers.get_mut(index) {
            container.removers.push(asker);
        }
        if let Some(container) = self.containers.get(index)
            && !container.has_exited()
        {
            return self.kill_container(container);
        }
        self.try_removals();
    }

    fn shut_down(&mut self, asker: Asker) {
        self.closing = Some(asker);
        for container in self.containers.iter().filter(|c| !c.has_exited()) {
            self.kill_container(container);
        }
        for exec in &self.execs {
            self.kill_exec(exec);
        }
        self.try_removals();
    }

    /// Removes what is to be removed and has ended; what is still busy is tried again later.
    pub(super) fn try_removals(&mut self) {
        let mut busy = false;
        let mut kept = Vec::new();
        for mut container in std::mem::take(&mut self.containers) {
            let wanted = self.closing.is_some() || !container.removers.is_empty();
            if !wanted || !container.has_exited() {
                kept.push(container);
                continue;
            }
            if !self.remove_group(&container.launch.group) {
                busy = true;
                kept.push(container);
                continue;
            }
            container.finish_output(&mut self.poller, &mut self.followers);
            if let Err(error) = self.records.remove_container(&container.launch.id) {
                note(&format!("{}: {error}", container.launch.id));
            }
            for asker in container.removers {
                self.reply(asker, Ok(Reply::Done));
            }
        }
        self.containers = kept;
        busy |= self.try_failed();
        if let Some(asker) = self.closing
            && self.containers.is_empty()
            && self.births.is_empty()
            && !self.holder_lives()
        {
            if self.remove_group(&self.begin.pod_group) {
                self.reply(asker, Ok(Reply::Done));
                self.done = true;
            } else {
                busy = true;
            }
        }
        if busy {
            self.retry_later();
        } else {
            self.retry_micros = FIRST_RETRY_MICROS;
        }
    }

    /// Removes a cgroup, whatever the records say of it: a process that is still there was missed, and is killed.
    fn remove_group(&self, group: &str) -> bool {
        if self.cgroups.remove(group).is_ok() {
            return true;
        }
        if let Err(error) = self.cgroups.kill(group) {
            note(&format!("{group}: {error}"));
        }
        false
    }

    /// Removes what is left of containers that could not be started; true if something is still there.
    fn try_failed(&mut self) -> bool {
        for mut failed in std::mem::take(&mut self.failed) {
            failed.tries += 1;
            let gone = self.remove_group(&failed.group);
            if (gone || failed.tries > PATIENCE)
                && let Some((asker, error)) = failed.tell.take()
            {
                self.reply(asker, Err(Refusal::Step(error)));
            }
            if !gone {
                self.failed.push(failed);
            }
        }
        !self.failed.is_empty()
    }

    /// Ends the shared pid namespace, and with it all that is in it; false once that is done.
    fn holder_lives(&self) -> bool {
        let Some(holder) = self.sandbox.holder.as_ref().filter(|h| !h.ended) else {
            return false;
        };
        // Its end is heard of as that of any child.
        let _ = nix::sys::signal::kill(holder.pid, Signal::SIGKILL);
        true
    }

    fn retry_later(&mut self) {
        let wait = Expiration::OneShot(TimeSpec::new(0, self.retry_micros * 1000));
        self.retry_micros = (self.retry_micros * 2).min(LAST_RETRY_MICROS);
        if let Err(errno) = self.retry.set(wait, TimerSetTimeFlags::empty()) {
            note(&format!("no timer: {errno}"));
        }
    }

    /// Learns what has happened to children.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        for _ in 0..CHANGES {
            match wait::next_change() {
                Ok(None) | Err(Errno::ECHILD) => return,
                Ok(Some((pid, Change::Ended(end)))) => self.ended(pid, end),
                // Gone again, or killed meanwhile, is as good.
                Ok(Some((pid, Change::Traced { signal, event }))) => {
                    let _ = wait::let_go(pid, signal, event);
                }
                Ok(Some((_, Change::Continued))) => {}
                Err(errno) => return note(&format!("waiting for children: {errno}")),
            }
        }
        // There may be more.
        let _ = raise(Signal::SIGCHLD);
    }

    /// A container's first process has ended; if a tracer keeps the shim from being told how, it looks.
    fn see_end(&mut self, token: Token) {
        self.reap();
        let watched = |c: &Container| c.pidfd.as_ref().is_some_and(|(_, own)| *own == token);
        let Some(index) = self.containers.iter().position(watched) else {
            return;
        };
        let container = self.containers.get_mut(index);
        let end = container.as_ref().and_then(|c| wait::end_of_zombie(c.pid));
        if let Some(container) = container {
            container.forget_end(&mut self.poller);
        }
        if let Some(end) = end {
            self.container_ended(index, end);
        }
    }

    /// A child has ended and is reaped.
    pub(super) fn ended(&mut self, pid: Pid, end: End) {
        // What it had to say before it became its program, or failed to, comes first.
        self.hear_birth_of(pid);
        if self.set_up_ended(pid, end) {
            return self.try_removals_if_wanted();
        }
        if let Some(index) = self
            .containers
            .iter()
            .position(|c| c.pid == pid && c.is_running())
        {
            self.container_ended(index, end);
        } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
            let exec = self.execs.remove(index);
            let (exit_code, _) = exit_code(end);
            let message = Message::ExecExited {
                call: exec.asker.1,
                exit_code,
            };
            self.say(exec.asker.0, &message, Vec::new());
        } else if let Some(holder) = self.sandbox.holder.as_mut().filter(|h| h.pid == pid) {
            holder.ended = true;
            if self.closing.is_none() {
                note("the first process of the pod's pid namespace has ended, and all in it");
            }
        }
        self.try_removals_if_wanted();
    }

    /// What ended may be what a removal waits for.
    fn try_removals_if_wanted(&mut self) {
        if self.closing.is_some() || !self.failed.is_empty() {
            self.try_removals();
        }
    }

    fn container_ended(&mut self, index: usize, end: End) {
        let Self {
            containers,
            cgroups,
            poller,
            followers,
            ..
        } = self;
        let Some(container) = containers.get_mut(index) else {
            return;
        };
        let group = &container.launch.group;
        if !container.launch.own_pid_namespace
            && let Err(error) = cgroups.kill(group)
        {
            note(&format!("{}: {error}", container.launch.id));
        }
        let Some(exit) = container.exit(end, cgroups.oom_kills(group)) else {
            return;
        };
        container.finish_output(poller, followers);
        container.forget_end(poller);
        container.status = ContainerStatus::Exited(exit.clone());
        container.stdin = None;
        let told = Message::Exited(exit.clone());
        for token in self.connections.keys().copied().collect::<Vec<_>>() {
            self.say(token, &told, Vec::new());
        }
        // Nobody there to remember it: then the disk must, whatever happens to the machine.
        let alone = self.connections.is_empty();
        if let Err(error) = self.records.write_exit(&exit, alone) {
            note(&format!(
                "{}: its end is not written down: {error}",
                exit.id
            ));
        }
        self.try_removals();
    }
}

/// A line in the shim's own log.
pub(super) fn note(text: &str) {
    eprintln!("{} {text}", jiff::Timestamp::now());
}

/// Blocks the signals that the loop reads or that must not end it.
pub(super) fn block_signals() -> nix::Result<()> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        mask.add(signal);
    }
    mask.thread_block()
}

/// A listening socket named `name` in the directory, however long the directory's path is.
pub(super) fn listen(dir: &std::path::Path, name: &str) -> io::Result<UnixListener> {
    let directory = std::fs::File::open(dir)?;
    let path = dir.join(name);
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
