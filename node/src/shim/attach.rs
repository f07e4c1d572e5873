//! Those who read along what a container writes, and who write to it.
//!
//! A follower that does not keep up holds up the container's output, as a reader of a pipe does; one that is gone does
//! not.
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::write;

use super::container::Container;
use super::log::Stream;
use super::poller::{Poller, Source, Token};
use super::protocol::{AttachPlan, Message, Refusal, Reply};
use super::server::{Asker, Shim};
use crate::runtime::{Step, StepError};

/// Somebody who reads one stream of a container along.
#[derive(Debug)]
pub(super) struct Follower {
    id: String,
    stream: Stream,
    /// A pipe that does not block.
    to: OwnedFd,
    token: Token,
    /// What it has not taken yet.
    waiting: Vec<u8>,
    /// Nothing more comes.
    last: bool,
    gone: bool,
}

impl Follower {
    fn follows(&self, id: &str, stream: Stream) -> bool {
        self.id == id && self.stream == stream
    }

    fn is_done(&self) -> bool {
        self.gone || (self.last && self.waiting.is_empty())
    }

    /// Gives it bytes, behind those that wait.
    fn take(&mut self, bytes: &[u8], poller: &Poller) {
        let had = !self.waiting.is_empty();
        self.waiting.extend_from_slice(bytes);
        if !had {
            self.pass_on(poller);
        }
    }

    /// Passes on what waits, as far as it goes.
    fn pass_on(&mut self, poller: &Poller) {
        let mut passed = 0;
        while let Some(rest) = self.waiting.get(passed..).filter(|rest| !rest.is_empty()) {
            match write(&self.to, rest) {
                Ok(count) => passed += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.waiting.drain(..passed);
        let waits = !self.waiting.is_empty();
        self.gone |= poller.wait_for_room(&self.to, self.token, waits).is_err();
    }
}

/// All followers of a pod's containers.
#[derive(Debug, Default)]
pub(super) struct Followers(Vec<Follower>);

impl Followers {
    /// Gives bytes of a stream to those who follow it.
    pub(super) fn take(&mut self, id: &str, stream: Stream, bytes: &[u8], poller: &mut Poller) {
        for follower in self.0.iter_mut().filter(|f| f.follows(id, stream)) {
            follower.take(bytes, poller);
        }
        self.tidy(poller);
    }

    /// Whether one of them has to take something first.
    pub(super) fn hold_up(&self, id: &str, stream: Stream) -> bool {
        let mut all = self.0.iter().filter(|f| f.follows(id, stream));
        all.any(|follower| !follower.waiting.is_empty())
    }

    /// A stream has ended: they are closed when they have taken all.
    pub(super) fn end(&mut self, id: &str, stream: Stream, poller: &mut Poller) {
        for follower in self.0.iter_mut().filter(|f| f.follows(id, stream)) {
            follower.last = true;
        }
        self.tidy(poller);
    }

    /// One has room, or is gone; returns the container whose output may go on.
    fn wake(&mut self, token: Token, poller: &mut Poller) -> Option<String> {
        let follower = self.0.iter_mut().find(|f| f.token == token)?;
        if follower.waiting.is_empty() {
            // Nothing was waited for but its end.
            follower.gone = true;
        } else {
            follower.pass_on(poller);
        }
        let id = follower.id.clone();
        self.tidy(poller);
        Some(id)
    }

    fn tidy(&mut self, poller: &mut Poller) {
        self.0.retain(|follower| {
            if follower.is_done() {
                poller.forget(&follower.to, follower.token);
            }
            !follower.is_done()
        });
    }
}

impl Shim {
    /// A follower has room or is gone.
    pub(super) fn wake_follower(&mut self, token: Token) {
        let Self {
            containers,
            followers,
            poller,
            ..
        } = self;
        let Some(id) = followers.wake(token, poller) else {
            return;
        };
        if let Some(container) = containers.iter_mut().find(|c| c.launch.id == id) {
            container.go_on(poller, followers);
        }
    }

    /// Connects somebody with the streams of a running container.
    pub(super) fn attach(&mut self, asker: Asker, plan: &AttachPlan, fds: Vec<OwnedFd>) {
        let result = match self.find(&plan.id) {
            None => Err(Refusal::NotFound),
            Some(container) if !container.is_running() => {
                Err(Refusal::WrongState("is not running".to_owned()))
            }
            Some(container) => input_of(container).map_err(Refusal::Step),
        };
        let (input, terminal) = match result {
            Ok(found) => found,
            Err(refusal) => return self.reply(asker, Err(refusal)),
        };
        let mut fds = fds.into_iter();
        let wanted = [(plan.stdout, Stream::Stdout), (plan.stderr, Stream::Stderr)];
        for (_, stream) in wanted.iter().filter(|(wanted, _)| *wanted) {
            if let Some(to) = fds.next()
                && let Err(error) = self.follow(&plan.id, *stream, to)
            {
                return self.reply(asker, Err(Refusal::Step(error)));
            }
        }
        let message = Message::Reply {
            number: asker.1,
            result: Ok(Reply::Attached { terminal }),
        };
        self.say(asker.0, &message, input.into_iter().collect());
    }

    fn follow(&mut self, id: &str, stream: Stream, to: OwnedFd) -> Result<(), StepError> {
        let Some(container) = self.find(id) else {
            return Ok(());
        };
        if !container.outputs.iter().any(|output| output.is(stream)) {
            // The container has closed it: so is the follower's, by dropping it.
            return Ok(());
        }
        let token = self
            .poller
            .watch_end(&to, Source::Follower)
            .map_err(|errno| StepError::os(Step::Stdio, "pipe", errno))?;
        self.followers.0.push(Follower {
            id: id.to_owned(),
            stream,
            to,
            token,
            waiting: Vec::new(),
            last: false,
            gone: false,
        });
        Ok(())
    }

    /// Ends a container's standard input.
    pub(super) fn close_stdin(&mut self, id: &str) -> Result<Reply, Refusal> {
        let mut containers = self.containers.iter_mut();
        let container = containers.find(|container| container.launch.id == id);
        container.ok_or(Refusal::NotFound)?.stdin = None;
        Ok(Reply::Done)
    }
}

/// What leads to a container's input, and whether that is its terminal.
fn input_of(container: &Container) -> Result<(Option<OwnedFd>, bool), StepError> {
    let copy = |fd: &OwnedFd| {
        let copy = fd.as_fd().try_clone_to_owned();
        copy.map_err(|error| StepError::io(Step::Stdio, "standard input", &error))
    };
    if container.launch.process.terminal {
        let terminal = container.outputs.first();
        return Ok((terminal.map(|output| copy(output.fd())).transpose()?, true));
    }
    Ok((container.stdin.as_ref().map(copy).transpose()?, false))
}
