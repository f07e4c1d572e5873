//! A way for pods to an API server that listens on a loopback address: connections from this machine and its pods are
//! passed on, those from anywhere else are not.
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use davit_listen::{Acceptor, Bounds, Connection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::networks::{UpNetworks, is_near};

/// How many parts of the process's descriptors there are for each that pods may take: a connection has two here, and one
/// in an API server of the same process.
const PARTS: u64 = 8;
/// Most connections of one pod. Clients share one for all their requests.
const OF_A_POD: usize = 256;
/// How long the API server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one direction goes on after the other has ended.
const LINGER: Duration = Duration::from_secs(10);

/// Passes connections on.
pub(super) struct ApiRelay {
    acceptor: Acceptor<TcpListener>,
    server: SocketAddr,
}

impl ApiRelay {
    /// Takes a free port on every address of this node, of both families where there are two.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn open(server: SocketAddr, up: UpNetworks) -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => listener,
            Err(_no_ipv6) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
        };
        let bounds = Bounds::share(PARTS).each(OF_A_POD);
        // A foreign client with a borrowed address gets no answer, so the address can be trusted once there is a connection.
        let acceptor = Acceptor::new("the API server's Service", listener, bounds)
            .only(move |peer, own| is_near(&up, peer, own));
        Ok(Self { acceptor, server })
    }

    /// The port.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.acceptor.listener().local_addr()?.port())
    }

    /// Passes connections on until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        while let Some(pod) = shutdown.run_until_cancelled(self.acceptor.next()).await {
            let (server, shutdown) = (self.server, shutdown.clone());
            connections.spawn(async move {
                let passed = shutdown.run_until_cancelled(pass(pod, server)).await;
                if let Some(Err(error)) = passed {
                    tracing::debug!(%error, "a connection to the API server broke off");
                }
            });
        }
        connections.close();
        connections.wait().await;
    }
}

/// Until both directions have ended, or one has and the other does not follow.
async fn pass(pod: Connection<TcpStream>, server: SocketAddr) -> io::Result<()> {
    let server = tokio::time::timeout(CONNECT, TcpStream::connect(server)).await??;
    pod.get_ref().set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_pod, to_pod) = tokio::io::split(pod);
    let (from_server, to_server) = server.into_split();
    let mut out = std::pin::pin!(direction(from_pod, to_server));
    let mut back = std::pin::pin!(direction(from_server, to_pod));
    tokio::select! {
        ended = &mut out => {
            ended?;
            tokio::time::timeout(LINGER, back).await?
        }
        ended = &mut back => {
            ended?;
            tokio::time::timeout(LINGER, out).await?
        }
    }
}

/// Carries bytes until their end, which it passes on.
async fn direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::agent::networks::Up;

    #[tokio::test]
    async fn passes_on_what_comes_from_near() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let up = UpNetworks::default();
        let relay = ApiRelay::open(server.local_addr().unwrap(), up.clone())
            .await
            .unwrap();
        let (far, own): (IpAddr, IpAddr) = ([10, 42, 0, 9].into(), [10, 42, 0, 1].into());
        assert!(!is_near(&up, far, own));
        let mut pods = Up::default();
        pods.network.subnets = vec!["10.42.0.0/16".parse().unwrap()];
        up.write().insert("default".into(), pods);
        assert!(is_near(&up, far, own));

        let port = relay.port().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(relay.run(shutdown.clone()));
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        shutdown.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_pod_that_says_nothing_is_let_go_when_the_server_has_had_enough() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let relay = ApiRelay::open(address, UpNetworks::default())
            .await
            .unwrap();
        let port = relay.port().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(relay.run(shutdown.clone()));
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        drop(accepted);
        // The end comes through, and so does a reset once the relay has closed its own end.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let refused = async {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(120), refused).await;
        assert!(refused.is_ok(), "the pod is still connected");
        shutdown.cancel();
        running.await.unwrap();
    }
}
