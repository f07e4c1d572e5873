//! A SPDY connection whose client opens the streams.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::flow::{self, Taken};
use super::frame::{self, Control, Error, HEAD, Head};
use super::headers;
use crate::server::streams::{Credit, Credits, Inlet, Intake, Outlet, Parcel};

/// Most streams open at once.
const MAX_STREAMS: usize = 1000;
/// Most bytes of a stream that are passed on at once.
const CHUNK: usize = 32 << 10;
/// Most bytes of one stream that wait for the container. A client that keeps to its window never has so many waiting.
const WAITING: usize = 4 << 20;
/// The same of all streams of a connection. Beyond either, the connection is held up.
const ALL_WAITING: usize = 32 << 20;
/// Parcels that wait for the connection.
const OUTGOING: usize = 16;
/// Opened streams that wait to be looked at.
const OPENED: usize = 16;
/// How long a client may take to agree that the connection is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// A stream that the client opened.
#[derive(Debug)]
pub(in crate::server) struct Stream {
    headers: headers::Headers,
    /// What arrives.
    pub(in crate::server) inlet: Inlet,
    /// The way out.
    pub(in crate::server) outlet: Outlet,
}

impl Stream {
    /// The first value of a header, by its name in lower case.
    pub(in crate::server) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A connection.
#[derive(Debug)]
pub(in crate::server) struct Session {
    opened: mpsc::Receiver<Stream>,
    writer: mpsc::Sender<Parcel>,
    gone: CancellationToken,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Session {
    /// The next stream that the client opens; none when it is gone.
    pub(in crate::server) async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Cancelled when the client is gone.
    pub(in crate::server) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Sends what waits, says goodbye, and waits for the client to do so.
    pub(in crate::server) async fn close(mut self) {
        // Streams that come now are of no use to anybody.
        self.opened.close();
        let farewell = async {
            let _ = self.writer.send(Parcel::Close).await;
            let _ = (&mut self.writing).await;
            let _ = (&mut self.reading).await;
        };
        // One that does not answer is cut.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.reading.abort();
        self.writing.abort();
    }
}

/// Speaks over a connection until it is closed, or cut at `shutdown`.
pub(in crate::server) fn start<T>(connection: T, shutdown: &CancellationToken) -> Session
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (from, to) = tokio::io::split(connection);
    let (writer, parcels) = mpsc::channel(OUTGOING);
    let (sender, opened) = mpsc::channel(OPENED);
    let gone = shutdown.child_token();
    let taken = Arc::new(Taken::default());
    let reader = Reader {
        from,
        headers: headers::Reader::new(),
        replies: headers::Writer::default(),
        streams: HashMap::new(),
        last: 0,
        room: Arc::new(Semaphore::new(ALL_WAITING)),
        taken: Arc::clone(&taken),
        credits: Credits::new(),
        opened: sender,
        writer: writer.clone(),
        gone: gone.clone(),
    };
    Session {
        opened,
        writer,
        gone,
        reading: tokio::spawn(reader.run()),
        writing: tokio::spawn(write(to, parcels, taken)),
    }
}

/// The reading side of what the client can still send on and receive.
#[derive(Debug)]
struct Open {
    inlet: Option<Intake>,
    credit: Arc<Credit>,
    closed: CancellationToken,
}

struct Reader<T> {
    from: ReadHalf<T>,
    headers: headers::Reader,
    replies: headers::Writer,
    streams: HashMap<u32, Open>,
    /// The newest stream's number.
    last: u32,
    /// For what waits on all streams.
    room: Arc<Semaphore>,
    taken: Arc<Taken>,
    credits: Arc<Credits>,
    opened: mpsc::Sender<Stream>,
    writer: mpsc::Sender<Parcel>,
    gone: CancellationToken,
}

impl<T: AsyncRead> Reader<T> {
    async fn run(mut self) {
        let gone = self.gone.clone();
        let _gone = gone.clone().drop_guard();
        let ended = tokio::select! {
            ended = self.read() => ended,
            () = gone.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a SPDY connection was cut");
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        loop {
            let mut head = [0; HEAD];
            match self.from.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                result => result?,
            };
            match Head::parse(head).map_err(io::Error::other)? {
                Head::Data {
                    stream,
                    last,
                    length,
                } => self.data(stream, last, length).await?,
                Head::Control {
                    kind,
                    flags,
                    length,
                } => {
                    let mut body = vec![0; length];
                    self.from.read_exact(&mut body).await?;
                    let control = Control::parse(kind, flags, &body).map_err(io::Error::other)?;
                    self.control(control).await?;
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, last: bool, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let mut bytes = BytesMut::zeroed(length.min(CHUNK));
            let count = self.from.read(&mut bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(count);
            length -= count;
            let open = self.streams.get(&stream);
            let is_taken = match open.and_then(|open| open.inlet.as_ref()) {
                Some(inlet) => inlet.put(bytes.freeze()).await.is_ok(),
                None => false,
            };
            if !is_taken && open.is_some() {
                // Nobody is interested any more, and the client is not to wait for somebody.
                self.taken.add(stream, count);
            }
            // What waits for a reader of its own is in nobody else's way.
            self.taken.add(flow::ALL, count);
        }
        if last && let Some(open) = self.streams.get_mut(&stream) {
            open.inlet = None;
        }
        Ok(())
    }

    async fn control(&mut self, control: Control<'_>) -> io::Result<()> {
        match control {
            Control::Open {
                stream,
                last,
                one_way,
                block,
            } => {
                let headers = self.headers.read(block).map_err(io::Error::other)?;
                self.open(stream, last, one_way, headers).await?;
            }
            Control::Headers { block } => {
                self.headers.read(block).map_err(io::Error::other)?;
            }
            Control::Reset { stream } => {
                if let Some(open) = self.streams.remove(&stream) {
                    open.closed.cancel();
                    self.taken.forget(stream);
                }
            }
            // Those with even numbers answer pings of this side, which sends none.
            Control::Ping { id } if id % 2 == 1 => self.say(frame::ping(id)).await,
            Control::GoAway => self.gone.cancel(),
            Control::Window { stream, more } if stream == flow::ALL => self.credits.give_back(more),
            Control::Window { stream, more } => {
                if let Some(open) = self.streams.get(&stream) {
                    open.credit.give_back(more);
                }
            }
            Control::FirstWindow { size } => self.credits.begin_with(size),
            Control::Ping { .. } | Control::Other => {}
        }
        Ok(())
    }

    async fn open(
        &mut self,
        number: u32,
        last: bool,
        one_way: bool,
        headers: headers::Headers,
    ) -> io::Result<()> {
        if number.is_multiple_of(2) || number <= self.last {
            return Err(io::Error::other(Error::Stream(number)));
        }
        self.last = number;
        // Those that nobody reads or writes any more.
        self.streams.retain(|number, open| {
            let is_read = open.inlet.as_ref().is_some_and(|inlet| !inlet.is_closed());
            let in_use = is_read || !open.closed.is_cancelled();
            if !in_use {
                self.taken.forget(*number);
            }
            in_use
        });
        if self.streams.len() >= MAX_STREAMS {
            self.say(frame::reset(number, frame::REFUSED_STREAM)).await;
            return Ok(());
        }
        let (inlet, receiver) = Intake::open(WAITING, Some(Arc::clone(&self.room)));
        let taken = Arc::clone(&self.taken);
        let receiver = receiver.telling(move |bytes| taken.add(number, bytes));
        let credit = self.credits.open();
        let closed = self.gone.child_token();
        if one_way {
            closed.cancel();
        } else {
            let block = self.replies.write(&[]);
            self.say(frame::reply(number, &block)).await;
        }
        let stream = Stream {
            headers,
            inlet: receiver,
            outlet: Outlet::new(number, self.writer.clone(), closed.clone())
                .within(Arc::clone(&credit)),
        };
        let open = Open {
            inlet: (!last).then_some(inlet),
            credit,
            closed,
        };
        self.streams.insert(number, open);
        // When nobody looks at new streams any more the connection is about to be closed.
        let _ = self.opened.send(stream).await;
        Ok(())
    }

    async fn say(&mut self, frame: Bytes) {
        // The writing side ends only with the connection.
        let _ = self.writer.send(Parcel::Frame(frame)).await;
    }
}

async fn write<T: AsyncWrite>(
    mut to: WriteHalf<T>,
    mut parcels: mpsc::Receiver<Parcel>,
    taken: Arc<Taken>,
) {
    let mut last = 0;
    loop {
        let parcel = tokio::select! {
            told = taken.next() => {
                if tell(&mut to, told).await.is_err() {
                    return;
                }
                continue;
            }
            parcel = parcels.recv() => match parcel {
                Some(parcel) => parcel,
                None => break,
            },
        };
        let written = match parcel {
            Parcel::Data(stream, bytes) => {
                last = last.max(stream);
                put_data(&mut to, stream, bytes).await
            }
            Parcel::End(stream) => {
                last = last.max(stream);
                to.write_all(&frame::data(stream, true, 0)).await
            }
            Parcel::Frame(frame) => to.write_all(&frame).await,
            Parcel::Close => break,
        };
        let flushed = match written {
            // More is coming at once.
            Ok(()) if !parcels.is_empty() => Ok(()),
            Ok(()) => to.flush().await,
            Err(error) => Err(error),
        };
        if flushed.is_err() {
            return;
        }
    }
    let _ = to.write_all(&frame::go_away(last)).await;
    let _ = to.shutdown().await;
}

async fn tell<T: AsyncWrite>(to: &mut WriteHalf<T>, told: Vec<(u32, u32)>) -> io::Result<()> {
    for (stream, bytes) in told {
        to.write_all(&frame::window(stream, bytes)).await?;
    }
    to.flush().await
}

async fn put_data<T: AsyncWrite>(
    to: &mut WriteHalf<T>,
    stream: u32,
    mut bytes: Bytes,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let part = bytes.split_to(bytes.len().min(CHUNK));
        to.write_all(&frame::data(stream, false, part.len()))
            .await?;
        to.write_all(&part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
