//! News of what others do to packet rules, told by the kernel.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::sys::socket::sockopt::RcvBufForce;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};

use super::message::{SUBSYSTEM, find, text};
use super::wire::{BUFFER, FAMILY_HEADER, answers};

/// The group that hears of every change of packet rules.
const GROUP: u32 = 7;
/// The message behind those of a transaction; it says who made it.
const NEW_GENERATION: u16 = 15;
const MAKER: u16 = 2;
/// Bytes of news that may wait; a large table is replaced by messages of some megabytes.
const WAITING: usize = 8 << 20;

/// What somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Something in these tables.
    Tables(BTreeSet<String>),
    /// News were lost, so anything may have changed.
    Anything,
}

/// Hears what processes other than this one change, in the network namespace it was opened in.
pub(crate) struct Watch {
    socket: TokioSocket,
    /// Tables that the transaction has named so far whose messages are arriving.
    named: BTreeSet<String>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Hears everything from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP)?;
        // With less, more is lost and looked for.
        let _ = nix::sys::socket::setsockopt(socket.socket_ref(), RcvBufForce, &WAITING);
        Ok(Self {
            socket,
            named: BTreeSet::new(),
        })
    }

    /// Waits until somebody else has changed something. Can be given up at any time and called again.
    ///
    /// # Errors
    /// What the kernel says; nothing more is heard then.
    pub(crate) async fn next(&mut self) -> io::Result<Touched> {
        loop {
            let mut bytes = bytes::BytesMut::with_capacity(BUFFER);
            match self.socket.recv(&mut bytes).await {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.named.clear();
                    return Ok(Touched::Anything);
                }
                received => received?,
            }
            let touched = self.read(&bytes, is_of_this_process);
            if !touched.is_empty() {
                return Ok(Touched::Tables(touched));
            }
        }
    }

    /// The tables that others changed in transactions whose messages end here.
    fn read(&mut self, bytes: &[u8], is_own: impl Fn(u32) -> bool) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        for (kind, _, body) in answers(bytes) {
            let object = body.get(FAMILY_HEADER..).unwrap_or_default();
            if kind >> 8 != SUBSYSTEM {
                continue;
            }
            if kind & 0xff != NEW_GENERATION {
                // Every kind of object names its table first.
                self.named.extend(text(object, 1));
                continue;
            }
            let named = std::mem::take(&mut self.named);
            let maker = find(object, MAKER).and_then(|value| value.try_into().ok());
            if !maker.is_some_and(|maker| is_own(u32::from_be_bytes(maker))) {
                touched.extend(named);
            }
        }
        touched
    }
}

/// Whether a thread is one of this process. Where threads have other numbers than the kernel's own, none seems to be, and
/// what this process does is looked at as if others had done it.
fn is_of_this_process(thread: u32) -> bool {
    Path::new("/proc/self/task")
        .join(thread.to_string())
        .exists()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Attributes, Message};
    use super::*;

    fn message(kind: u16, attributes: Attributes) -> Vec<u8> {
        let mut bytes = Vec::new();
        let message = Message {
            type_: SUBSYSTEM << 8 | kind,
            flags: 0,
            family: 1,
            resource: 0,
            attributes,
        };
        message.write(&mut bytes, 1);
        bytes
    }

    #[tokio::test]
    async fn transactions_of_others_are_told() {
        let mut watch = Watch::open().unwrap();
        let rule = |table: &str| message(8, Attributes::new().text(1, table).text(2, "chain"));
        let end = |maker| {
            message(
                NEW_GENERATION,
                Attributes::new().number(1, 9).number(2, maker),
            )
        };
        let is_own = |maker| maker == 7;
        let own = [rule("a"), rule("b"), end(7)].concat();
        assert!(watch.read(&own, is_own).is_empty());
        // The messages of a transaction may come in several parts.
        assert!(watch.read(&rule("a"), is_own).is_empty());
        let rest = [rule("c"), end(8), rule("d")].concat();
        let names = ["a", "c"].map(str::to_owned);
        assert_eq!(watch.read(&rest, is_own), BTreeSet::from(names));
        assert_eq!(watch.read(&end(7), is_own), BTreeSet::new());
    }
}
