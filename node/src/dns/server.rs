//! The sockets of the name server. Only this machine and its pods are answered.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use davit_listen::{Acceptor, Bounds};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::packets::Packets;
use super::resolver::Resolver;
use super::upstream::Transport;

/// Questions that are worked on at once; more are dropped, and asked again by their clients.
const MOST_QUESTIONS: usize = 1024;
/// How many parts of the process's descriptors there are for each that connections may take, and most of them, in all and
/// from one pod.
const PARTS: u64 = 32;
const MOST_CONNECTIONS: usize = 256;
const OF_A_POD: usize = 32;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// The longest question over UDP; names have at most 255 bytes.
const QUESTION_BYTES: usize = 4096;
/// Ports that are tried to find one that is free for both transports.
const TRIES: usize = 16;

/// Whether a client (first) that sent to an address of this node (second) belongs to this node.
pub(crate) type IsNear = Arc<dyn Fn(IpAddr, IpAddr) -> bool + Send + Sync>;

/// The name server of a node.
pub(crate) struct NameServer {
    packets: Arc<Packets>,
    acceptor: Acceptor<TcpListener>,
    resolver: Resolver,
    is_near: IsNear,
}

impl std::fmt::Debug for NameServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameServer")
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

impl NameServer {
    /// Takes a port, the same for both transports, on every address of the node: the one of `last` time, to which the rules
    /// still lead, or one that is free.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn open(
        resolver: Resolver,
        is_near: IsNear,
        last: Option<u16>,
    ) -> io::Result<Self> {
        let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
        for port in last.into_iter().chain(std::iter::repeat_n(0, TRIES)) {
            let packets = match Packets::bind(port).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                packets => packets?,
            };
            match listen(packets.port()?).await {
                Ok(listener) => {
                    let bounds = Bounds::share(PARTS).at_most(MOST_CONNECTIONS);
                    let near = Arc::clone(&is_near);
                    let acceptor =
                        Acceptor::new("the name server", listener, bounds.each(OF_A_POD))
                            .only(move |peer, own| near(peer, own));
                    return Ok(Self {
                        packets: Arc::new(packets),
                        acceptor,
                        resolver,
                        is_near,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The port.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn port(&self) -> io::Result<u16> {
        self.packets.port()
    }

    /// Answers until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let questions = Arc::new(Semaphore::new(MOST_QUESTIONS));
        let mut buffer = vec![0; QUESTION_BYTES];
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                received = self.packets.receive(&mut buffer) => match received {
                    Ok((count, route)) => {
                        let peer = route.peer.ip().to_canonical();
                        if !(self.is_near)(peer, route.own()) {
                            continue;
                        }
                        let Ok(permit) = Arc::clone(&questions).try_acquire_owned() else {
                            continue;
                        };
                        let question = buffer.get(..count).unwrap_or_default().to_vec();
                        let (packets, resolver) = (Arc::clone(&self.packets), self.resolver.clone());
                        let shutdown = shutdown.clone();
                        tasks.spawn(async move {
                            let _permit = permit;
                            let answered = resolver.answer(&question, Transport::Udp);
                            let answered = shutdown.run_until_cancelled(answered).await;
                            if let Some(Some(answer)) = answered
                                && let Err(error) = packets.send(&answer, &route)
                            {
                                tracing::debug!(%error, peer = %route.peer, "an answer about a name was not sent");
                            }
                        });
                    }
                    Err(error) => tracing::debug!(%error, "a question about a name was not received"),
                },
                stream = self.acceptor.next() => {
                    let (resolver, shutdown) = (self.resolver.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        shutdown.run_until_cancelled(converse(stream, resolver)).await
                    });
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_no_ipv6) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Answers the questions of a connection, one after the other.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, resolver: Resolver) {
    loop {
        let Ok(Some(question)) = tokio::time::timeout(IDLE, next(&mut stream)).await else {
            return;
        };
        let Some(answer) = resolver.answer(&question, Transport::Tcp).await else {
            return;
        };
        let Ok(size) = u16::try_from(answer.len()) else {
            return;
        };
        let bytes = [&size.to_be_bytes()[..], &answer].concat();
        let sent = tokio::time::timeout(IDLE, stream.write_all(&bytes)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let size = stream.read_u16().await.ok()?;
    let mut question = vec![0; size.into()];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}
