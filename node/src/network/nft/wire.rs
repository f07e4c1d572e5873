//! Netlink framing for netfilter: messages, nested attributes, and a socket that waits for answers.

use std::io;

use nix::sys::socket::sockopt::SndBufForce;
use rtnetlink::sys::{Socket as NetlinkSocket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Length of `nlmsghdr`.
const HEADER: usize = 16;
/// Length of `nfgenmsg`, which follows it.
pub(super) const FAMILY_HEADER: usize = 4;
/// Length of an attribute's header.
const ATTRIBUTE: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Largest datagram that the kernel sends for a dump.
pub(super) const BUFFER: usize = 64 * 1024;
/// Most bytes of one transaction, enough for tens of thousands of rules.
const LARGEST_TRANSACTION: usize = 32 << 20;

/// A list of attributes being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn put(mut self, type_: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&type_.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A zero-terminated string.
    pub(super) fn text(self, type_: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(type_, &bytes)
    }

    /// A number in network byte order, as netfilter wants them.
    pub(super) fn number(self, type_: u16, number: u32) -> Self {
        self.put(type_, &number.to_be_bytes())
    }

    pub(super) fn long(self, type_: u16, number: u64) -> Self {
        self.put(type_, &number.to_be_bytes())
    }

    pub(super) fn bytes(self, type_: u16, bytes: &[u8]) -> Self {
        self.put(type_, bytes)
    }

    /// A list that was read.
    pub(super) fn nested(self, type_: u16, value: &[u8]) -> Self {
        self.put(type_ | NESTED, value)
    }

    pub(super) fn nest(self, type_: u16, inner: &Attributes) -> Self {
        self.put(type_ | NESTED, &inner.0)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) type_: u16,
    pub(super) flags: u16,
    pub(super) family: u8,
    /// `res_id` of `nfgenmsg`: the subsystem, in batch markers.
    pub(super) resource: u16,
    pub(super) attributes: Attributes,
}

impl Message {
    /// Appends the message with a sequence number.
    pub(super) fn write(&self, out: &mut Vec<u8>, sequence: u32) {
        let length = HEADER + FAMILY_HEADER + self.attributes.0.len();
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        out.extend_from_slice(&self.type_.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.push(self.family);
        out.push(0);
        out.extend_from_slice(&self.resource.to_be_bytes());
        out.extend_from_slice(&self.attributes.0);
    }
}

/// Iterates over the attributes in a slice; a malformed rest ends it.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let type_ = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((type_, value))
    })
}

/// A message from the kernel: its type and the bytes after `nlmsghdr`.
type Answer<'a> = (u16, u32, &'a [u8]);

pub(super) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let type_ = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((type_, sequence, body))
    })
}

/// A netfilter netlink socket.
#[derive(Debug)]
pub(super) struct Socket {
    inner: NetlinkSocket,
    sequence: u32,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let mut inner = NetlinkSocket::new(NETLINK_NETFILTER)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        // A transaction goes out as one message; without root's right to it, a large one fails and says so.
        let _ = nix::sys::socket::setsockopt(&inner, SndBufForce, &LARGEST_TRANSACTION);
        Ok(Self { inner, sequence: 1 })
    }

    /// Sends messages as one datagram; returns the first sequence number.
    fn send(&mut self, messages: &[Message]) -> io::Result<u32> {
        let first = self.sequence;
        let mut out = Vec::new();
        for message in messages {
            message.write(&mut out, self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.inner.send(&out, 0)?;
        Ok(first)
    }

    /// Sends a dump request and hands every object to `each`: the bytes after `nfgenmsg`.
    pub(super) fn dump(
        &mut self,
        request: &Message,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.send(std::slice::from_ref(request))?;
        loop {
            let bytes = self.receive()?;
            for (type_, _, body) in answers(&bytes) {
                match type_ {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return error_of(body),
                    _ => each(body.get(FAMILY_HEADER..).unwrap_or_default()),
                }
            }
        }
    }

    /// Sends a transaction and waits until the kernel has taken or refused it. Only the last
    /// message before the end marker asks for an acknowledgement; a refused one answers anyway.
    pub(super) fn transact(&mut self, messages: &[Message], acknowledged: usize) -> io::Result<()> {
        let first = self.send(messages)?;
        let offset = u32::try_from(acknowledged).unwrap_or(u32::MAX);
        let awaited = first.wrapping_add(offset);
        loop {
            let bytes = self.receive()?;
            for (type_, sequence, body) in answers(&bytes) {
                if type_ != NLMSG_ERROR {
                    continue;
                }
                error_of(body)?;
                if sequence == awaited {
                    return Ok(());
                }
            }
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
        self.inner.recv(&mut buffer, 0)?;
        Ok(buffer.to_vec())
    }
}

fn error_of(body: &[u8]) -> io::Result<()> {
    let code = body
        .get(..4)
        .and_then(|code| code.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-code))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_survive_a_round_trip() {
        let inner = Attributes::new().number(7, 0x0102_0304);
        let outer = Attributes::new()
            .text(1, "abc")
            .nest(2, &inner)
            .bytes(3, &[9]);
        let read: Vec<(u16, Vec<u8>)> = attributes(&outer.0)
            .map(|(type_, value)| (type_, value.to_vec()))
            .collect();
        assert_eq!(read[0], (1, b"abc\0".to_vec()));
        assert_eq!(read[1].0, 2);
        let nested: Vec<_> = attributes(&read[1].1).collect();
        assert_eq!(nested, [(7, [1, 2, 3, 4].as_slice())]);
        assert_eq!(read[2], (3, vec![9]));
    }

    proptest! {
        #[test]
        fn garbage_from_the_kernel_never_panics(bytes: Vec<u8>) {
            let _ = attributes(&bytes).count();
            let _ = answers(&bytes).count();
        }
    }
}
