//! Channels over a WebSocket: the first byte of a message names the channel.
//!
//! The protocols are those of Kubernetes: `channel.k8s.io` to `v5.channel.k8s.io`, the `base64.` forms with a digit in
//! front of base64 text, and for port-forward `SPDY/3.1+portforward.k8s.io`, a byte stream in messages.
use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{Sink, SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{Response, header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Inlet, Intake, Outlet, Parcel};
use crate::server::Refusal;

/// Longest message a client may send; Kubernetes' own limit.
const MAX_MESSAGE: usize = 32 << 20;
/// Most bytes of one channel that wait for the container; at least one message does.
const WAITING: usize = 1 << 20;
/// Parcels that wait for the connection.
const OUTGOING: usize = 16;
/// How long a client's first word is waited for; one that answers no pings gets its output all the same.
const GREETING: Duration = Duration::from_secs(1);
/// How long a client may take to agree that the connection is over.
const FAREWELL: Duration = Duration::from_secs(5);
/// In the fifth version a message on this channel closes the one it names.
const CLOSE_CHANNEL: u8 = 255;

/// A way to put channels into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Protocol {
    /// As clients ask for it; empty if they ask for none.
    pub(in crate::server) name: &'static str,
    base64: bool,
    /// The fourth version and later ones tell the end as a `Status`.
    version: u8,
}

const fn protocol(name: &'static str, version: u8, base64: bool) -> Protocol {
    Protocol {
        name,
        base64,
        version,
    }
}

impl Protocol {
    /// For exec and attach, the best first.
    pub(super) const EXEC: &'static [Self] = &[
        protocol("v5.channel.k8s.io", 5, false),
        protocol("v4.channel.k8s.io", 4, false),
        protocol("v4.base64.channel.k8s.io", 4, true),
        protocol("channel.k8s.io", 1, false),
        protocol("base64.channel.k8s.io", 1, true),
        protocol("", 1, false),
    ];
    /// For port-forward, the best first.
    pub(super) const FORWARD: &'static [Self] = &[
        protocol(super::tunnel::PROTOCOL, 0, false),
        protocol("v4.channel.k8s.io", 4, false),
        protocol("v4.base64.channel.k8s.io", 4, true),
        protocol("", 4, false),
    ];

    /// For a log: its bytes as they are, without channels. Kubernetes prefers none.
    pub(in crate::server) const LOG: &'static [Self] = &[
        protocol("binary.k8s.io", 0, false),
        protocol("base64.binary.k8s.io", 0, true),
        protocol("", 0, false),
    ];

    /// Whether the end of a session is told as a `Status`.
    pub(super) fn tells_status(self) -> bool {
        self.version >= 4
    }

    /// Channel and bytes of a message; none if it has no channel.
    fn decode(self, message: Bytes) -> Option<(u8, Bytes)> {
        let mut rest = message;
        if rest.is_empty() {
            return None;
        }
        let first = rest.split_to(1)[0];
        if !self.base64 {
            return Some((first, rest));
        }
        let channel = first.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some((channel, BASE64.decode(&rest).ok()?.into()))
    }

    /// A message that is all of one stream.
    fn whole(self, bytes: Bytes) -> Message {
        if self.base64 {
            return Message::Text(BASE64.encode(&bytes).into());
        }
        Message::Binary(bytes)
    }

    fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            let digit = char::from(b'0'.saturating_add(channel));
            return Message::Text(format!("{digit}{}", BASE64.encode(bytes)).into());
        }
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }
}

/// Whether a request asks for a WebSocket.
pub(in crate::server) fn is_wanted(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// A request for a WebSocket that will be granted.
pub(in crate::server) struct Accepted {
    upgrade: WebSocketUpgrade,
    protocol: Protocol,
}

/// Chooses the protocol.
///
/// # Errors
/// It is no proper upgrade, or none of the protocols is spoken here.
pub(in crate::server) async fn accept(
    parts: &mut Parts,
    spoken: &'static [Protocol],
) -> Result<Accepted, Refusal> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .protocols(spoken.iter().map(|protocol| protocol.name));
    let asked = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = match upgrade.selected_protocol() {
        Some(name) => spoken
            .iter()
            .find(|protocol| name.as_bytes() == protocol.name.as_bytes()),
        None if asked.is_none() => spoken.iter().find(|protocol| protocol.name.is_empty()),
        None => None,
    };
    let protocol = *chosen.ok_or_else(|| {
        let asked = asked.and_then(|asked| asked.to_str().ok());
        Refusal::new(
            http::StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}]",
                asked.unwrap_or_default()
            ),
        )
    })?;
    Ok(Accepted { upgrade, protocol })
}

