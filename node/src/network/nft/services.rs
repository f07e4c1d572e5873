//! Service addresses in nftables: one table, whose rules are replaced as a whole in one transaction.
//!
//! A door (an address and port of a Service) has a chain that picks a target; each target has a chain that rewrites the
//! destination. The kernel remembers the choice for the connection, so a replaced table disturbs no connection that is open.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use davit_plugins::capabilities::ActError;
use ipnet::IpNet;

use super::affinity::ClientSet;
use super::expression::{
    self, Compare, Expression, Side, address, drop_packet, family, goto, has_mark, masquerade,
    one_in, port, protocol, redirect, redirect_here, reject, set_mark, to_this_node,
};
use super::message::{self, Batch};
use super::rules::CHAINS;
use super::{in_kernel, loopback};

/// Marks packets that get the node's address as they leave; kube-proxy's bit.
const MASQUERADE: u32 = 0x4000;
/// The chain that finds the door of a packet, and the one for doors nobody is behind.
const DOORS: &str = "doors";
const CLOSED: &str = "closed";

/// One address and port of a Service, or the same port on every address of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// `namespace/name:port`, for people who list the rules.
    pub(crate) label: String,
    /// Number of the transport protocol.
    pub(crate) protocol: u8,
    /// `None`: any address of this node of the family.
    pub(crate) address: Option<IpAddr>,
    pub(crate) is_v4: bool,
    pub(crate) port: u16,
    pub(crate) target: Target,
    /// Clients whose packets get the node's address, so that answers come back this way.
    pub(crate) masquerade: Masquerade,
    /// A client that comes again within so many seconds comes to the same target, as long as that is there.
    pub(crate) sticky: Option<u32>,
}

/// Where a door leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One of these, in order and without doubles. To none of them: packets are refused.
    Endpoints(Vec<SocketAddr>),
    /// To a port of this node.
    Here(u16),
    /// Nowhere, without an answer: another node may have an endpoint.
    Silence,
}

/// See [`Door::masquerade`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Masquerade {
    /// All.
    Everybody,
    /// All outside these networks.
    OthersThan(Vec<IpNet>),
    /// Those in these networks.
    Only(Vec<IpNet>),
    /// None but an endpoint that reaches itself.
    Nobody,
}

/// Makes `table` lead exactly through these doors.
pub(crate) async fn replace(table: &str, doors: Vec<Door>) -> Result<(), ActError> {
    let table = table.to_owned();
    in_kernel(move |socket| {
        let known = if message::tables(socket)?.contains(&table) {
            message::chains_and_sets(socket, &table)?
        } else {
            Default::default()
        };
        batch(&table, &doors, &known).commit(socket)
    })
    .await
}

/// Whether `table` still leads as [`replace`] made it for these doors.
pub(crate) async fn is_intact(table: &str, doors: Vec<Door>) -> Result<bool, ActError> {
    let table = table.to_owned();
    in_kernel(move |socket| {
        let rules = message::rules(socket, &table)?;
        Ok(rules.is_some_and(|rules| batch(&table, &doors, &Default::default()).is_done(rules)))
    })
    .await
}

/// Removes `table`, if it is there.
pub(crate) async fn remove(table: &str) -> Result<(), ActError> {
    let table = table.to_owned();
    in_kernel(move |socket| {
        let mut batch = Batch::new();
        if message::tables(socket)?.contains(&table) {
            batch.delete_table(&table);
        }
        batch.commit(socket)
    })
    .await
}

/// The transaction, for a table that has these chains and sets so far. Sets that are still wanted keep their clients.
fn batch(table: &str, doors: &[Door], known: &(Vec<String>, Vec<String>)) -> Batch {
    let mut batch = Batch::new();
    batch.add_table(table);
    batch.delete_rules(table);
    let (chains, sets) = known;
    for chain in chains {
        batch.delete_chain(table, chain);
    }
    let wanted = client_sets(doors);
    for set in sets {
        if !wanted.iter().any(|wanted| wanted.name == *set) {
            batch.delete_set(table, set);
        }
    }
    for (number, set) in (1..).zip(&wanted) {
        batch.add_clients(table, set, number);
    }
    CHAINS
        .iter()
        .for_each(|chain| batch.add_chain(table, chain));
    [DOORS, CLOSED]
        .iter()
        .for_each(|chain| batch.add_plain_chain(table, chain));
    for chain in ["prerouting", "output-nat"] {
        batch.append(table, chain, &[expression::jump(DOORS)], "services");
    }
    for chain in ["input", "forward", "output"] {
        batch.append(table, chain, &[expression::jump(CLOSED)], "services");
    }
    let mut marked = has_mark(MASQUERADE);
    marked.push(masquerade());
    batch.append(table, "postrouting", &marked, "services");
    // Doors of one address before those of any address.
    let (any, one): (Vec<_>, Vec<_>) = doors
        .iter()
        .enumerate()
        .partition(|(_, door)| door.address.is_none());
    for (number, door) in one.into_iter().chain(any) {
        add_door(&mut batch, table, number, door);
    }
    batch
}

