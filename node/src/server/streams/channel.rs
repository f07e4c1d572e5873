//! Channels of one connection: bytes that arrive, and a way for bytes to leave.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::credit::Credit;

/// What arrives on one channel; it ends with the channel or with the connection.
pub(in crate::server) struct Inlet {
    queue: mpsc::UnboundedReceiver<Waiting>,
    taken: Option<Box<dyn Fn(usize) + Send + Sync>>,
}

/// Bytes with the room they take.
type Waiting = (Bytes, [Option<OwnedSemaphorePermit>; 2]);

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inlet").finish_non_exhaustive()
    }
}

impl Inlet {
    /// The next bytes; none at the end.
    pub(in crate::server) async fn recv(&mut self) -> Option<Bytes> {
        let (bytes, _room) = self.queue.recv().await?;
        if let Some(taken) = &self.taken {
            taken(bytes.len());
        }
        Some(bytes)
    }

    /// Tells `taken` how many bytes were received.
    pub(in crate::server) fn telling(self, taken: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self {
            taken: Some(Box::new(taken)),
            ..self
        }
    }
}

/// Where a connection puts what arrives on a channel. With it the channel ends.
#[derive(Debug)]
pub(in crate::server) struct Intake {
    queue: mpsc::UnboundedSender<Waiting>,
    /// Most bytes that wait; at least one message does.
    most: usize,
    own: Arc<Semaphore>,
    all: Option<Arc<Semaphore>>,
}

impl Intake {
    /// A channel on which so many bytes may wait to be received, of those in `all` that the connection has for all.
    pub(in crate::server) fn open(room: usize, all: Option<Arc<Semaphore>>) -> (Self, Inlet) {
        let (sender, queue) = mpsc::unbounded_channel();
        let own = Arc::new(Semaphore::new(room));
        let intake = Self {
            queue: sender,
            most: room,
            own,
            all,
        };
        (intake, Inlet { queue, taken: None })
    }

    /// Puts bytes in, waiting for room.
    pub(in crate::server) async fn put(&self, bytes: Bytes) -> Result<(), Gone> {
        let own = self.room(Some(&self.own), bytes.len()).await?;
        let all = self.room(self.all.as_ref(), bytes.len()).await?;
        self.queue.send((bytes, [own, all])).map_err(|_| Gone)
    }

    /// Whether nobody receives any more.
    pub(in crate::server) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    async fn room(
        &self,
        of: Option<&Arc<Semaphore>>,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Gone> {
        let Some(of) = of else { return Ok(None) };
        let count = u32::try_from(bytes.min(self.most)).map_err(|_| Gone)?;
        tokio::select! {
            biased;
            () = self.queue.closed() => Err(Gone),
            room = Arc::clone(of).acquire_many_owned(count) => room.map(Some).map_err(|_| Gone),
        }
    }
}

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
    credit: Option<Arc<Credit>>,
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
            credit: None,
        }
    }

    /// Sends no more than the other side is ready to take, without holding up other channels.
    pub(in crate::server) fn within(self, credit: Arc<Credit>) -> Self {
        Self {
            credit: Some(credit),
            ..self
        }
    }

    /// Sends bytes, waiting while the other side is slow.
    pub(in crate::server) async fn send(&self, mut bytes: Bytes) -> Result<(), Gone> {
        let Some(credit) = &self.credit else {
            return self.put(Parcel::Data(self.channel, bytes)).await;
        };
        while !bytes.is_empty() {
            let count = tokio::select! {
                biased;
                () = self.closed.cancelled() => return Err(Gone),
                count = credit.take(bytes.len()) => count,
            };
            let part = bytes.split_to(count.min(bytes.len()));
            self.put(Parcel::Data(self.channel, part)).await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_waits_takes_room_until_it_is_received() {
        let all = Arc::new(Semaphore::new(12));
        let (one, mut inlet) = Intake::open(10, Some(Arc::clone(&all)));
        let (other, others) = Intake::open(10, Some(all));
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        inlet = inlet.telling(move |bytes| {
            count.fetch_add(bytes, Ordering::Relaxed);
        });
        one.put("12345678".into()).await.unwrap();
        let full =
            |intake: Arc<Intake>| tokio::spawn(async move { intake.put("12345".into()).await });
        let other = Arc::new(other);
        let waiting = full(Arc::clone(&other));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "only four bytes are left for all");
        assert_eq!(inlet.recv().await.unwrap(), "12345678");
        assert_eq!(received.load(Ordering::Relaxed), 8);
        waiting.await.unwrap().unwrap();
        // Nobody waits for room on a channel that nobody reads any more.
        let waiting = full(Arc::clone(&other));
        let third = full(Arc::clone(&other));
        tokio::task::yield_now().await;
        drop(others);
        waiting.await.unwrap().ok();
        assert!(third.await.unwrap().is_err());
        assert!(other.is_closed());
    }
}
