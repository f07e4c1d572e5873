//! The accept loop.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::complaint::Complaint;
use crate::seats::{Answer, Seats, Source};
use crate::{Bounds, Connection};

/// After an accept that failed for want of something: others have to give it back first.
const PAUSE: Duration = Duration::from_millis(100);

/// What can be accepted from.
pub trait Listen: Send + Sync {
    /// What a connection is.
    type Stream: Send;

    /// The next connection, from where it came, and to which address of this machine.
    fn accept(&self) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send;
}

/// A connection as the system hands it over.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub stream: S,
    /// The other end and this one; `None` for sockets of this machine's file system.
    pub ends: Option<(SocketAddr, IpAddr)>,
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Accepted<TcpStream>> {
        let (stream, peer) = Self::accept(self).await?;
        let own = stream.local_addr()?.ip().to_canonical();
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Accepted {
            stream,
            ends: Some((peer, own)),
        })
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Accepted<UnixStream>> {
        let (stream, _) = Self::accept(self).await?;
        Ok(Accepted { stream, ends: None })
    }
}

/// Whether a client (first) that came to an address of this machine (second) is served at all.
type Admit = Box<dyn Fn(IpAddr, IpAddr) -> bool + Send + Sync>;

/// Accepts connections within bounds.
pub struct Acceptor<L> {
    name: &'static str,
    listener: L,
    seats: Arc<Seats>,
    admit: Option<Admit>,
    paused: Option<tokio::time::Instant>,
    trouble: Complaint,
    crowd: Complaint,
}

impl<L> std::fmt::Debug for Acceptor<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("name", &self.name)
            .field("bounds", &self.seats.bounds())
            .finish_non_exhaustive()
    }
}

impl<L: Listen> Acceptor<L> {
    /// Accepts from `listener`; the log calls its connections those of `name`.
    pub fn new(name: &'static str, listener: L, bounds: Bounds) -> Self {
        Self {
            name,
            listener,
            seats: Arc::new(Seats::new(bounds)),
            admit: None,
            paused: None,
            trouble: Complaint::default(),
            crowd: Complaint::default(),
        }
    }

    /// Serves only clients of whom `admit` says so, by their address and the address of this machine that they came to.
    /// Others are cut off before they take anybody's place.
    #[must_use]
    pub fn only(mut self, admit: impl Fn(IpAddr, IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.admit = Some(Box::new(admit));
        self
    }

    /// Where it listens.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// The next connection that stays.
    ///
    /// # Guarantees
    /// It never fails and may be dropped while it waits. One that fails for want of descriptors or memory is followed by a pause and makes an idle
    /// connection go; each kind of trouble is one line of the log a minute.
    pub async fn next(&mut self) -> Connection<L::Stream> {
        loop {
            if let Some(until) = self.paused {
                tokio::time::sleep_until(until).await;
                self.paused = None;
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    if let Some(connection) = self.seat(accepted) {
                        return connection;
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn seat(&mut self, accepted: Accepted<L::Stream>) -> Option<Connection<L::Stream>> {
        let Accepted { stream, ends } = accepted;
        if let (Some(admit), Some((peer, own))) = (&self.admit, ends)
            && !admit(peer.ip(), own)
        {
            return None;
        }
        let source = match ends {
            Some((peer, own)) if !peer.ip().is_loopback() && peer.ip() != own => {
                Source::Address(peer.ip())
            }
            _ => Source::Own,
        };
        let now = Instant::now();
        let (seat, crowded) = match self.seats.take(source, now) {
            Answer::Seated(seat) => (Some(seat), None),
            Answer::InsteadOf(seat, loser) => (Some(seat), Some((loser, "the idlest is closed"))),
            Answer::Refused => (None, Some((source, "new ones are refused"))),
        };
        if let Some((source, what)) = crowded
            && let Some(times) = self.crowd.happened(now)
        {
            let Bounds { total, per_source } = self.seats.bounds();
            tracing::warn!(
                listener = self.name, %source, times, total, per_source,
                "too many connections: {what}"
            );
        }
        let peer = ends.map(|(peer, _)| peer);
        Some(Connection::new(
            stream,
            peer,
            seat?,
            Arc::clone(&self.seats),
        ))
    }

    fn failed(&mut self, error: &io::Error) {
        if is_of_one_connection(error) {
            tracing::debug!(listener = self.name, %error, "a connection ended before it began");
            return;
        }
        let now = Instant::now();
        if let Some(times) = self.trouble.happened(now) {
            tracing::warn!(
                listener = self.name, times, %error,
                "no connection can be accepted for the moment"
            );
        }
        if is_want_of_descriptors(error) {
            self.seats.make_room();
        }
        self.paused = Some(tokio::time::Instant::now() + PAUSE);
    }
}

/// What accept(2) reports of a connection that waited, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EINTR
                | Errno::ENETDOWN
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::ENETUNREACH
                | Errno::ENOTCONN
        )
    )
}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE)
    )
}
