//! Waiting for many descriptors at once.
use std::collections::HashMap;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Names a watched descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Token(u64);

/// What a watched descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Children have ended.
    Signals,
    /// Somebody connects.
    Listener,
    /// It is time to try again what failed.
    Retry,
    /// Somebody who is connected says something or can be told more.
    Connection,
    /// A process being set up reports.
    Birth,
    /// A container's first process has ended.
    End,
    /// A container has written something.
    Output,
    /// Somebody who reads a container's output along takes more, or is gone.
    Follower,
}

/// Waits for descriptors to become ready.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
    next: u64,
    sources: HashMap<Token, Source>,
}

impl Poller {
    /// Watches nothing yet.
    pub(super) fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            epoll,
            next: 0,
            sources: HashMap::new(),
        })
    }

    /// Watches a descriptor for something to read.
    pub(super) fn watch(&mut self, fd: impl AsFd, source: Source) -> nix::Result<Token> {
        let token = Token(self.next);
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.0))?;
        self.next += 1;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Watches a pipe that is written to for nothing but the other side's end.
    pub(super) fn watch_end(&mut self, fd: impl AsFd, source: Source) -> nix::Result<Token> {
        let token = Token(self.next);
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::empty(), token.0))?;
        self.next += 1;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Watches such a pipe for room as well, or no longer.
    pub(super) fn wait_for_room(&self, fd: impl AsFd, token: Token, room: bool) -> nix::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLOUT, room);
        self.epoll.modify(fd, &mut EpollEvent::new(flags, token.0))
    }

    /// Does not look at a descriptor until [`Poller::resume`]. Its end would be reported otherwise, again and again.
    pub(super) fn pause(&self, fd: impl AsFd) {
        // One that is not looked at is what was wanted.
        let _ = self.epoll.delete(fd);
    }

    /// Watches a descriptor again for something to read.
    pub(super) fn resume(&self, fd: impl AsFd, token: Token) -> nix::Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.0))
    }

    /// Watches it for room to write as well, or no longer.
    pub(super) fn watch_room(&self, fd: impl AsFd, token: Token, room: bool) -> nix::Result<()> {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, room);
        self.epoll.modify(fd, &mut EpollEvent::new(flags, token.0))
    }

    /// Stops watching it; to be called before it is closed.
    pub(super) fn forget(&mut self, fd: impl AsFd, token: Token) {
        // One that is not watched is what was wanted.
        let _ = self.epoll.delete(fd);
        self.sources.remove(&token);
    }

    /// Waits until something is ready.
    pub(super) fn wait(&self) -> nix::Result<Vec<(Token, Source)>> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        let ready = events.iter().take(count).map(|event| Token(event.data()));
        Ok(ready
            .filter_map(|t| self.sources.get(&t).map(|source| (t, *source)))
            .collect())
    }

    /// Whether it is still watched: handling one descriptor may have closed another that was ready as well.
    pub(super) fn knows(&self, token: Token) -> bool {
        self.sources.contains_key(&token)
    }
}
