//! Channels of one connection: bytes that arrive, and a way for bytes to leave.
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What arrives on one channel; it ends with the channel or with the connection.
pub(in crate::server) type Inlet = mpsc::Receiver<Bytes>;

/// What the writing side of a connection is asked to send.
#[derive(Debug)]
pub(in crate::server) enum Parcel {
    /// Bytes on a channel.
    Data(u32, Bytes),
    /// Nothing more comes on this channel.
    End(u32),
    /// A frame of the transport itself.
    Frame(Bytes),
    /// Say goodbye and close the connection.
    Close,
}

/// The other side is gone, or does not want this channel any more.
#[derive(Debug)]
pub(in crate::server) struct Gone;

/// The way out on one channel.
#[derive(Debug, Clone)]
pub(in crate::server) struct Outlet {
    channel: u32,
    writer: mpsc::Sender<Parcel>,
    closed: CancellationToken,
}

impl Outlet {
    /// A way out through `writer`, until `closed`, which is this channel's alone.
    pub(in crate::server) fn new(
        channel: u32,
        writer: mpsc::Sender<Parcel>,
        closed: CancellationToken,
    ) -> Self {
        Self {
            channel,
            writer,
            closed,
        }
    }

    /// Sends bytes, waiting while the other side is slow.
    pub(in crate::server) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.put(Parcel::Data(self.channel, bytes)).await
    }

    /// Says that nothing more comes. What is sent after that goes nowhere.
    pub(in crate::server) async fn end(&self) {
        // To somebody who is gone it need not be said.
        let _ = self.put(Parcel::End(self.channel)).await;
        self.closed.cancel();
    }

    /// Waits until the other side is gone or does not want this channel any more.
    pub(in crate::server) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    async fn put(&self, parcel: Parcel) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Gone),
            sent = self.writer.send(parcel) => sent.map_err(|_| Gone),
        }
    }
}