impl Accepted {
    /// The protocol that was chosen.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The answer; `session` runs once the client is connected.
    pub(in crate::server) fn start<F>(
        self,
        session: impl FnOnce(WebSocket, Protocol) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let protocol = self.protocol;
        self.upgrade
            .on_upgrade(move |socket| async move { session(socket, protocol).await })
            .into_response()
    }
}

/// Sends a stream as it comes, after an empty message that tells the client that there is one, until it ends or the client
/// leaves. What the client says is of no interest.
pub(in crate::server) async fn send_all<E>(
    socket: WebSocket,
    protocol: Protocol,
    stream: impl futures::Stream<Item = Result<Bytes, E>>,
) {
    let (mut sink, mut messages) = socket.split();
    let heard = async {
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    let said = async {
        let mut stream = std::pin::pin!(stream);
        let mut next = Some(Ok(Bytes::new()));
        while let Some(Ok(bytes)) = next {
            if sink.send(protocol.whole(bytes)).await.is_err() {
                return;
            }
            next = stream.next().await;
        }
        farewell(&mut sink).await;
    };
    let mut heard = std::pin::pin!(heard);
    tokio::select! {
        () = &mut heard => {}
        () = said => {
            // One that does not answer is cut.
            let _ = tokio::time::timeout(FAREWELL, heard).await;
        }
    }
}

async fn farewell(sink: &mut (impl Sink<Message> + Unpin)) {
    let normal = CloseFrame {
        code: axum::extract::ws::close_code::NORMAL,
        reason: Utf8Bytes::from_static(""),
    };
    let _ = sink.send(Message::Close(Some(normal))).await;
}

/// One client's channels. Ways in and out are taken before it starts.
#[derive(Debug)]
pub(in crate::server) struct Connection {
    protocol: Protocol,
    inlets: HashMap<u8, Intake>,
    writer: mpsc::Sender<Parcel>,
    parcels: Option<mpsc::Receiver<Parcel>>,
    gone: CancellationToken,
    tasks: Option<(JoinHandle<()>, JoinHandle<()>)>,
}

impl Connection {
    /// A connection that is cut at `shutdown`.
    pub(super) fn new(protocol: Protocol, shutdown: &CancellationToken) -> Self {
        let (writer, parcels) = mpsc::channel(OUTGOING);
        Self {
            protocol,
            inlets: HashMap::new(),
            writer,
            parcels: Some(parcels),
            gone: shutdown.child_token(),
            tasks: None,
        }
    }

    /// What arrives on a channel. What arrives on channels nobody asked for is thrown away.
    pub(super) fn inlet(&mut self, channel: u8) -> Inlet {
        let (intake, inlet) = Intake::open(WAITING, None);
        self.inlets.insert(channel, intake);
        inlet
    }

    /// The way out on a channel.
    pub(super) fn outlet(&self, channel: u8) -> Outlet {
        Outlet::new(channel.into(), self.writer.clone(), self.gone.child_token())
    }

    /// Cancelled when the client is gone.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Starts to read and write.
    pub(super) fn start(&mut self, socket: WebSocket) {
        let (sink, stream) = socket.split();
        let Some(parcels) = self.parcels.take() else {
            return;
        };
        let inlets = std::mem::take(&mut self.inlets);
        let listens = CancellationToken::new();
        let reading = read(
            stream,
            self.protocol,
            inlets,
            self.gone.clone(),
            listens.clone(),
        );
        let reader = tokio::spawn(reading);
        let writer = tokio::spawn(write(sink, self.protocol, parcels, listens));
        self.tasks = Some((reader, writer));
    }

    /// Sends what waits, says goodbye, and waits for the client to do so.
    pub(super) async fn close(self) {
        let Some((mut reader, writer)) = self.tasks else {
            return;
        };
        let farewell = async {
            let _ = self.writer.send(Parcel::Close).await;
            let _ = writer.await;
            let _ = (&mut reader).await;
        };
        // One that does not answer is cut.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        reader.abort();
    }
}

async fn read(
    mut stream: SplitStream<WebSocket>,
    protocol: Protocol,
    mut inlets: HashMap<u8, Intake>,
    gone: CancellationToken,
    listens: CancellationToken,
) {
    let _gone = gone.clone().drop_guard();
    // Nothing is held back for one that has gone.
    let _listens = listens.clone().drop_guard();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = gone.cancelled() => return,
        };
        listens.cancel();
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            // Some clients send text where bytes are meant.
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        };
        match protocol.decode(bytes) {
            Some((CLOSE_CHANNEL, channel)) if protocol.version >= 5 => {
                if let Some(channel) = channel.first() {
                    inlets.remove(channel);
                }
            }
            Some((channel, bytes)) if !bytes.is_empty() => {
                if let Some(inlet) = inlets.get(&channel) {
                    // Nobody may be interested any more.
                    let _ = inlet.put(bytes).await;
                }
            }
            _ => {}
        }
    }
}

