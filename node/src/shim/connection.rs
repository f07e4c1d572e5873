//! Somebody who talks to the shim.
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::poller::{Poller, Token};
use super::protocol::{Call, Decoder, Message, encode};
use crate::kernel::socket;

/// Most bytes that wait for somebody who does not read.
const MAX_QUEUE: usize = 8 << 20;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) token: Token,
    decoder: Decoder,
    queue: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct Gone;

/// Whether the other side is run by the user that runs this process.
pub(super) fn is_trusted(socket: impl AsFd) -> bool {
    getsockopt(&socket.as_fd(), PeerCredentials).is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

impl Connection {
    /// Talks over a socket that `poller` watches as `token`.
    pub(super) fn new(socket: OwnedFd, token: Token) -> Self {
        Self {
            socket,
            token,
            decoder: Decoder::default(),
            queue: VecDeque::new(),
        }
    }

    /// The calls that have arrived.
    pub(super) fn receive(&mut self) -> Result<Vec<(Call, Vec<OwnedFd>)>, Gone> {
        let mut buffer = [0; 32 << 10];
        let mut calls = Vec::new();
        loop {
            match socket::receive(&self.socket, &mut buffer, &mut self.decoder.fds) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(calls),
                Err(_) | Ok(0) if calls.is_empty() => return Err(Gone),
                Err(_) | Ok(0) => return Ok(calls),
                Ok(length) => {
                    self.decoder.feed(buffer.get(..length).unwrap_or_default());
                    while let Some(call) = self.decoder.next().map_err(|_| Gone)? {
                        calls.push(call);
                    }
                }
            }
        }
    }

    /// Says something now, or as soon as the other side reads.
    pub(super) fn say(
        &mut self,
        poller: &Poller,
        message: &Message,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Gone> {
        let bytes = encode(message, fds.len()).map_err(|_| Gone)?;
        let waiting: usize = self.queue.iter().map(|out| out.bytes.len()).sum();
        if waiting + bytes.len() > MAX_QUEUE {
            return Err(Gone);
        }
        self.queue.push_back(Outgoing {
            bytes,
            sent: 0,
            fds,
        });
        self.flush(poller)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, poller: &Poller) -> Result<(), Gone> {
        while let Some(out) = self.queue.front_mut() {
            let rest = out.bytes.get(out.sent..).unwrap_or_default();
            match socket::send(&self.socket, rest, &out.fds) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    return poller
                        .watch_room(&self.socket, self.token, true)
                        .map_err(|_| Gone);
                }
                Err(_) => return Err(Gone),
                Ok(count) => {
                    out.fds.clear();
                    out.sent += count;
                    if out.sent == out.bytes.len() {
                        self.queue.pop_front();
                    }
                }
            }
        }
        poller
            .watch_room(&self.socket, self.token, false)
            .map_err(|_| Gone)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
