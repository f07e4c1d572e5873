//! Connections to ports inside a pod.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ws::WebSocket;
use axum::extract::{Path, State};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::websocket::{self, Protocol};
use super::{Inlet, Outlet, tunnel};
use crate::network::namespace;
use crate::pod::members;
use crate::pod::services::chain;
use crate::server::logs::find;
use crate::server::spdy::{self, Session, Stream};
use crate::server::{NodeApi, Refusal};

/// What is spoken over the streams.
const PROTOCOL: &str = "portforward.k8s.io";
/// How long a port may take to answer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection's second stream may stay away.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
/// Most ports of one WebSocket; each has two channels.
const MAX_PORTS: usize = 100;
/// Most bytes carried at once.
const CHUNK: usize = 32 << 10;

/// The pod that is connected to.
#[derive(Debug)]
struct Target {
    name: String,
    uid: String,
    /// Its network namespace.
    netns: PathBuf,
}

/// `/portForward/<namespace>/<pod>`.
pub(in crate::server) async fn port_forward(
    State(api): State<Arc<NodeApi>>,
    Path((namespace, pod)): Path<(String, String)>,
    request: axum::extract::Request,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, _) = request.into_parts();
    let live = find(&api, &namespace, &pod)?;
    let uid = members::uid(&live.pod).to_owned();
    let netns = api.runtime.network_namespace(&uid).map_err(|error| {
        let message = format!("pod \"{pod}\" is not running: {}", chain(&error));
        Refusal::new(StatusCode::BAD_REQUEST, message)
    })?;
    let name = members::display(&live.pod);
    let target = Arc::new(Target { name, uid, netns });
    let shutdown = api.shutdown.clone();
    if websocket::is_wanted(&parts) {
        return over_websocket(parts, target, shutdown).await;
    }
    if !spdy::is_wanted(&parts) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ));
    }
    spdy::negotiate(&parts, &[PROTOCOL])?;
    spdy::upgrade(&mut parts, PROTOCOL, async move |connection| {
        streams(spdy::start(connection, &shutdown), target).await;
    })
}

async fn over_websocket(
    mut parts: Parts,
    target: Arc<Target>,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    let accepted = websocket::accept(&mut parts, Protocol::FORWARD).await?;
    if accepted.protocol().name == tunnel::PROTOCOL {
        return Ok(accepted.start(async move |socket, _| {
            let session = spdy::start(tunnel::stream(socket), &shutdown);
            streams(session, target).await;
        }));
    }
    let ports = ports(parts.uri.query().unwrap_or_default())?;
    Ok(accepted.start(async move |socket, protocol| {
        channels(socket, protocol, &ports, target, &shutdown).await;
    }))
}

/// The ports that a WebSocket is to be connected with: `port`, more than once or with commas.
fn ports(query: &str) -> Result<Vec<u16>, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let mut ports = Vec::new();
    for (_, value) in form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "port") {
        for text in value.split(',') {
            let port = text.parse::<u16>().ok().filter(|port| *port != 0);
            ports.push(port.ok_or_else(|| bad(format!("invalid port {text:?}")))?);
        }
    }
    match ports.len() {
        0 => Err(bad("query parameter \"port\" is required".to_owned())),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(bad(format!(
            "at most {MAX_PORTS} ports can be forwarded at once"
        ))),
    }
}

/// One connection for each port, over a pair of channels that begin with the port's number.
async fn channels(
    socket: WebSocket,
    protocol: Protocol,
    ports: &[u16],
    target: Arc<Target>,
    shutdown: &CancellationToken,
) {
    let mut connection = websocket::Connection::new(protocol, shutdown);
    let mut lines = Vec::new();
    for (port, channel) in ports.iter().zip((0u8..).step_by(2)) {
        let line = Line {
            port: *port,
            inlet: connection.inlet(channel),
            outlet: connection.outlet(channel),
            error: connection.outlet(channel + 1),
        };
        lines.push(line);
    }
    connection.start(socket);
    let gone = connection.gone();
    let mut tasks = JoinSet::new();
    for line in lines {
        let target = Arc::clone(&target);
        tasks.spawn(async move {
            let number = Bytes::copy_from_slice(&line.port.to_le_bytes());
            if line.outlet.send(number.clone()).await.is_ok()
                && line.error.send(number).await.is_ok()
            {
                line.connect(&target).await;
            }
        });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = gone.cancelled() => {}
    }
    connection.close().await;
}

