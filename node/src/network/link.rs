//! Making and removing links.

use davit_plugins::capabilities::{ActError, ActErrorKind};
use davit_plugins::plan::{IpvlanMode, Link, MacAddr, MacvlanMode, NetworkOp, Place};
use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, InfoVxlan,
    IpVlanMode as KernelIpvlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode as KernelMacvlan,
};
use rtnetlink::{LinkBridgePort, LinkUnspec};

use sha2::{Digest as _, Sha256};

use super::socket::{Found, Netlink, errno, refused};
use super::{GROUP, Places, is_set};

/// Makes the link of a step, or brings the one that is there in line.
pub(super) async fn ensure(places: &mut Places<'_>, op: &NetworkOp) -> Result<(), ActError> {
    let mark = places.cx.mark();
    match op {
        NetworkOp::Veth { link, peer } => ensure_veth(places, link, peer, &mark).await,
        NetworkOp::HostDevice { link, device } => take_device(places, link, device, &mark).await,
        _ => {
            let Some(link) = op.links().first().copied() else {
                return Ok(());
            };
            let existing = places.open(link.place).await?.find(&link.name).await?;
            if !is_ours(existing.as_ref(), &link.name, &mark)? {
                let mut message = message(places, op, link).await?;
                // Parents are links of the host, so the link is made there and moved.
                let netns = (needs_parent(op) && link.place == Place::Pod)
                    .then(|| pod_namespace(places))
                    .transpose()?;
                if let Some(netns) = &netns {
                    message
                        .attributes
                        .push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
                }
                let side = if netns.is_some() {
                    Place::Host
                } else {
                    link.place
                };
                add(places.open(side).await?, message, &link.name).await?;
            }
            finish(places.open(link.place).await?, link, &mark).await
        }
    }
}

/// Removes the link of a step.
pub(super) async fn undo(
    places: &mut Places<'_>,
    op: &NetworkOp,
    pod_gone: bool,
) -> Result<(), ActError> {
    let mark = places.cx.mark();
    if let NetworkOp::HostDevice { link, device } = op {
        // A physical device of a namespace that ends goes back by itself, under its present name.
        return if pod_gone {
            rename_back(places, device, &mark).await
        } else {
            give_back(places, link, device, &mark).await
        };
    }
    let mut outcome = Ok(());
    for link in op.links() {
        if link.place == Place::Pod && pod_gone {
            continue;
        }
        let removed = remove(places, link, &mark).await;
        outcome = outcome.and(removed);
    }
    outcome
}

async fn remove(places: &mut Places<'_>, link: &Link, mark: &str) -> Result<(), ActError> {
    let socket = places.open(link.place).await?;
    match socket.find(&link.name).await? {
        Some(found) if found.alias.as_deref() == Some(mark) || is_half_made(&found) => {
            socket.delete(found.index, &link.name).await
        }
        _ => Ok(()),
    }
}

/// Takes a marked link that belongs to nobody away: what we made goes, and what we only borrowed loses the mark.
pub(super) async fn discard(host: &Netlink, found: &Found) -> Result<(), ActError> {
    if found.group == GROUP {
        host.delete(found.index, &found.name).await
    } else {
        unmark(host, found, &found.name).await
    }
}

/// A link of ours that has no mark, because making it was cut short.
pub(super) fn is_half_made(found: &Found) -> bool {
    found.group == GROUP && found.alias.is_none()
}

async fn unmark(host: &Netlink, found: &Found, name: &str) -> Result<(), ActError> {
    let message = LinkUnspec::new_with_index(found.index)
        .name(name.to_owned())
        .alias("")
        .build();
    let outcome = host.handle.link().set(message).execute().await;
    outcome.map_err(|error| refused("give back device", name, &error))
}

/// A device that came back with the end of its pod's namespace gets its own name again.
async fn rename_back(places: &mut Places<'_>, device: &str, mark: &str) -> Result<(), ActError> {
    let host = places.open(Place::Host).await?;
    let links = host.list().await?;
    match links
        .iter()
        .find(|found| found.alias.as_deref() == Some(mark))
    {
        Some(found) => unmark(host, found, device).await,
        None => Ok(()),
    }
}

/// True when the link is there and carries our mark; a link of somebody else is in the way.
fn is_ours(existing: Option<&Found>, name: &str, mark: &str) -> Result<bool, ActError> {
    match existing {
        None => Ok(false),
        Some(found) if found.alias.as_deref() == Some(mark) || is_half_made(found) => Ok(true),
        Some(found) => {
            let owner = found
                .alias
                .as_deref()
                .unwrap_or("something else on this machine");
            let message = format!(
                "link {name} exists and belongs to {owner}; remove it or choose another name"
            );
            Err(ActError::new(ActErrorKind::Occupied, message))
        }
    }
}

fn needs_parent(op: &NetworkOp) -> bool {
    matches!(
        op,
        NetworkOp::Macvlan { .. }
            | NetworkOp::Ipvlan { .. }
            | NetworkOp::Vlan { .. }
            | NetworkOp::Vxlan { dev: Some(_), .. }
    )
}

