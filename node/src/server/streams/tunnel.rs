//! A byte stream in the messages of a WebSocket, as `kubectl port-forward` uses it to carry SPDY.
use axum::extract::ws::{Message, WebSocket};
use bytes::BytesMut;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// How clients ask for it.
pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Bytes that wait on either way, and most bytes of one message.
const BUFFER: usize = 64 << 10;

/// The stream; it ends with the WebSocket.
pub(super) fn stream(socket: WebSocket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    tokio::spawn(carry(socket, ours));
    theirs
}

async fn carry(socket: WebSocket, stream: DuplexStream) {
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut to) = tokio::io::split(stream);
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(_) | Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The other side of the pipe may be gone already.
        let _ = to.shutdown().await;
    };
    let outward = async {
        loop {
            let mut buffer = BytesMut::with_capacity(BUFFER);
            match from.read_buf(&mut buffer).await {
                Ok(1..) => {}
                _ => break,
            }
            if sink.send(Message::Binary(buffer.freeze())).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await;
    };
    tokio::join!(inward, outward);
}
