//! Expressions of nftables rules: each loads a value into a register, compares, or acts.

use std::net::IpAddr;

use ipnet::IpNet;

use super::wire::Attributes;

/// The general 16-byte registers.
const VERDICT: u32 = 0;
const ONE: u32 = 1;
const TWO: u32 = 2;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const META_MARK: u32 = 3;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

pub(super) type Expression = Attributes;

fn expression(name: &str, data: &Attributes) -> Expression {
    Attributes::new().text(1, name).nest(2, data)
}

fn meta(key: u32) -> Expression {
    expression("meta", &Attributes::new().number(1, ONE).number(2, key))
}

fn payload(base: u32, offset: u32, length: u32) -> Expression {
    let data = Attributes::new()
        .number(1, ONE)
        .number(2, base)
        .number(3, offset)
        .number(4, length);
    expression("payload", &data)
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(1, bytes)
}

fn compare(operator: Compare, bytes: &[u8]) -> Expression {
    let data = Attributes::new()
        .number(1, ONE)
        .number(2, operator as u32)
        .nest(3, &value(bytes));
    expression("cmp", &data)
}

fn mask(bytes: &[u8]) -> Expression {
    bitwise(bytes, &vec![0; bytes.len()])
}

/// The register's bits under a mask, then turned over where `flip` says.
fn bitwise(bytes: &[u8], flip: &[u8]) -> Expression {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    let data = Attributes::new()
        .number(1, ONE)
        .number(2, ONE)
        .number(3, length)
        .nest(4, &value(bytes))
        .nest(5, &value(flip));
    expression("bitwise", &data)
}

fn immediate(register: u32, bytes: &[u8]) -> Expression {
    expression(
        "immediate",
        &Attributes::new().number(1, register).nest(2, &value(bytes)),
    )
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The packet is of the address's family.
pub(super) fn family(ip: IpAddr) -> [Expression; 2] {
    let number = if ip.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let number = u8::try_from(number).unwrap_or(0);
    [meta(META_FAMILY), compare(Compare::Equal, &[number])]
}

/// Where an address stands in the header, and its length.
fn place(is_v4: bool, side: Side) -> (u32, u32) {
    match (is_v4, side) {
        (true, Side::Source) => (12, 4),
        (true, Side::Destination) => (16, 4),
        (false, Side::Source) => (8, 16),
        (false, Side::Destination) => (24, 16),
    }
}

/// The packet's source or destination is (or is not) in the network. Assumes the family.
pub(super) fn address(side: Side, operator: Compare, net: IpNet) -> Vec<Expression> {
    let (offset, length) = place(net.addr().is_ipv4(), side);
    let mut list = vec![payload(NETWORK_HEADER, offset, length)];
    if net.prefix_len() < net.max_prefix_len() {
        list.push(mask(&octets(net.netmask())));
    }
    list.push(compare(operator, &octets(net.network())));
    list
}

/// The packet carries this transport protocol.
pub(super) fn protocol(number: u8) -> [Expression; 2] {
    [meta(META_PROTOCOL), compare(Compare::Equal, &[number])]
}

/// The destination port is in the range, ends included. Assumes a protocol with ports.
pub(super) fn port(from: u16, to: u16) -> Vec<Expression> {
    let load = payload(TRANSPORT_HEADER, 2, 2);
    if from == to {
        return vec![load, compare(Compare::Equal, &from.to_be_bytes())];
    }
    vec![
        load,
        compare(Compare::AtLeast, &from.to_be_bytes()),
        compare(Compare::AtMost, &to.to_be_bytes()),
    ]
}

/// The packet came in by (or goes out by) the link of this name.
pub(super) fn link(incoming: bool, name: &str) -> [Expression; 2] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let key = if incoming {
        META_INPUT_NAME
    } else {
        META_OUTPUT_NAME
    };
    [meta(key), compare(Compare::Equal, &padded)]
}

/// The destination is an address of this node.
pub(super) fn to_this_node() -> [Expression; 2] {
    const RESULT_TYPE: u32 = 3;
    const BY_DESTINATION: u32 = 1 << 1;
    const LOCAL: u32 = 2;
    let data = Attributes::new()
        .number(1, ONE)
        .number(2, RESULT_TYPE)
        .number(3, BY_DESTINATION);
    [
        expression("fib", &data),
        compare(Compare::Equal, &LOCAL.to_ne_bytes()),
    ]
}