/// Streams waiting for the other one of their connection, by the client's number of the request.
#[derive(Default)]
struct Pairs(HashMap<String, (Stream, Instant)>);

impl Pairs {
    /// Takes a stream; both, data and error, when they are there.
    fn add(&mut self, stream: Stream, now: Instant) -> Option<(Stream, Stream)> {
        self.0
            .retain(|_, (_, since)| now.duration_since(*since) < PAIR_LIMIT);
        let request = stream.header("requestid").unwrap_or_default().to_owned();
        let is_data = |stream: &Stream| stream.header("streamtype") == Some("data");
        match self.0.remove(&request) {
            Some((first, _)) if is_data(&first) == is_data(&stream) => None,
            Some((first, _)) if is_data(&first) => Some((first, stream)),
            Some((first, _)) => Some((stream, first)),
            None => {
                self.0.insert(request, (stream, now));
                None
            }
        }
    }
}

/// One connection for each pair of streams that the client opens.
async fn streams(mut session: Session, target: Arc<Target>) {
    let gone = session.gone();
    let mut pairs = Pairs::default();
    let mut tasks = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = session.next() => stream,
            () = gone.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
        };
        let Some(stream) = stream else { break };
        let Some((data, error)) = pairs.add(stream, Instant::now()) else {
            continue;
        };
        let port = data.header("port").and_then(|port| port.parse().ok());
        let target = Arc::clone(&target);
        tasks.spawn(async move {
            let line = Line {
                port: port.unwrap_or(0),
                inlet: data.inlet,
                outlet: data.outlet,
                error: error.outlet,
            };
            line.connect(&target).await;
        });
    }
    drop(tasks);
    session.close().await;
}

/// A client's end of one connection.
struct Line {
    port: u16,
    inlet: Inlet,
    outlet: Outlet,
    error: Outlet,
}

impl Line {
    /// Connects it with the pod until both directions have ended.
    async fn connect(self, target: &Target) {
        match dial(target, self.port).await {
            Ok(connection) => {
                let (from, to) = connection.into_split();
                let answered = async {
                    receive(from, &self.outlet).await;
                    // There are clients that hang up only when they hear that nothing went wrong.
                    self.error.end().await;
                };
                tokio::join!(send(self.inlet, to), answered);
            }
            Err(cause) => {
                let Target { name, uid, .. } = target;
                let port = self.port;
                let message =
                    format!("error forwarding port {port} to pod {name}, uid {uid}: {cause}");
                // Somebody who is gone need not be told.
                let _ = self.error.send(message.into()).await;
            }
        }
        self.outlet.end().await;
        self.error.end().await;
    }
}

async fn send(mut from: Inlet, mut to: OwnedWriteHalf) {
    while let Some(bytes) = from.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn receive(mut from: OwnedReadHalf, to: &Outlet) {
    loop {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            () = to.closed() => return,
        };
        if !matches!(read, Ok(1..)) || to.send(buffer.freeze()).await.is_err() {
            break;
        }
    }
    to.end().await;
}

/// A connection to a port of the pod's own loopback interface.
async fn dial(target: &Target, port: u16) -> Result<TcpStream, String> {
    let connect = move || {
        let mut causes = Vec::new();
        for ip in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let address = SocketAddr::new(ip, port);
            match std::net::TcpStream::connect_timeout(&address, DIAL_LIMIT) {
                Ok(connection) => return Ok(Ok(connection)),
                Err(error) => causes.push(format!("dial tcp {address}: connect: {error}")),
            }
        }
        let causes = causes.join(", ");
        Ok(Err(format!(
            "failed to connect to localhost:{port} inside the pod: {causes}"
        )))
    };
    let dialled = namespace::inside(Some(&target.netns), connect).await;
    let connection = dialled.map_err(|error| chain(&error))??;
    let set_up = |connection: std::net::TcpStream| {
        connection.set_nonblocking(true)?;
        connection.set_nodelay(true)?;
        TcpStream::from_std(connection)
    };
    set_up(connection).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_any_form() {
        assert_eq!(ports("port=80,443&port=8080&x=1").unwrap(), [80, 443, 8080]);
        for bad in ["", "port=", "port=0", "port=65536", "port=http"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        let many = vec!["1"; MAX_PORTS + 1].join(",");
        assert!(ports(&format!("port={many}")).is_err());
    }
}
