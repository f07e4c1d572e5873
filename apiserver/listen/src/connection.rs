//! A connection that counts.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::seats::{Seat, Seats};

/// An accepted connection. It takes its place among the listener's until it is dropped; when others need the place more,
/// reading and writing fail.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    peer: Option<SocketAddr>,
    seat: Arc<Seat>,
    seats: Arc<Seats>,
}

impl<S> Connection<S> {
    pub(crate) fn new(
        stream: S,
        peer: Option<SocketAddr>,
        seat: Arc<Seat>,
        seats: Arc<Seats>,
    ) -> Self {
        Self {
            stream,
            peer,
            seat,
            seats,
        }
    }

    /// The stream itself, to look at and to tune.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The other end's address; `None` for sockets that have none.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn check(&self) -> io::Result<()> {
        if self.seat.is_evicted() {
            let cause = "idle, and its place among the connections was needed";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, cause));
        }
        Ok(())
    }

    /// After a waker was left: whether there is anything to wait for.
    fn used<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.seats.touch(&self.seat);
        }
        result
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.seats.leave(&self.seat);
    }
}

impl<S: AsFd> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.seat.reader.register(cx.waker());
        self.check()?;
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.used(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seat.writer.register(cx.waker());
        self.check()?;
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.used(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seat.writer.register(cx.waker());
        self.check()?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.used(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
