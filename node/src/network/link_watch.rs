//! News of links of ours that are deleted, told by the kernel.

use std::io;

use bytes::BytesMut;
use nix::sys::socket::sockopt::RcvBufForce;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};

use super::MARK;
use super::socket::found;

/// The group that hears of links.
const GROUP: u32 = 1;
const BUFFER: usize = 64 << 10;
/// Bytes of news that may wait.
const WAITING: usize = 4 << 20;

/// What became of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Links with these marks were deleted, by whomever.
    Marks(Vec<String>),
    /// News were lost, so any may have been.
    Any,
}

/// Hears of links that go, in the network namespace it was opened in.
pub(crate) struct LinkWatch {
    socket: TokioSocket,
}

impl std::fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkWatch").finish_non_exhaustive()
    }
}

impl LinkWatch {
    /// Hears everything from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP)?;
        // With less, more is lost and looked for.
        let _ = nix::sys::socket::setsockopt(socket.socket_ref(), RcvBufForce, &WAITING);
        Ok(Self { socket })
    }

    /// Waits until links of ours are gone. Can be given up at any time and called again.
    ///
    /// # Errors
    /// What the kernel says; nothing more is heard then.
    pub(crate) async fn next(&mut self) -> io::Result<Gone> {
        loop {
            let mut bytes = BytesMut::with_capacity(BUFFER);
            match self.socket.recv(&mut bytes).await {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Gone::Any),
                received => received?,
            };
            let marks = deleted(&bytes);
            if !marks.is_empty() {
                return Ok(Gone::Marks(marks));
            }
        }
    }
}

/// Marks of the links that these messages say are deleted. What cannot be read is of no link of ours.
fn deleted(mut bytes: &[u8]) -> Vec<String> {
    let mut marks = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload {
            marks.extend(found(&link).alias.filter(|alias| alias.starts_with(MARK)));
        }
        match bytes.get(length..) {
            Some(rest) if length > 0 && !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

    fn message(of: impl Fn(LinkMessage) -> RouteNetlinkMessage, alias: &str) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfAlias(alias.into()));
        let mut message = NetlinkMessage::from(of(link));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn only_deleted_links_of_ours_are_told() {
        let all = [
            message(RouteNetlinkMessage::NewLink, "davit:d:node/new"),
            message(RouteNetlinkMessage::DelLink, "davit:d:node/a"),
            message(RouteNetlinkMessage::DelLink, "uplink"),
            message(RouteNetlinkMessage::DelLink, "davit:d:net/u/eth0"),
        ];
        assert_eq!(
            deleted(&all.concat()),
            ["davit:d:node/a", "davit:d:net/u/eth0"]
        );
        assert_eq!(deleted(b"nothing"), [""; 0]);
    }
}
