//! Starting containers and execs: from a call to a running program.
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::memfd::MFdFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seccompiler::sock_filter;

use super::child::{self, Common, Who};
use super::container::{Container, Output, Pipes, pipes};
use super::holder::{can_look_from_outside, processes_of};
use super::log::{LogWriter, Stream};
use super::poller::{Source, Token};
use super::process::Streams;
use super::protocol::{ExecLaunch, Launch, Message, ProcessPlan, Refusal, Reply};
use super::record::StartRecord;
use super::report::{self, Heard, Report, Reports};
use super::root::Prepared;
use super::server::{Asker, Failed, Shim, note};
use crate::kernel::passage::{NO_SESSION, Slip};
use crate::kernel::process::{CloneOptions, filter_from_bytes, pidfd_open, spawn};
use crate::kernel::wait::End;
use crate::runtime::identity::Identity;
use crate::runtime::{ContainerStatus, Started, Step, StepError};

/// A process on its way to its program.
#[derive(Debug)]
pub(super) struct Birth {
    /// Becomes the program, or sends it through its gate and ends.
    pid: Pid,
    token: Token,
    reports: Reports,
    /// Its end of the channel is closed.
    silent: bool,
    asker: Asker,
    kind: Kind,
    failure: Option<StepError>,
    terminal: Option<OwnedFd>,
    identity: Option<Identity>,
    /// Where there is a gate: who came out of it.
    slip: Option<Slip>,
    /// Who came out of it has ended before it was known that it is the program.
    ended: Option<End>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Container { id: String },
    Exec,
}

/// One more process in a container.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) pid: Pid,
    pub(super) asker: Asker,
}

