//! Addresses of links, and what is known of neighbours.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use davit_plugins::capabilities::{ActError, ActErrorKind};
use davit_plugins::plan::MacAddr;
use futures::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::socket::{Netlink, errno, refused};

/// Puts an address on a link. Duplicate address detection is off, since davit gave the address
/// out itself and the pod should not wait for it.
pub(super) async fn ensure(
    socket: &Netlink,
    dev: &str,
    cidr: IpNet,
    options: &BTreeMap<String, String>,
) -> Result<(), ActError> {
    let index = socket.index(dev).await?;
    let mut request = socket
        .handle
        .address()
        .add(index, cidr.addr(), cidr.prefix_len())
        .replace();
    let message = request.message_mut();
    let mut flags = AddressFlags::empty();
    if cidr.addr().is_ipv6() {
        flags |= AddressFlags::Nodad;
    }
    if options
        .get("noprefixroute")
        .is_some_and(|value| value == "true")
    {
        flags |= AddressFlags::Noprefixroute;
    }
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    message.header.scope = match options.get("scope").map(String::as_str) {
        None | Some("global") => AddressScope::Universe,
        Some("link") => AddressScope::Link,
        Some("host") => AddressScope::Host,
        Some(other) => {
            let message = format!(
                "address {cidr} on {dev}: unknown scope {other:?}; write global, link or host"
            );
            return Err(ActError::new(ActErrorKind::Unsupported, message));
        }
    };
    let outcome = request.execute().await;
    outcome.map_err(|error| refused("add address", &format!("{cidr} to {dev}"), &error))
}

/// Takes an address off a link.
pub(super) async fn remove(socket: &Netlink, dev: &str, cidr: IpNet) -> Result<(), ActError> {
    let Some(found) = socket.find(dev).await? else {
        return Ok(());
    };
    for message in messages(socket).await? {
        if message.header.index == found.index && cidr_of(&message) == Some(cidr) {
            let outcome = socket.handle.address().del(message).execute().await;
            gone_is_fine(outcome, "remove address", &format!("{cidr} from {dev}"))?;
        }
    }
    Ok(())
}

/// Every address, by the index of its link.
pub(super) async fn all(socket: &Netlink) -> Result<HashMap<u32, Vec<IpNet>>, ActError> {
    let mut found: HashMap<u32, Vec<IpNet>> = HashMap::new();
    for message in messages(socket).await? {
        if let Some(cidr) = cidr_of(&message) {
            found.entry(message.header.index).or_default().push(cidr);
        }
    }
    Ok(found)
}

async fn messages(socket: &Netlink) -> Result<Vec<AddressMessage>, ActError> {
    let answer = socket.handle.address().get().execute();
    answer
        .try_collect()
        .await
        .map_err(|error| refused("list", "addresses", &error))
}

/// The link's own address: of point-to-point links that is `Local`, of others both are equal.
fn cidr_of(message: &AddressMessage) -> Option<IpNet> {
    let pick = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) if local => Some(*ip),
                AddressAttribute::Address(ip) if !local => Some(*ip),
                _ => None,
            })
    };
    IpNet::new(
        pick(true).or_else(|| pick(false))?,
        message.header.prefix_len,
    )
    .ok()
}

/// Puts a permanent neighbour entry on a link.
pub(super) async fn ensure_neighbor(
    socket: &Netlink,
    dev: &str,
    ip: IpAddr,
    mac: MacAddr,
) -> Result<(), ActError> {
    let index = socket.index(dev).await?;
    let request = socket
        .handle
        .neighbours()
        .add(index, ip)
        .link_layer_address(&mac.0)
        .state(NeighbourState::Permanent)
        .replace();
    let outcome = request.execute().await;
    outcome.map_err(|error| refused("add neighbour", &format!("{ip} on {dev}"), &error))
}

/// Removes a neighbour entry.
pub(super) async fn remove_neighbor(
    socket: &Netlink,
    dev: &str,
    ip: IpAddr,
) -> Result<(), ActError> {
    let Some(found) = socket.find(dev).await? else {
        return Ok(());
    };
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.ifindex = found.index;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address(ip)));
    let outcome = socket.handle.neighbours().del(message).execute().await;
    gone_is_fine(outcome, "remove neighbour", &format!("{ip} from {dev}"))
}