async fn add(socket: &Netlink, message: LinkMessage, name: &str) -> Result<(), ActError> {
    let outcome = socket.handle.link().add(message).execute().await;
    outcome.map_err(|error| refused("create link", name, &error))
}

/// What every kind of link has in common when it is made.
fn basics(link: &Link) -> LinkMessage {
    let mut message = LinkUnspec::new_with_name(&link.name);
    if let Some(mtu) = link.mtu {
        message = message.mtu(mtu);
    }
    if let Some(mac) = link.mac {
        message = message.address(mac.0.to_vec());
    }
    let mut message = message.build();
    message.attributes.push(LinkAttribute::Group(GROUP));
    message
}

/// The address of a bridge whose driver gave it none. Left to itself a bridge takes the lowest address of its ports, another one
/// whenever a pod comes or goes, and who talks to it through it has to learn it anew each time. The same bridge
/// gets the same one again.
fn own_address(mark: &str, name: &str) -> MacAddr {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = [
        read("/etc/machine-id"),
        read("/proc/sys/kernel/hostname"),
        mark.to_owned(),
        name.to_owned(),
    ];
    let digest = Sha256::digest(machine.join("\n"));
    let mut mac = [0; 6];
    mac.iter_mut()
        .zip(digest)
        .for_each(|(byte, random)| *byte = random);
    // Locally administered, and of one link.
    mac[0] = (mac[0] & 0xfc) | 0x02;
    MacAddr(mac)
}

fn with_info(mut message: LinkMessage, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
    let mut info = vec![LinkInfo::Kind(kind)];
    info.extend(data.map(LinkInfo::Data));
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}

async fn message(
    places: &mut Places<'_>,
    op: &NetworkOp,
    link: &Link,
) -> Result<LinkMessage, ActError> {
    let mut message = basics(link);
    let (kind, data) = match op {
        NetworkOp::Bridge { vlan_filtering, .. } => {
            if link.mac.is_none() {
                let mac = own_address(&places.cx.mark(), &link.name);
                let address = LinkAttribute::Address(mac.0.to_vec());
                message.attributes.push(address);
            }
            // Kernels without VLAN support refuse to be told even to leave it off.
            let data = vec![InfoBridge::VlanFiltering(true)];
            (
                InfoKind::Bridge,
                vlan_filtering.then_some(InfoData::Bridge(data)),
            )
        }
        NetworkOp::Macvlan { parent, mode, .. } => {
            add_parent(places, &mut message, parent).await?;
            let mode = match mode {
                MacvlanMode::Bridge => KernelMacvlan::Bridge,
                MacvlanMode::Private => KernelMacvlan::Private,
                MacvlanMode::Vepa => KernelMacvlan::Vepa,
                MacvlanMode::Passthru => KernelMacvlan::Passthrough,
            };
            (
                InfoKind::MacVlan,
                Some(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
            )
        }
        NetworkOp::Ipvlan { parent, mode, .. } => {
            add_parent(places, &mut message, parent).await?;
            let mode = match mode {
                IpvlanMode::L2 => KernelIpvlan::L2,
                IpvlanMode::L3 => KernelIpvlan::L3,
                IpvlanMode::L3s => KernelIpvlan::L3S,
            };
            (
                InfoKind::IpVlan,
                Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)])),
            )
        }
        NetworkOp::Vlan { parent, id, .. } => {
            add_parent(places, &mut message, parent).await?;
            (
                InfoKind::Vlan,
                Some(InfoData::Vlan(vec![InfoVlan::Id(*id)])),
            )
        }
        NetworkOp::Vxlan {
            vni,
            port,
            local,
            dev,
            learning,
            ..
        } => {
            let mut data = vec![
                InfoVxlan::Id(*vni),
                InfoVxlan::Port(*port),
                InfoVxlan::Learning(*learning),
            ];
            match local {
                Some(std::net::IpAddr::V4(ip)) => data.push(InfoVxlan::Local(*ip)),
                Some(std::net::IpAddr::V6(ip)) => data.push(InfoVxlan::Local6(*ip)),
                None => {}
            }
            if let Some(dev) = dev {
                let index = places.open(Place::Host).await?.index(dev).await?;
                data.push(InfoVxlan::Link(index));
            }
            (InfoKind::Vxlan, Some(InfoData::Vxlan(data)))
        }
        _ => (InfoKind::Dummy, None),
    };
    Ok(with_info(message, kind, data))
}

async fn add_parent(
    places: &mut Places<'_>,
    message: &mut LinkMessage,
    parent: &str,
) -> Result<(), ActError> {
    let index = places.open(Place::Host).await?.index(parent).await?;
    message.attributes.push(LinkAttribute::Link(index));
    Ok(())
}

fn pod_namespace(places: &Places<'_>) -> Result<File, ActError> {
    let path = places
        .cx
        .netns
        .as_deref()
        .unwrap_or_else(|| std::path::Path::new(""));
    File::open(path).map_err(|error| {
        let message = format!(
            "cannot open the pod's namespace {}: {error}",
            path.display()
        );
        ActError::new(ActErrorKind::Missing, message)
    })
}

