//! A UDP socket on every address of the node that answers from the address a packet was sent to: the rules that led a
//! client here let nothing else back to it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The socket.
#[derive(Debug)]
pub(super) struct Packets {
    socket: UdpSocket,
    is_v6: bool,
}

/// Who sent a packet, and the address of this node it was sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) peer: SocketAddr,
    own: Own,
}

#[derive(Clone, Copy, Debug)]
enum Own {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Route {
    /// The address of this node.
    pub(super) fn own(&self) -> IpAddr {
        match self.own {
            Own::V4(info) => Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into(),
            Own::V6(info) => Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical(),
        }
    }
}

impl Packets {
    /// Takes a port on every address, of both families where there are two.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        let (socket, is_v6) = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(socket) => (socket, true),
            Err(_no_ipv6) => (UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?, false),
        };
        if is_v6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Ok(Self { socket, is_v6 })
    }

    /// The port.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// The next packet: how many bytes of `buffer` it fills, and its way. A longer one is cut.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
        let read = || {
            if self.is_v6 {
                self.read_v6(buffer)
            } else {
                self.read_v4(buffer)
            }
        };
        self.socket.async_io(Interest::READABLE, read).await
    }

    fn read_v4(&self, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
        let mut space = nix::cmsg_space!(in_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut space), flags)?;
        let own = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Own::V4(info)),
            _ => None,
        });
        let peer = message
            .address
            .map(|address| SocketAddrV4::new(address.ip(), address.port()));
        route(message.bytes, peer.map(SocketAddr::V4), own)
    }

    fn read_v6(&self, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
        let mut space = nix::cmsg_space!(in6_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn6>(fd, &mut slices, Some(&mut space), flags)?;
        let own = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Own::V6(info)),
            _ => None,
        });
        let peer = message.address.map(SocketAddrV6::from);
        route(message.bytes, peer.map(SocketAddr::V6), own)
    }

    /// Answers whoever took that way.
    ///
    /// # Errors
    /// What the system says; a socket whose buffer is full loses the answer, as networks do.
    pub(super) fn send(&self, bytes: &[u8], route: &Route) -> io::Result<()> {
        let slices = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let sent = match (route.own, route.peer) {
            (Own::V4(info), SocketAddr::V4(peer)) => {
                let own = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &slices, &own, flags, Some(&SockaddrIn::from(peer)))
            }
            (Own::V6(info), SocketAddr::V6(peer)) => {
                let own = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &slices, &own, flags, Some(&SockaddrIn6::from(peer)))
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        sent.map(drop).map_err(io::Error::from)
    }
}

fn route(bytes: usize, peer: Option<SocketAddr>, own: Option<Own>) -> io::Result<(usize, Route)> {
    match (peer, own) {
        (Some(peer), Some(own)) => Ok((bytes, Route { peer, own })),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_from_the_address_that_was_asked() {
        let packets = Packets::bind(0).await.unwrap();
        let port = packets.port().unwrap();
        // Any address of this block is this machine; the route's own choice would be 127.0.0.1.
        for asked in ["127.0.0.1", "127.0.0.77"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect((asked, port)).await.unwrap();
            client.send(b"hello").await.unwrap();
            let mut buffer = [0; 64];
            let (count, route) = packets.receive(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], b"hello");
            assert_eq!(route.own(), asked.parse::<IpAddr>().unwrap());
            packets.send(b"world", &route).unwrap();
            let count = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], b"world");
        }
    }
}