/// Puts a permanent forwarding entry on a bridge port or tunnel.
pub(super) async fn ensure_fdb(
    socket: &Netlink,
    dev: &str,
    mac: MacAddr,
    dst: Option<IpAddr>,
) -> Result<(), ActError> {
    let index = socket.index(dev).await?;
    let mut request = socket.handle.neighbours().add_bridge(index, &mac.0);
    if let Some(dst) = dst {
        request = request.destination(dst);
    }
    request = request.state(NeighbourState::Permanent);
    // The all-zero entry of a tunnel has one line for each peer, which only appending keeps.
    let mut request = request;
    request.message_mut().header.flags = NeighbourFlags::Own;
    match request.execute().await {
        Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
        outcome => outcome
            .map_err(|error| refused("add forwarding entry", &format!("{mac} on {dev}"), &error)),
    }
}

/// Removes a forwarding entry.
pub(super) async fn remove_fdb(
    socket: &Netlink,
    dev: &str,
    mac: MacAddr,
    dst: Option<IpAddr>,
) -> Result<(), ActError> {
    let Some(found) = socket.find(dev).await? else {
        return Ok(());
    };
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = found.index;
    message.header.flags = NeighbourFlags::Own;
    // Links without a table of their own remove only what is said to be permanent.
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    if let Some(dst) = dst {
        message
            .attributes
            .push(NeighbourAttribute::Destination(address(dst)));
    }
    let outcome = socket.handle.neighbours().del(message).execute().await;
    gone_is_fine(
        outcome,
        "remove forwarding entry",
        &format!("{mac} from {dev}"),
    )
}

/// Whether a permanent neighbour entry is there.
pub(super) async fn has_neighbor(
    socket: &Netlink,
    dev: &str,
    ip: IpAddr,
    mac: MacAddr,
) -> Result<bool, ActError> {
    let family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let known = neighbors(socket, dev, family).await?;
    Ok(known.iter().any(|message| {
        message.header.state == NeighbourState::Permanent
            && destination_of(message) == Some(ip)
            && has_address(message, mac)
    }))
}

/// Whether a forwarding entry is there.
pub(super) async fn has_fdb(
    socket: &Netlink,
    dev: &str,
    mac: MacAddr,
    dst: Option<IpAddr>,
) -> Result<bool, ActError> {
    let known = neighbors(socket, dev, AddressFamily::Bridge).await?;
    Ok(known.iter().any(|message| {
        has_address(message, mac) && dst.is_none_or(|dst| destination_of(message) == Some(dst))
    }))
}

async fn neighbors(
    socket: &Netlink,
    dev: &str,
    family: AddressFamily,
) -> Result<Vec<NeighbourMessage>, ActError> {
    let Some(found) = socket.find(dev).await? else {
        return Ok(Vec::new());
    };
    let request = socket.handle.neighbours().get().set_address_family(family);
    let all: Vec<NeighbourMessage> = request
        .execute()
        .try_collect()
        .await
        .map_err(|error| refused("list", "neighbours", &error))?;
    let here = |message: &NeighbourMessage| message.header.ifindex == found.index;
    Ok(all.into_iter().filter(here).collect())
}

fn has_address(message: &NeighbourMessage, mac: MacAddr) -> bool {
    let wanted = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
    message.attributes.contains(&wanted)
}

/// Bridges tell it as bytes.
fn destination_of(message: &NeighbourMessage) -> Option<IpAddr> {
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(address) => Some(address),
            _ => None,
        })?;
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
                .ok()
        }
        _ => None,
    }
}

fn address(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}

fn gone_is_fine(
    outcome: Result<(), rtnetlink::Error>,
    action: &str,
    what: &str,
) -> Result<(), ActError> {
    let gone = [Errno::EADDRNOTAVAIL, Errno::ENOENT, Errno::ENODEV];
    match outcome {
        Err(error) if errno(&error).is_some_and(|number| gone.contains(&number)) => Ok(()),
        other => other.map_err(|error| refused(action, what, &error)),
    }
}
