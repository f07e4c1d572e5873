//! Listening: TLS, HTTP/1.1 and HTTP/2, limits against slow and hostile clients, graceful end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use davit_listen::{Acceptor, Bounds};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::RemoteAddress;
use crate::pki::Peer;
use crate::{ApiServer, Error, handler};

/// A dead HTTP/2 connection is noticed after both.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
const MAX_STREAMS: u32 = 250;
const MAX_HEADER_BYTES: u32 = 64 << 10;
/// Requests that a client may reset before they are looked at; after that the connection is cut (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// Requests of one connection that may be against the protocol.
const MAX_BROKEN: usize = 100;
/// How long open requests may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How many parts of the process's descriptors there are for each that clients may take.
const PARTS: u64 = 2;

impl ApiServer {
    /// Serves the API over TLS until `shutdown`, then lets open requests finish for a while.
    ///
    /// # Errors
    /// When the listener or the server's certificate cannot be used.
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let failed = |source| Error::Listen {
            address: self.config.listen,
            source,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let mut accepted = Acceptor::new("the API server", listener, Bounds::share(PARTS));
        let acceptor = TlsAcceptor::from(self.tls_config()?);
        let connections = TaskTracker::new();
        let stop = shutdown.child_token();
        while let Some(stream) = shutdown.run_until_cancelled(accepted.next()).await {
            let (server, acceptor) = (self.clone(), acceptor.clone());
            connections.spawn(server.connection(stream, acceptor, stop.clone()));
        }
        drop(accepted);
        self.stop_streams();
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = connections.len(), "connections were cut at the end");
        }
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: Client,
        acceptor: TlsAcceptor,
        stop: CancellationToken,
    ) {
        let patience = self.config.patience;
        let Some(address) = stream.peer() else {
            return;
        };
        tune(&stream, patience.unread);
        let stream = match tokio::time::timeout(patience.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let peer = self
            .authority
            .judge_peer(stream.get_ref().1.peer_certificates());
        let asked = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, peer) = (self.clone(), peer.clone());
            first.store(true, Ordering::Relaxed);
            async move {
                Ok::<_, std::convert::Infallible>(answer(server, peer, address, request).await)
            }
        });
        let builder = builder(patience.headers);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut stopping = false;
        let mut silent = std::pin::pin!(tokio::time::sleep(patience.headers));
        let mut waits = true;
        loop {
            tokio::select! {
                () = silent.as_mut(), if waits => {
                    waits = false;
                    if !asked.load(Ordering::Relaxed) {
                        tracing::debug!(%address, "a client asked for nothing");
                        return;
                    }
                }
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%address, error, "a connection ended");
                    }
                    return;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn answer(
    server: Arc<ApiServer>,
    peer: Option<Peer>,
    address: SocketAddr,
    request: Request<Incoming>,
) -> http::Response<Body> {
    let mut request = request.map(Body::new);
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let address = RemoteAddress(address.ip());
    request.extensions_mut().insert(address);
    handler::serve(server, request).await
}

fn builder(headers: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_BROKEN)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
}

/// A connection that was accepted.
type Client = davit_listen::Connection<TcpStream>;

/// A client's connection.
pub(crate) type Connection = tokio_rustls::server::TlsStream<Client>;

/// Lets the client leave bytes unread for as long as it wants, as long as its machine is there.
pub(crate) fn wait_for_readers(connection: &Connection) {
    let (stream, _) = connection.get_ref();
    if setsockopt(stream, sockopt::TcpUserTimeout, &0).is_err() {
        tracing::debug!("a client that pauses may be cut");
    }
}

/// Small answers go out at once; peers that vanished, and watchers that stopped reading, are noticed.
fn tune(stream: &Client, unread: Duration) {
    let unread = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    let tuned = stream.get_ref().set_nodelay(true).is_ok()
        && setsockopt(stream, sockopt::KeepAlive, &true).is_ok()
        && setsockopt(stream, sockopt::TcpUserTimeout, &unread).is_ok();
    if !tuned {
        tracing::debug!("socket options could not be set");
    }
}