fn own_namespace() -> Result<File, ActError> {
    File::open("/proc/thread-self/ns/net").map_err(|error| {
        let message = format!("cannot open the node's own namespace: {error}");
        ActError::new(ActErrorKind::Failed, message)
    })
}

/// Makes the pair with its pod side already inside the pod: the request goes to the pod's
/// namespace and names the node's for the other end, so nothing half-made shows on the node.
async fn ensure_veth(
    places: &mut Places<'_>,
    link: &Link,
    peer: &Link,
    mark: &str,
) -> Result<(), ActError> {
    let inner = places.open(link.place).await?.find(&link.name).await?;
    let outer = places.open(peer.place).await?.find(&peer.name).await?;
    let have_inner = is_ours(inner.as_ref(), &link.name, mark)?;
    let have_outer = is_ours(outer.as_ref(), &peer.name, mark)?;
    if let (true, false, Some(found)) = (have_inner, have_outer, &inner) {
        // Half of a pair is no use; deleting it takes the other half along.
        places
            .open(link.place)
            .await?
            .delete(found.index, &link.name)
            .await?;
    }
    if let (false, true, Some(found)) = (have_inner, have_outer, &outer) {
        places
            .open(peer.place)
            .await?
            .delete(found.index, &peer.name)
            .await?;
    }
    if !(have_inner && have_outer) {
        let mut other = basics(peer);
        let far = match peer.place {
            place if place == link.place => None,
            Place::Host => Some(own_namespace()?),
            Place::Pod => Some(pod_namespace(places)?),
        };
        if let Some(far) = &far {
            other
                .attributes
                .push(LinkAttribute::NetNsFd(far.as_raw_fd()));
        }
        let data = InfoData::Veth(InfoVeth::Peer(other));
        let message = with_info(basics(link), InfoKind::Veth, Some(data));
        add(places.open(link.place).await?, message, &link.name).await?;
    }
    finish(places.open(peer.place).await?, peer, mark).await?;
    finish(places.open(link.place).await?, link, mark).await
}

/// Marks the link, puts it on its bridge, applies its options, and brings it up.
async fn finish(socket: &Netlink, link: &Link, mark: &str) -> Result<(), ActError> {
    let index = socket.index(&link.name).await?;
    let mut message = LinkUnspec::new_with_index(index).alias(mark).up();
    if let Some(master) = &link.master {
        message = message.controller(socket.index(master).await?);
    }
    if let Some(mtu) = link.mtu {
        message = message.mtu(mtu);
    }
    if let Some(mac) = link.mac {
        message = message.address(mac.0.to_vec());
    }
    let outcome = socket.handle.link().set(message.build()).execute().await;
    outcome.map_err(|error| refused("set up link", &link.name, &error))?;
    let (hairpin, isolated) = (is_set(link, "hairpin"), is_set(link, "isolated"));
    if link.master.is_some() && (hairpin || isolated) {
        let port = LinkBridgePort::new(index)
            .hairpin(hairpin)
            .isolated(isolated)
            .build();
        let outcome = socket.handle.link().set_port(port).execute().await;
        outcome.map_err(|error| refused("set bridge port", &link.name, &error))?;
    }
    Ok(())
}

/// Moves a device of the host into the pod, renamed, and remembers where it came from by its mark.
async fn take_device(
    places: &mut Places<'_>,
    link: &Link,
    device: &str,
    mark: &str,
) -> Result<(), ActError> {
    let inside = places.open(Place::Pod).await?.find(&link.name).await?;
    if !is_ours(inside.as_ref(), &link.name, mark)? {
        let netns = pod_namespace(places)?;
        let host = places.open(Place::Host).await?;
        let index = host.index(device).await?;
        let message = LinkUnspec::new_with_index(index)
            .down()
            .name(link.name.clone())
            .alias(mark)
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let outcome = host.handle.link().set(message).execute().await;
        outcome.map_err(|error| refused("move device", device, &error))?;
    }
    finish(places.open(Place::Pod).await?, link, mark).await
}

async fn give_back(
    places: &mut Places<'_>,
    link: &Link,
    device: &str,
    mark: &str,
) -> Result<(), ActError> {
    let Some(found) = places.open(Place::Pod).await?.find(&link.name).await? else {
        return Ok(());
    };
    if found.alias.as_deref() != Some(mark) {
        return Ok(());
    }
    let own_namespace = own_namespace()?;
    let message = LinkUnspec::new_with_index(found.index)
        .down()
        .name(device.to_owned())
        .alias("")
        .setns_by_fd(own_namespace.as_raw_fd())
        .build();
    let pod = places.open(Place::Pod).await?;
    match pod.handle.link().set(message).execute().await {
        Err(error) if errno(&error) != Some(Errno::ENODEV) => {
            Err(refused("give back device", device, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::own_address;

    #[test]
    fn a_bridge_keeps_an_address_of_its_own() {
        let one = own_address("davit:d:node/lab", "iso-lab");
        assert_eq!(one, own_address("davit:d:node/lab", "iso-lab"));
        assert_ne!(one, own_address("davit:d:node/other", "iso-lab"));
        assert_eq!(one.0[0] & 3, 2, "locally administered, not multicast");
    }
}