/// Give the packet the node's own source address.
pub(super) fn masquerade() -> Expression {
    expression("masq", &Attributes::new())
}

/// Send the packet to another address and port.
pub(super) fn redirect(ip: IpAddr, port: u16) -> Vec<Expression> {
    const DESTINATION: u32 = 1;
    let family = if ip.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let nat = Attributes::new()
        .number(1, DESTINATION)
        .number(2, u32::try_from(family).unwrap_or(0))
        .number(3, ONE)
        .number(5, TWO);
    vec![
        immediate(ONE, &octets(ip)),
        immediate(TWO, &port.to_be_bytes()),
        expression("nat", &nat),
    ]
}

/// Send the packet to a port of this node.
pub(super) fn redirect_here(port: u16) -> Vec<Expression> {
    let data = Attributes::new().number(1, TWO);
    vec![
        immediate(TWO, &port.to_be_bytes()),
        expression("redir", &data),
    ]
}

/// Sets one bit of the packet's mark.
pub(super) fn set_mark(bit: u32) -> Vec<Expression> {
    let set = Attributes::new().number(2, META_MARK).number(3, ONE);
    vec![
        meta(META_MARK),
        bitwise(&(!bit).to_ne_bytes(), &bit.to_ne_bytes()),
        expression("meta", &set),
    ]
}

/// The packet's mark has the bit.
pub(super) fn has_mark(bit: u32) -> Vec<Expression> {
    let bytes = bit.to_ne_bytes();
    vec![
        meta(META_MARK),
        mask(&bytes),
        compare(Compare::Equal, &bytes),
    ]
}

/// True for one packet in `of`, at random.
pub(super) fn one_in(of: u32) -> Vec<Expression> {
    const RANDOM: u32 = 1;
    let data = Attributes::new()
        .number(1, ONE)
        .number(2, of)
        .number(3, RANDOM);
    vec![
        expression("numgen", &data),
        compare(Compare::Equal, &0_u32.to_ne_bytes()),
    ]
}

/// Loads the packet's source or destination. Assumes the family.
pub(super) fn whole_address(is_v4: bool, side: Side) -> Expression {
    let (offset, length) = place(is_v4, side);
    payload(NETWORK_HEADER, offset, length)
}

/// What was loaded is in the set of this name.
pub(super) fn is_in(set: &str) -> Expression {
    expression("lookup", &Attributes::new().text(1, set).number(2, ONE))
}

/// Puts what was loaded in the set of this name, or lets it begin anew there.
pub(super) fn remember(set: &str) -> Expression {
    const UPDATE: u32 = 1;
    let data = Attributes::new()
        .text(1, set)
        .number(3, UPDATE)
        .number(4, ONE);
    expression("dynset", &data)
}

/// Go on in another chain of the table; packets that it leaves alone do not come back.
pub(super) fn goto(chain: &str) -> Expression {
    const GOTO: i32 = -4;
    to_chain(GOTO, chain)
}

/// Go through another chain of the table, and come back.
pub(super) fn jump(chain: &str) -> Expression {
    const JUMP: i32 = -3;
    to_chain(JUMP, chain)
}

fn to_chain(code: i32, chain: &str) -> Expression {
    let target = Attributes::new()
        .number(1, code.cast_unsigned())
        .text(2, chain);
    let data = Attributes::new().nest(2, &target);
    expression(
        "immediate",
        &Attributes::new().number(1, VERDICT).nest(2, &data),
    )
}

fn verdict(code: u32) -> Expression {
    let data = Attributes::new().nest(2, &Attributes::new().number(1, code));
    expression(
        "immediate",
        &Attributes::new().number(1, VERDICT).nest(2, &data),
    )
}

pub(super) fn accept() -> Expression {
    verdict(1)
}

pub(super) fn drop_packet() -> Expression {
    verdict(0)
}

/// Answer that the port cannot be reached, in the words of either family.
pub(super) fn reject() -> Expression {
    const EITHER_FAMILY: u32 = 2;
    const PORT_UNREACHABLE: u8 = 1;
    expression(
        "reject",
        &Attributes::new()
            .number(1, EITHER_FAMILY)
            .bytes(2, &[PORT_UNREACHABLE]),
    )
}