async fn write(
    mut sink: impl Sink<Message> + Unpin,
    protocol: Protocol,
    mut parcels: mpsc::Receiver<Parcel>,
    listens: CancellationToken,
) {
    // kubectl reads from the connection before it has made its streams, and throws away what comes for one that is not
    // there yet ("Unknown stream id 1, discarding message"). An answer to a ping says that it reads, and its streams are
    // there by the time that what follows the answer can reach it.
    if sink.send(Message::Ping(Bytes::new())).await.is_ok() {
        let _ = tokio::time::timeout(GREETING, listens.cancelled()).await;
    }
    while let Some(parcel) = parcels.recv().await {
        let message = match parcel {
            Parcel::Data(channel, bytes) => match u8::try_from(channel) {
                Ok(channel) => protocol.encode(channel, &bytes),
                Err(_) => continue,
            },
            Parcel::Frame(bytes) => Message::Binary(bytes),
            // These protocols have no word for it; the end of the connection says it.
            Parcel::End(_) => continue,
            Parcel::Close => break,
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    farewell(&mut sink).await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn of(name: &str) -> Protocol {
        let found = Protocol::EXEC.iter().find(|known| known.name == name);
        *found.unwrap()
    }

    #[test]
    fn messages_name_their_channel() {
        let plain = of("v5.channel.k8s.io");
        assert_eq!(
            plain.encode(1, b"hi"),
            Message::Binary(Bytes::from_static(b"\x01hi"))
        );
        assert_eq!(
            plain.decode(Bytes::from_static(b"\x04x")),
            Some((4, "x".into()))
        );
        assert_eq!(plain.decode(Bytes::new()), None);
        let text = of("base64.channel.k8s.io");
        assert_eq!(text.encode(1, b"hi"), Message::Text("1aGk=".into()));
        assert_eq!(text.decode("0aGk=".into()), Some((0, "hi".into())));
        for broken in ["", "x", "0?", "aaGk="] {
            assert_eq!(text.decode(broken.into()), None, "{broken}");
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_before_the_client_listens() {
        let (sink, mut sent) = futures::channel::mpsc::unbounded();
        let (writer, parcels) = mpsc::channel(OUTGOING);
        let listens = CancellationToken::new();
        let data = Parcel::Data(1, Bytes::from_static(b"hi"));
        writer.send(data).await.unwrap();
        let writing = tokio::spawn(write(
            sink,
            of("v5.channel.k8s.io"),
            parcels,
            listens.clone(),
        ));
        assert_eq!(sent.next().await, Some(Message::Ping(Bytes::new())));
        assert!(sent.next().now_or_never().is_none(), "held back");
        listens.cancel();
        let hi = Message::Binary(Bytes::from_static(b"\x01hi"));
        assert_eq!(sent.next().await, Some(hi));
        drop(writer);
        assert!(matches!(sent.next().await, Some(Message::Close(_))));
        writing.await.unwrap();
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(channel in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for name in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
                let protocol = of(name);
                let message = protocol.encode(channel, &bytes).into_data();
                let (back, data) = protocol.decode(message).unwrap();
                prop_assert_eq!((back, &data[..]), (channel, &bytes[..]));
            }
        }

        #[test]
        fn anything_can_arrive(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for protocol in Protocol::EXEC {
                let _ = protocol.decode(bytes.clone().into());
            }
        }
    }
}
