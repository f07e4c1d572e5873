//! A way for pods to an API server that listens on a loopback address: connections from this machine and its pods are
//! passed on, those from anywhere else are not.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::networks::{UpNetworks, is_near};

/// Passes connections on.
pub(super) struct ApiRelay {
    listener: TcpListener,
    server: SocketAddr,
    up: UpNetworks,
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
        Ok(Self {
            listener,
            server,
            up,
        })
    }

    /// The port.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Passes connections on until shutdown.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a pod's connection to the API server was not accepted");
                    continue;
                }
            };
            let own = stream
                .local_addr()
                .map(|address| address.ip().to_canonical());
            if !self.is_near(peer.ip().to_canonical(), own.ok()) {
                continue;
            }
            let (server, shutdown) = (self.server, shutdown.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    passed = pass(stream, server) => {
                        if let Err(error) = passed {
                            tracing::debug!(%error, "a connection to the API server broke off");
                        }
                    }
                }
            });
        }
        connections.close();
        connections.wait().await;
    }

    /// A foreign client with a borrowed address gets no answer, so the address can be trusted once there is a connection.
    fn is_near(&self, peer: IpAddr, own: Option<IpAddr>) -> bool {
        own.is_some_and(|own| is_near(&self.up, peer, own))
    }
}

async fn pass(mut pod: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    pod.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut pod, &mut server).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::agent::networks::Up;

    #[tokio::test]
    async fn passes_on_what_comes_from_near() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let up = UpNetworks::default();
        let relay = ApiRelay::open(server.local_addr().unwrap(), up.clone())
            .await
            .unwrap();
        let far: IpAddr = "10.42.0.9".parse().unwrap();
        assert!(!relay.is_near(far, Some("10.42.0.1".parse().unwrap())));
        let mut pods = Up::default();
        pods.network.subnets = vec!["10.42.0.0/16".parse().unwrap()];
        up.write().insert("default".into(), pods);
        assert!(relay.is_near(far, Some("10.42.0.1".parse().unwrap())));

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
}
