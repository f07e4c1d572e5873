//! Carrying bytes between a container's descriptors and a client's channels.
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::{Inlet, Outlet};
use crate::runtime::resize_terminal;

/// Most bytes taken from a container at once.
const CHUNK: usize = 32 << 10;
/// How long an ended command's output may be silent before it is given up: something it left running holds it open.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest text of one size; what is longer is none.
const MAX_SIZE_TEXT: usize = 4 << 10;

/// Carries what a client sends to a pipe or terminal. What nobody reads any more is thrown away, so that the other
/// channels of the client go on.
pub(super) async fn input(mut from: Inlet, to: OwnedFd) {
    if let Ok(mut to) = not_blocking(to).and_then(pipe::Sender::from_owned_fd_unchecked) {
        while let Some(bytes) = from.recv().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    }
    discard(from).await;
}

/// Takes what a client sends, for nobody.
pub(super) async fn discard(mut from: Inlet) {
    while from.recv().await.is_some() {}
}

/// Carries what a container writes to a client, to the end, or until it is silent after `ended`. Without a client it is
/// read all the same, since nobody else would.
pub(super) async fn output(from: OwnedFd, to: Option<Outlet>, ended: CancellationToken) {
    let from = not_blocking(from).and_then(pipe::Receiver::from_owned_fd_unchecked);
    let Ok(mut from) = from else { return };
    loop {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let read = tokio::select! {
            biased;
            () = left(to.as_ref()) => break,
            read = from.read_buf(&mut buffer) => read,
            () = silent(&ended) => break,
        };
        // A terminal says EIO once nobody has it open any more.
        if !matches!(read, Ok(1..)) {
            break;
        }
        if let Some(to) = &to
            && to.send(buffer.freeze()).await.is_err()
        {
            break;
        }
    }
    if let Some(to) = &to {
        to.end().await;
    }
}

async fn left(to: Option<&Outlet>) {
    match to {
        Some(to) => to.closed().await,
        None => std::future::pending().await,
    }
}

async fn silent(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(SILENCE).await;
}

/// The flag belongs to the open file, so a terminal's other holders get it too; they are this process and the shim,
/// which expect it.
fn not_blocking(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// A size as clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Gives a terminal the sizes that a client sends.
pub(super) async fn sizes(mut from: Inlet, terminal: OwnedFd) {
    let mut text = Vec::new();
    while let Some(bytes) = from.recv().await {
        text.extend_from_slice(&bytes);
        if let Some(size) = take_size(&mut text) {
            // A terminal that is gone needs none.
            let _ = resize_terminal(&terminal, size.width, size.height);
        }
    }
}

/// The newest whole size in the text, of which only an unfinished one stays.
fn take_size(text: &mut Vec<u8>) -> Option<Size> {
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    let mut newest = None;
    let unfinished = loop {
        match documents.next() {
            Some(Ok(size)) => newest = Some(size),
            Some(Err(error)) => break error.is_eof(),
            None => break false,
        }
    };
    let used = documents.byte_offset();
    if unfinished && text.len() - used <= MAX_SIZE_TEXT {
        text.drain(..used);
    } else {
        text.clear();
    }
    newest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_found_however_they_are_cut() {
        let mut text = br#"{"Width":80,"Height":24}{"Width":100,"#.to_vec();
        let first = Size {
            width: 80,
            height: 24,
        };
        assert_eq!(take_size(&mut text), Some(first));
        text.extend_from_slice(b"\"Height\":50}\n");
        let second = Size {
            width: 100,
            height: 50,
        };
        assert_eq!(take_size(&mut text), Some(second));
        assert!(text.is_empty());
        text = b"nonsense".to_vec();
        assert_eq!((take_size(&mut text), text.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_bounded(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut text = bytes;
            let _ = take_size(&mut text);
            prop_assert!(text.len() <= MAX_SIZE_TEXT);
        }
    }
}
