//! UDP flows that the kernel remembers: those that lead where their door does not lead any more are forgotten.
//!
//! The rules choose an endpoint for the first packet only. For TCP that is right, since a connection to an endpoint that is
//! gone ends by itself; a UDP client that goes on sending from one port would never reach another endpoint.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use davit_plugins::capabilities::ActError;

use super::in_kernel;
use super::message::{ACK, DUMP, REQUEST, find};
use super::services::{Door, Target};
use super::wire::{Attributes, Message, Socket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

/// Attributes of a flow.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// Attributes of one direction of it.
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;

/// Number of the transport protocol.
pub(super) const UDP: u8 = 17;

/// A flow, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    family: u8,
    /// Where the client sends to.
    to: SocketAddr,
    /// Who answers it.
    by: SocketAddr,
    /// What names it to the kernel: type and value.
    name: Vec<(u16, Vec<u8>)>,
}

/// Forgets the flows that lead elsewhere than `doors` do, and those to doors of `before` that are gone; how many.
///
/// # Errors
/// The kernel does not tell of flows.
pub(crate) async fn forget_stale(before: Vec<Door>, doors: Vec<Door>) -> Result<usize, ActError> {
    in_kernel(move |socket| {
        let flows = flows(socket)?;
        let stale = flows
            .iter()
            .filter(|flow| is_stale(flow.to, flow.by, &before, &doors));
        let mut count = 0;
        for flow in stale {
            match forget(socket, flow) {
                Ok(()) => count += 1,
                // It has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    })
    .await
}

/// Whether a flow to `to` that is answered `by` somebody is not what the doors say now.
fn is_stale(to: SocketAddr, by: SocketAddr, before: &[Door], doors: &[Door]) -> bool {
    let here = |door: &&Door| {
        let is_address = door.address == Some(to.ip());
        door.protocol == UDP && door.port == to.port() && is_address
    };
    let anywhere = |door: &&Door| {
        let is_family = door.address.is_none() && door.is_v4 == to.is_ipv4();
        door.protocol == UDP && door.port == to.port() && is_family
    };
    if let Some(door) = doors.iter().find(here) {
        return !leads_to(door, by);
    }
    if before.iter().any(|door| here(&door)) {
        return true;
    }
    // Ports of the node may be those of others elsewhere, who answer for themselves.
    if to == by {
        return false;
    }
    match doors.iter().find(anywhere) {
        Some(door) => !leads_to(door, by),
        None => before
            .iter()
            .any(|door| anywhere(&door) && leads_to(door, by)),
    }
}

fn leads_to(door: &Door, by: SocketAddr) -> bool {
    match &door.target {
        Target::Endpoints(endpoints) => endpoints.contains(&by),
        Target::Here(port) => by.port() == *port,
        Target::Silence => false,
    }
}

fn request(kind: u16, flags: u16, family: u8, attributes: Attributes) -> Message {
    Message {
        type_: SUBSYSTEM << 8 | kind,
        flags: REQUEST | flags,
        family,
        resource: 0,
        attributes,
    }
}

fn flows(socket: &mut Socket) -> io::Result<Vec<Flow>> {
    let mut flows = Vec::new();
    let every_family = request(GET, DUMP, 0, Attributes::new());
    socket.dump(&every_family, |object| flows.extend(flow(object)))?;
    Ok(flows)
}

fn forget(socket: &mut Socket, flow: &Flow) -> io::Result<()> {
    let name = flow
        .name
        .iter()
        .fold(Attributes::new(), |list, (type_, value)| {
            if *type_ == ORIGINAL {
                list.nested(*type_, value)
            } else {
                list.bytes(*type_, value)
            }
        });
    socket.transact(&[request(DELETE, ACK, flow.family, name)], 0)
}

/// A flow of UDP; none if it is something else.
fn flow(object: &[u8]) -> Option<Flow> {
    let original = find(object, ORIGINAL)?;
    let (_, to) = ends(original)?;
    let (by, _) = ends(find(object, REPLY)?)?;
    let name = [ORIGINAL, ID, ZONE].into_iter();
    let name = name.filter_map(|type_| Some((type_, find(object, type_)?.to_vec())));
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    Some(Flow {
        family: u8::try_from(family).ok()?,
        to,
        by,
        name: name.collect(),
    })
}

/// Source and destination of one direction.
fn ends(direction: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, protocol) = (find(direction, ADDRESSES)?, find(direction, PROTOCOL)?);
    if find(protocol, 1)? != [UDP] {
        return None;
    }
    let port = |type_| Some(u16::from_be_bytes(find(protocol, type_)?.try_into().ok()?));
    let ip = |v4, v6| -> Option<IpAddr> {
        if let Some(octets) = find(addresses, v4) {
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into());
        }
        let octets: [u8; 16] = find(addresses, v6)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let source = SocketAddr::new(ip(1, 3)?, port(2)?);
    Some((source, SocketAddr::new(ip(2, 4)?, port(3)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::services::Masquerade;
    use super::*;

    fn door(address: Option<&str>, port: u16, target: Target) -> Door {
        Door {
            label: String::new(),
            protocol: UDP,
            address: address.map(|ip| ip.parse().unwrap()),
            is_v4: true,
            port,
            target,
            masquerade: Masquerade::Nobody,
            sticky: None,
        }
    }

    fn endpoints(all: &[&str]) -> Target {
        Target::Endpoints(all.iter().map(|end| end.parse().unwrap()).collect())
    }

    #[test]
    fn flows_that_lead_elsewhere_than_their_door_are_stale() {
        let doors = [
            door(Some("10.96.0.5"), 53, endpoints(&["10.42.0.2:5353"])),
            door(Some("10.96.0.10"), 53, Target::Here(4000)),
            door(Some("10.96.0.11"), 53, Target::Silence),
            door(None, 30053, endpoints(&["10.42.0.2:5353"])),
        ];
        let before = [
            door(Some("10.96.0.9"), 53, endpoints(&["10.42.0.2:5353"])),
            door(None, 30054, endpoints(&["10.42.0.2:5353"])),
        ];
        for (to, by, expected) in [
            ("10.96.0.5:53", "10.42.0.2:5353", false),
            ("10.96.0.5:53", "10.42.0.3:5353", true),
            // There was nobody when it began.
            ("10.96.0.5:53", "10.96.0.5:53", true),
            ("10.96.0.5:54", "10.96.0.5:54", false),
            ("10.96.0.10:53", "10.42.0.1:4000", false),
            ("10.96.0.10:53", "10.42.0.1:3999", true),
            ("10.96.0.11:53", "10.42.0.2:5353", true),
            ("10.96.0.9:53", "10.42.0.2:5353", true),
            ("192.0.2.1:30053", "10.42.0.2:5353", false),
            ("192.0.2.1:30053", "10.42.0.3:5353", true),
            // A server elsewhere with the same port.
            ("198.51.100.1:30053", "198.51.100.1:30053", false),
            ("192.0.2.1:30054", "10.42.0.2:5353", true),
            ("192.0.2.1:30054", "10.42.0.7:5353", false),
            ("8.8.8.8:53", "8.8.8.8:53", false),
        ] {
            let (to_, by_) = (to.parse().unwrap(), by.parse().unwrap());
            assert_eq!(is_stale(to_, by_, &before, &doors), expected, "{to} {by}");
        }
    }

    proptest! {
        #[test]
        fn anything_the_kernel_says_is_read(bytes: Vec<u8>) {
            let _ = flow(&bytes);
        }
    }
}
