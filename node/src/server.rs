//! The node's HTTPS API, at kubelet's paths: logs, exec, attach, port-forward, pods, health. Only clients certified by the cluster are let in.
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use davit_listen::{Acceptor, Bounds, Connection};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::dispatch::Pods;
use crate::pod::services::PodRuntime;

mod identity;
mod logs;
mod spdy;
mod streams;
#[cfg(test)]
mod tests;

pub use identity::TlsError;
pub(crate) use identity::tls;

/// How many parts of the process's descriptors there are for each that its clients may take.
const PARTS: u64 = 16;
/// How long a client may take to shake hands, and then to say what it wants.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A dead HTTP/2 connection is noticed by then.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long open connections may go on after shutdown began.
const DRAIN: Duration = Duration::from_secs(2);

/// What the API tells of.
#[derive(Clone)]
pub(crate) struct NodeApi {
    pub(crate) pods: Pods,
    /// Where their containers run.
    pub(crate) runtime: Arc<dyn PodRuntime>,
    /// Parent of all pod directories.
    pub(crate) pods_dir: std::path::PathBuf,
    /// Ends what is being followed.
    pub(crate) shutdown: CancellationToken,
}

/// An answer that is not what was asked for: kubelet's plain text.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, self.message).into_response()
    }
}

/// The paths of the API.
pub(crate) fn router(api: NodeApi) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(pods))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(logs::container_logs),
        )
        .route("/exec/{namespace}/{pod}/{container}", any(streams::exec))
        .route(
            "/attach/{namespace}/{pod}/{container}",
            any(streams::attach),
        )
        .route("/portForward/{namespace}/{pod}", any(streams::port_forward))
        .with_state(Arc::new(api))
}

async fn pods(axum::extract::State(api): axum::extract::State<Arc<NodeApi>>) -> Response {
    let mut items: Vec<Arc<k8s_openapi::api::core::v1::Pod>> = api
        .pods
        .read()
        .values()
        .map(|live| Arc::clone(&live.pod))
        .collect();
    items.sort_by(|a, b| {
        (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name))
    });
    axum::Json(serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })).into_response()
}

/// Serves until shutdown.
///
/// # Errors
/// The listener cannot be used at all; errors of single connections end only those.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut accepted = Acceptor::new("the node API", listener, Bounds::share(PARTS));
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    while let Some(stream) = shutdown.run_until_cancelled(accepted.next()).await {
        connections.spawn(connection(
            stream,
            acceptor.clone(),
            router.clone(),
            shutdown.clone(),
        ));
    }
    drop(accepted);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!("connections to the node API were cut");
    }
    Ok(())
}

async fn connection(
    stream: Connection<tokio::net::TcpStream>,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client of the node API was not let in"),
        Err(_) => return,
    };
    let router = if identity::is_trusted(stream.get_ref().1.peer_certificates()) {
        router
    } else {
        Router::new().fallback(async || Refusal::new(StatusCode::FORBIDDEN, "Forbidden"))
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY);
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that goes away is no event.
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