fn client_sets(doors: &[Door]) -> BTreeSet<ClientSet> {
    let endpoints = |door: &Door| match &door.target {
        Target::Endpoints(endpoints) => endpoints.clone(),
        Target::Here(_) | Target::Silence => Vec::new(),
    };
    let of_door = |door| {
        let sets = endpoints(door).into_iter();
        sets.filter_map(|endpoint| ClientSet::of(door, endpoint))
    };
    doors.iter().flat_map(of_door).collect()
}

fn add_door(batch: &mut Batch, table: &str, number: usize, door: &Door) {
    let endpoints = match &door.target {
        Target::Endpoints(endpoints) if endpoints.is_empty() => {
            return add_closed(batch, table, door, reject());
        }
        Target::Silence => return add_closed(batch, table, door, drop_packet()),
        Target::Endpoints(endpoints) => endpoints.as_slice(),
        Target::Here(_) => &[],
    };
    let chain = format!("door-{number}");
    batch.add_plain_chain(table, &chain);
    for mut clients in masqueraded(door) {
        clients.extend(set_mark(MASQUERADE));
        batch.append(table, &chain, &clients, &door.label);
    }
    if let Target::Here(port) = door.target {
        batch.append(table, &chain, &redirect_here(port), &door.label);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let target = format!("{chain}-{index}");
        batch.add_plain_chain(table, &target);
        let own = address(Side::Source, Compare::Equal, endpoint.ip().into());
        let own: Vec<Expression> = own.into_iter().chain(set_mark(MASQUERADE)).collect();
        batch.append(table, &target, &own, &door.label);
        if let Some(clients) = ClientSet::of(door, *endpoint) {
            batch.append(table, &target, &clients.take_client(), &door.label);
            let mut again = clients.has_client();
            again.push(goto(&target));
            batch.append(table, &chain, &again, &door.label);
        }
        let rewrite = redirect(endpoint.ip(), endpoint.port());
        batch.append(table, &target, &rewrite, &door.label);
    }
    for index in 0..endpoints.len() {
        let mut choice = choice(index, endpoints.len());
        choice.push(goto(&format!("{chain}-{index}")));
        batch.append(table, &chain, &choice, &door.label);
    }
    let mut select = select(door);
    select.push(goto(&chain));
    batch.append(table, DOORS, &select, &door.label);
}

fn add_closed(batch: &mut Batch, table: &str, door: &Door, verdict: Expression) {
    let mut select = select(door);
    select.push(verdict);
    batch.append(table, CLOSED, &select, &door.label);
}

/// The packet is for the door.
fn select(door: &Door) -> Vec<Expression> {
    let unspecified: IpAddr = if door.is_v4 {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let mut list: Vec<Expression> = family(unspecified).into();
    match door.address {
        Some(ip) => list.extend(address(Side::Destination, Compare::Equal, ip.into())),
        None => {
            list.extend(to_this_node());
            if door.is_v4 {
                // Loopback addresses never leave the node, so they cannot be sent on.
                list.extend(address(Side::Destination, Compare::NotEqual, loopback()));
            }
        }
    }
    list.extend(protocol(door.protocol));
    list.extend(port(door.port, door.port));
    list
}

/// The packet's client is to be masqueraded, when one of these holds.
fn masqueraded(door: &Door) -> Vec<Vec<Expression>> {
    match &door.masquerade {
        Masquerade::Everybody => vec![Vec::new()],
        Masquerade::Nobody => Vec::new(),
        Masquerade::Only(networks) => {
            let same_family = networks
                .iter()
                .filter(|net| net.addr().is_ipv4() == door.is_v4);
            let inside = same_family.map(|net| address(Side::Source, Compare::Equal, *net));
            inside.map(|rule| rule.into_iter().collect()).collect()
        }
        Masquerade::OthersThan(networks) => {
            let same_family = networks
                .iter()
                .filter(|net| net.addr().is_ipv4() == door.is_v4);
            let outside =
                same_family.flat_map(|net| address(Side::Source, Compare::NotEqual, *net));
            vec![outside.collect()]
        }
    }
}

/// Whether this target of several is taken; those before it were not.
fn choice(index: usize, count: usize) -> Vec<Expression> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if index + 1 == count {
        Vec::new()
    } else {
        one_in(number(count - index))
    }
}