impl Exec {
    /// Kills it and what it has started in its session.
    fn kill(&self) {
        let _ = kill(Pid::from_raw(-self.pid.as_raw()), Signal::SIGKILL);
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

fn filters_from(fds: Vec<OwnedFd>) -> Result<Vec<Vec<sock_filter>>, StepError> {
    let fail = |cause: String| StepError::other(Step::Seccomp, "filter", cause);
    fds.into_iter()
        .map(|fd| {
            // Other shims may read the same file now: its position is not this one's to move.
            let file = std::fs::File::from(fd);
            let length = file.metadata().map_err(|e| fail(e.to_string()))?.len();
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, 0)
                .map_err(|e| fail(e.to_string()))?;
            filter_from_bytes(&bytes).ok_or_else(|| fail("is cut off".to_owned()))
        })
        .collect()
}

/// Bytes as a descriptor that can be sent.
pub(crate) fn bytes_as_fd(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = nix::sys::memfd::memfd_create(c"davit", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    std::io::Write::write_all(&mut file, bytes)?;
    Ok(file.into())
}

impl Shim {
    /// Starts a container; the answer comes when its program runs or cannot.
    pub(super) fn start(&mut self, asker: Asker, launch: Launch, fds: Vec<OwnedFd>) {
        if self.find(&launch.id).is_some() {
            let refusal = Refusal::WrongState("exists already; remove it first".to_owned());
            return self.reply(asker, Err(refusal));
        }
        let (id, group) = (launch.id.clone(), launch.group.clone());
        if let Err(error) = self.try_start(asker, launch, fds) {
            let _ = self.cgroups.remove(&group);
            let _ = self.records.remove_container(&id);
            self.reply(asker, Err(Refusal::Step(error)));
        }
    }

    fn try_start(
        &mut self,
        asker: Asker,
        launch: Launch,
        fds: Vec<OwnedFd>,
    ) -> Result<(), StepError> {
        let filters = filters_from(fds)?;
        self.cgroups.create(&launch.group)?;
        self.cgroups.limit(&launch.group, &launch.resources)?;
        if let Some(rules) = &launch.device_rules {
            self.cgroups.allow_devices(&launch.group, rules)?;
        }
        let log = LogWriter::open(launch.log.clone())
            .map_err(|e| StepError::io(Step::Stdio, launch.log.path.display().to_string(), &e))?;
        let mount_point = launch.bundle.join("rootfs");
        std::fs::create_dir_all(&mount_point)
            .map_err(|e| StepError::io(Step::Record, mount_point.display().to_string(), &e))?;
        let (streams, ends) = if launch.process.terminal {
            (None, None)
        } else {
            let (streams, ends) = pipes(launch.process.stdin)?;
            (Some(streams), Some(ends))
        };
        let mut namespaces = CloneFlags::CLONE_NEWNS;
        namespaces.set(CloneFlags::CLONE_NEWPID, launch.own_pid_namespace);
        let kind = Kind::Container {
            id: launch.id.clone(),
        };
        let view = self.cgroups.view(&launch.group);
        let into = self.neighbours(&launch)?;
        let (processes, into) = match into {
            Some((processes, target)) => (processes, Some(target)),
            None => (None, None),
        };
        let prepared = Prepared {
            shared_memory: self.sandbox.shared_memory()?,
            cgroup_view: &view,
            processes,
        };
        let born = self.give_birth(
            &launch.group,
            streams,
            &filters,
            namespaces,
            into.as_ref(),
            |common| child::first_process(common, &launch, prepared),
        )?;
        let (stdin, outputs) = self.watch_pipes(ends)?;
        let pid = born.pid;
        self.expect(born, asker, kind);
        self.containers.push(Container {
            launch,
            filters,
            pid,
            identity: None,
            pidfd: None,
            status: ContainerStatus::Starting,
            outputs,
            log,
            stdin,
            removers: Vec::new(),
        });
        Ok(())
    }

    /// Where the container is born among others: one of them, and what shows them all, if that can be had from outside.
    fn neighbours(&self, launch: &Launch) -> Result<Option<(Option<OwnedFd>, OwnedFd)>, StepError> {
        if launch.own_pid_namespace || self.begin.sandbox.host_pid {
            return Ok(None);
        }
        let failed = |cause: &str| StepError::other(Step::Namespaces, "pid", cause);
        let Some(id) = &launch.among else {
            let holder = self.sandbox.holder.as_ref().filter(|holder| !holder.ended);
            let holder = holder.ok_or_else(|| failed("the pod's pid namespace is gone"))?;
            let target = holder.pidfd.try_clone();
            let target = target.map_err(|e| StepError::io(Step::Namespaces, "pid", &e))?;
            return Ok(Some((Some(holder.processes()?), target)));
        };
        let other = self.find(id).filter(|other| other.is_running());
        let other = other.ok_or_else(|| failed("the container to live among is not running"))?;
        let fail = |errno| StepError::os(Step::Namespaces, id.as_str(), errno);
        let processes = can_look_from_outside()
            .then(|| processes_of(other.pid))
            .transpose()
            .map_err(fail)?;
        Ok(Some((processes, pidfd_open(other.pid).map_err(fail)?)))
    }

    fn watch_pipes(
        &mut self,
        ends: Option<Pipes>,
    ) -> Result<(Option<OwnedFd>, Vec<Output>), StepError> {
        let Some(ends) = ends else {
            return Ok((None, Vec::new()));
        };
        let fail = |errno| StepError::os(Step::Stdio, "pipe", errno);
        let outputs = vec![
            Output::watch(ends.stdout, Stream::Stdout, &mut self.poller).map_err(fail)?,
            Output::watch(ends.stderr, Stream::Stderr, &mut self.poller).map_err(fail)?,
        ];
        Ok((ends.stdin, outputs))
    }

    /// Starts one more process in a container.
    pub(super) fn exec(&mut self, asker: Asker, exec: ExecLaunch, fds: Vec<OwnedFd>) {
        let refusal = match self.find(&exec.id) {
            None => Some(Refusal::NotFound),
            Some(container) if !container.is_running() => {
                Some(Refusal::WrongState("is not running".to_owned()))
            }
            Some(_) => self.try_exec(asker, exec, fds).err().map(Refusal::Step),
        };
        if let Some(refusal) = refusal {
            self.reply(asker, Err(refusal));
        }
    }

    fn try_exec(
        &mut self,
        asker: Asker,
        exec: ExecLaunch,
        fds: Vec<OwnedFd>,
    ) -> Result<(), StepError> {
        let gone = || StepError::other(Step::Namespaces, exec.id.as_str(), "the container is gone");
        let container = self.find(&exec.id).ok_or_else(gone)?;
        let target = pidfd_open(container.pid)
            .map_err(|errno| StepError::os(Step::Namespaces, exec.id.as_str(), errno))?;
        // In the host's there is nothing to hide from whom sees all of the host.
        let into = (!self.begin.sandbox.host_pid).then_some(&target);
        let group = container.launch.group.clone();
        let mut env = container.launch.process.env.clone();
        env.extend(exec.env);
        let base = &container.launch.process;
        let plan = ProcessPlan {
            args: exec.args,
            env,
            cwd: exec.cwd.unwrap_or_else(|| base.cwd.clone()),
            terminal: exec.terminal,
            stdin: true,
            ..base.clone()
        };
        let who = match (&exec.user, &container.identity) {
            (Some(user), _) => Who::Asked(user),
            (None, Some(identity)) => Who::Known(identity),
            (None, None) => Who::Asked(&base.user),
        };
        let filters = container.filters.clone();
        let mut fds = fds.into_iter();
        let streams = match (fds.next(), fds.next(), fds.next()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Some(Streams {
                stdin,
                stdout,
                stderr,
            }),
            _ if exec.terminal => None,
            _ => {
                return Err(StepError::other(
                    Step::Stdio,
                    "streams",
                    "did not come along",
                ));
            }
        };
        let flags = CloneFlags::empty();
        let born = self.give_birth(&group, streams, &filters, flags, into, |common| {
            child::further_process(common, &plan, &who, &target)
        })?;
        self.execs.push(Exec {
            pid: born.pid,
            asker,
        });
        self.expect(born, asker, Kind::Exec);
        Ok(())
    }

    /// Makes the process; `body` runs in it. With `into`, the program is born in the pid namespace of that process.
    fn give_birth(
        &self,
        group: &str,
        streams: Option<Streams>,
        filters: &[Vec<sock_filter>],
        namespaces: CloneFlags,
        into: Option<&OwnedFd>,
        body: impl FnOnce(&mut Common<'_>) -> Result<std::convert::Infallible, StepError>,
    ) -> Result<Born, StepError> {
        let fail = |object: &'static str| move |errno| StepError::os(Step::Clone, object, errno);
        let mut entrance = self.cgroups.entrance(group)?;
        let unified = entrance.unified.take();
        let (reporter, reports) = report::channel().map_err(fail("channel"))?;
        let slip = into
            .map(|_| Slip::new())
            .transpose()
            .map_err(fail("slip"))?;
        let common = Common {
            entrance,
            streams,
            filters,
            reporter,
            into: into.zip(slip.as_ref()),
        };
        let options = CloneOptions {
            namespaces: namespaces.bits() as u64,
            cgroup: unified.as_ref().map(AsFd::as_fd),
        };
        let pid =
            spawn(&self.proof, options, || child::run(common, body)).map_err(fail("clone3"))?;
        Ok(Born { pid, reports, slip })
    }

    fn expect(&mut self, born: Born, asker: Asker, kind: Kind) {
        match self.poller.watch(&born.reports, Source::Birth) {
            Ok(token) => self.births.push(Birth {
                pid: born.pid,
                token,
                reports: born.reports,
                silent: false,
                asker,
                kind,
                failure: None,
                terminal: None,
                identity: None,
                slip: born.slip,
                ended: None,
            }),
            Err(errno) => {
                note(&format!("process {} is not watched: {errno}", born.pid));
                let _ = kill(born.pid, Signal::SIGKILL);
            }
        }
    }

    /// A process being set up reports.
    pub(super) fn hear_birth(&mut self, token: Token) {
        if let Some(index) = self.births.iter().position(|birth| birth.token == token) {
            self.hear_birth_at(index);
        }
    }

    /// A process has ended: if it was being set up, hears what it said.
    pub(super) fn hear_birth_of(&mut self, pid: Pid) {
        if let Some(index) = self.births.iter().position(|birth| birth.pid == pid) {
            self.hear_birth_at(index);
        }
    }

    fn hear_birth_at(&mut self, index: usize) {
        let Some(birth) = self.births.get_mut(index).filter(|birth| !birth.silent) else {
            return;
        };
        loop {
            match birth.reports.hear() {
                Heard::Nothing => return,
                Heard::Report(Report::Note(text), _) => note(&text),
                Heard::Report(Report::Terminal, fd) => birth.terminal = fd,
                Heard::Report(Report::Identity(identity), _) => birth.identity = Some(identity),
                Heard::Report(Report::Processes, _) => {}
                Heard::Report(Report::Failed(error), _) => birth.failure = Some(error),
                Heard::Closed => break,
            }
        }
        birth.silent = true;
        self.poller.forget(&birth.reports, birth.token);
        // Whether the program came out of the gate is known when who sent it in has ended.
        if birth.slip.is_none() {
            let birth = self.births.remove(index);
            self.born(birth);
        }
    }

    fn born(&mut self, birth: Birth) {
        match birth.kind.clone() {
            Kind::Container { id } => self.container_born(birth, &id),
            Kind::Exec => self.exec_born(birth),
        }
    }

    /// A process has ended: whether it was one that is being set up behind a gate, or sets one up.
    pub(super) fn set_up_ended(&mut self, pid: Pid, end: End) -> bool {
        let came_out = |birth: &Birth| birth.slip.as_ref().and_then(Slip::pid);
        let outside = |birth: &Birth| birth.pid == pid && birth.slip.is_some();
        if let Some(index) = self.births.iter().position(outside) {
            let birth = self.births.remove(index);
            self.gate_closed(birth, end);
            return true;
        }
        let mut births = self.births.iter_mut();
        match births.find(|birth| came_out(birth) == Some(pid)) {
            Some(birth) => birth.ended = Some(end),
            None => return false,
        }
        true
    }

    /// Who sent a program through its gate has ended, and says by that how it went.
    fn gate_closed(&mut self, mut birth: Birth, end: End) {
        if !birth.silent {
            self.poller.forget(&birth.reports, birth.token);
        }
        let program = birth.slip.take().and_then(|slip| slip.pid());
        if birth.failure.is_none() {
            birth.failure = failure_behind(end, program, self.program_of(&birth));
        }
        let (outside, ended) = (birth.pid, birth.ended.take());
        match program {
            // Not reaped yet, so the number is still this process's.
            Some(pid) if birth.failure.is_some() && ended.is_none() => {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Some(pid) => {
                birth.pid = pid;
                for exec in self.execs.iter_mut().filter(|exec| exec.pid == outside) {
                    exec.pid = pid;
                }
                let mut containers = self.containers.iter_mut();
                if let Some(container) = containers.find(|c| c.pid == outside) {
                    container.pid = pid;
                }
            }
            None => {}
        }
        let runs = birth.failure.is_none().then_some(birth.pid);
        self.born(birth);
        if let (Some(pid), Some(end)) = (runs, ended) {
            self.ended(pid, end);
        }
    }

    /// What a process being set up is to execute, for messages.
    fn program_of(&self, birth: &Birth) -> String {
        let Kind::Container { id } = &birth.kind else {
            return "command".to_owned();
        };
        let args = self.find(id).map(|c| &c.launch.process.args);
        args.and_then(|args| args.first().cloned())
            .unwrap_or_default()
    }

    /// Kills a command, and whatever sets it up or was set up meanwhile.
    pub(super) fn kill_exec(&self, exec: &Exec) {
        exec.kill();
        let births = self.births.iter().filter(|birth| birth.pid == exec.pid);
        for pid in births.filter_map(|birth| birth.slip.as_ref()?.pid()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn container_born(&mut self, birth: Birth, id: &str) {
        let Some(index) = self.containers.iter().position(|c| c.launch.id == id) else {
            return;
        };
        if let Some(error) = birth.failure {
            let mut container = self.containers.remove(index);
            container.finish_output(&mut self.poller, &mut self.followers);
            return self.forget_failed(container, birth.asker, error);
        }
        let Self {
            containers, poller, ..
        } = self;
        let Some(container) = containers.get_mut(index) else {
            return;
        };
        if let Some(terminal) = birth.terminal {
            match Output::watch(terminal, Stream::Stdout, poller) {
                Ok(output) => container.outputs.push(output),
                Err(errno) => note(&format!("{id}: its terminal is not watched: {errno}")),
            }
        }
        container.identity = birth.identity;
        if let Err(errno) = container.watch_end(poller) {
            note(&format!("{id}: its end is not watched: {errno}"));
        }
        let started = Started {
            pid: container.pid.as_raw(),
            started_at: Timestamp::now(),
        };
        container.status = ContainerStatus::Running {
            pid: started.pid,
            started_at: started.started_at,
        };
        let record = StartRecord {
            state: container.state(),
            group: container.launch.group.clone(),
        };
        if let Err(error) = self.records.write_start(&record) {
            note(&format!("{id}: its start is not written down: {error}"));
        }
        self.reply(birth.asker, Ok(Reply::Started(started)));
    }

    /// Takes away what was made for a container that never ran, and says why it did not when that is done. Its process is
    /// ending and is reaped as any other.
    fn forget_failed(&mut self, container: Container, asker: Asker, error: StepError) {
        if let Err(error) = self.records.remove_container(&container.launch.id) {
            note(&format!("{}: {error}", container.launch.id));
        }
        self.failed.push(Failed {
            group: container.launch.group,
            tell: Some((asker, error)),
            tries: 0,
        });
        self.try_removals();
    }

    fn exec_born(&mut self, birth: Birth) {
        let (token, number) = birth.asker;
        match birth.failure {
            Some(error) => {
                self.execs.retain(|exec| exec.pid != birth.pid);
                self.reply(birth.asker, Err(Refusal::Step(error)));
            }
            None => {
                let fds = birth.terminal.into_iter().collect();
                let message = Message::Reply {
                    number,
                    result: Ok(Reply::ExecStarted),
                };
                self.say(token, &message, fds);
            }
        }
    }
}

#[derive(Debug)]
struct Born {
    pid: Pid,
    reports: Reports,
    slip: Option<Slip>,
}

/// Why a program does not run although it was sent through its gate; none if it runs.
fn failure_behind(end: End, program: Option<Pid>, name: String) -> Option<StepError> {
    let failed = |cause: String| Some(StepError::other(Step::Clone, name.as_str(), cause));
    match end {
        End::Exited(0) if program.is_some() => None,
        End::Exited(0) => failed("was never born".to_owned()),
        End::Exited(NO_SESSION) => failed("cannot lead a session on its terminal".to_owned()),
        End::Exited(code) if program.is_some() => {
            Some(StepError::os(Step::Exec, name, Errno::from_raw(code)))
        }
        End::Exited(code) => Some(StepError::os(Step::Clone, name, Errno::from_raw(code))),
        End::Signaled(signal) => failed(format!("was being set up when signal {signal} came")),
    }
}
