//! A client's end of an exec or attach session, whatever the transport.
use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use http::request::Parts;
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::status::{End, Form};
use super::websocket::{self, Protocol};
use super::wishes::Wishes;
use super::{Inlet, Outlet};
use crate::server::Refusal;
use crate::server::spdy::{self, Session, Stream};

/// Channels of the WebSocket protocols, by number.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// How long a SPDY client may take to open all its streams.
const STREAMS_LIMIT: Duration = Duration::from_secs(30);

/// Versions of the protocol over SPDY, with how they tell of the end and whether they resize.
const SPDY_PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// What is connected with a container.
#[derive(Debug)]
pub(super) struct Remote {
    /// What the client types.
    pub(super) stdin: Option<Inlet>,
    /// What it reads.
    pub(super) stdout: Option<Outlet>,
    /// What it reads of errors.
    pub(super) stderr: Option<Outlet>,
    /// Sizes of its terminal.
    pub(super) resize: Option<Inlet>,
    /// Cancelled when the client is gone.
    pub(super) gone: CancellationToken,
    error: Outlet,
    form: Form,
}

impl Remote {
    /// Tells how the session ended.
    pub(super) async fn finish(self, end: &End) {
        if let Some(text) = end.write(self.form) {
            // Somebody who is gone need not be told.
            let _ = self.error.send(text).await;
        }
        self.error.end().await;
    }
}

/// Answers a request with the upgrade it asks for, and runs `session` once the client is connected.
///
/// # Errors
/// It is no upgrade, or to nothing that is spoken here.
pub(super) async fn connect<F>(
    mut parts: Parts,
    wishes: Wishes,
    shutdown: CancellationToken,
    session: impl FnOnce(Remote) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    if websocket::is_wanted(&parts) {
        let accepted = websocket::accept(&mut parts, Protocol::EXEC).await?;
        return Ok(accepted.start(async move |socket, protocol| {
            let (remote, connection) = over_websocket(socket, protocol, &wishes, &shutdown).await;
            session(remote).await;
            connection.close().await;
        }));
    }
    if !spdy::is_wanted(&parts) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ));
    }
    let protocol = spdy::negotiate(&parts, &SPDY_PROTOCOLS)?.unwrap_or("channel.k8s.io");
    spdy::upgrade(&mut parts, protocol, async move |connection| {
        let mut connection = spdy::start(connection, &shutdown);
        match over_spdy(&mut connection, protocol, &wishes).await {
            Some(remote) => session(remote).await,
            None => tracing::debug!("a client did not open the streams it asked for"),
        }
        connection.close().await;
    })
}

async fn over_websocket(
    socket: axum::extract::ws::WebSocket,
    protocol: Protocol,
    wishes: &Wishes,
    shutdown: &CancellationToken,
) -> (Remote, websocket::Connection) {
    let mut connection = websocket::Connection::new(protocol, shutdown);
    let stdin = wishes.stdin.then(|| connection.inlet(STDIN));
    let resize = wishes.tty.then(|| connection.inlet(RESIZE));
    let remote = Remote {
        stdin,
        resize,
        stdout: wishes.stdout.then(|| connection.outlet(STDOUT)),
        stderr: wishes.stderr.then(|| connection.outlet(STDERR)),
        error: connection.outlet(ERROR),
        gone: connection.gone(),
        form: if protocol.tells_status() {
            Form::Status
        } else {
            Form::Text
        },
    };
    connection.start(socket);
    // An empty message tells the client that it is connected.
    let first = remote.stdout.as_ref().or(remote.stderr.as_ref());
    let _ = first
        .unwrap_or(&remote.error)
        .send(bytes::Bytes::new())
        .await;
    (remote, connection)
}

/// Waits for the streams that belong to what the client wished for; none if they do not come.
async fn over_spdy(session: &mut Session, protocol: &str, wishes: &Wishes) -> Option<Remote> {
    let resizes = wishes.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let mut wanted = vec!["error"];
    let others = [
        ("stdin", wishes.stdin),
        ("stdout", wishes.stdout),
        ("stderr", wishes.stderr),
        ("resize", resizes),
    ];
    wanted.extend(others.iter().filter(|(_, on)| *on).map(|(name, _)| *name));
    let gather = async {
        let mut streams: HashMap<&str, Stream> = HashMap::new();
        while streams.len() < wanted.len() {
            let stream = session.next().await?;
            let kind = stream.header("streamtype").unwrap_or_default();
            match wanted.iter().find(|wanted| **wanted == kind) {
                Some(kind) => drop(streams.insert(kind, stream)),
                // One that was not announced is of no use.
                None => stream.outlet.end().await,
            }
        }
        Some(streams)
    };
    let gathered = tokio::time::timeout(STREAMS_LIMIT, gather).await;
    let mut streams = gathered.ok().flatten()?;
    let error = streams.remove("error")?.outlet;
    let mut out = |name| streams.remove(name).map(|stream: Stream| stream.outlet);
    let (stdout, stderr) = (out("stdout"), out("stderr"));
    let mut input = |name| streams.remove(name).map(|stream: Stream| stream.inlet);
    Some(Remote {
        stdin: input("stdin"),
        resize: input("resize"),
        stdout,
        stderr,
        error,
        gone: session.gone(),
        form: if protocol == "v4.channel.k8s.io" {
            Form::Status
        } else {
            Form::Text
        },
    })
}
