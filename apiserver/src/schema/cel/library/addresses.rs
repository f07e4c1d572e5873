//! Addresses and ranges: `ip("10.0.0.1").family()`, `cidr("10.0.0.0/8").containsIP("10.1.1.1")`.

use std::net::IpAddr;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;
use ipnet::IpNet;

use super::{Native, opaque, string, text};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) IpAddr);

impl Opaque for Address {
    fn runtime_type_name(&self) -> &str {
        "net.IP"
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range(pub(super) IpNet);

impl Opaque for Range {
    fn runtime_type_name(&self) -> &str {
        "net.CIDR"
    }
}

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("cidr", |v| read_range(text(v, 0)?).map(wrap_range)),
    ("containsCIDR", |v| {
        let (range, other) = (range(v)?, range_at(v, 1)?);
        Ok(Value::Bool(range.contains(&other)))
    }),
    ("containsIP", |v| {
        let (range, ip) = (range(v)?, address_at(v, 1)?);
        Ok(Value::Bool(range.contains(&ip)))
    }),
    ("family", |v| {
        Ok(Value::Int(if address(v)?.is_ipv4() { 4 } else { 6 }))
    }),
    ("ip", |v| match opaque::<Range>(v, 0) {
        Some(range) => Ok(wrap(range.0.addr())),
        None => read(text(v, 0)?).map(wrap),
    }),
    ("ip.isCanonical", |v| {
        let source = text(v, 0)?;
        Ok(Value::Bool(read(source)?.to_string() == source))
    }),
    ("isCIDR", |v| {
        Ok(Value::Bool(read_range(text(v, 0)?).is_ok()))
    }),
    ("isGlobalUnicast", |v| {
        address(v).map(is_global).map(Value::Bool)
    }),
    ("isIP", |v| Ok(Value::Bool(read(text(v, 0)?).is_ok()))),
    ("isLinkLocalMulticast", |v| {
        address(v).map(is_link_multicast).map(Value::Bool)
    }),
    ("isLinkLocalUnicast", |v| {
        address(v).map(is_link_unicast).map(Value::Bool)
    }),
    ("isLoopback", |v| Ok(Value::Bool(address(v)?.is_loopback()))),
    ("isUnspecified", |v| {
        Ok(Value::Bool(address(v)?.is_unspecified()))
    }),
    ("masked", |v| Ok(wrap_range(range(v)?.trunc()))),
    ("prefixLength", |v| {
        Ok(Value::Int(range(v)?.prefix_len().into()))
    }),
];

/// The text of an address or range.
pub(super) fn to_text(value: &[Value]) -> Option<Value> {
    let address = opaque::<Address>(value, 0).map(|address| address.0.to_string());
    let range = || opaque::<Range>(value, 0).map(|range| range.0.to_string());
    address.or_else(range).map(string)
}

/// Kubernetes takes neither IPv4 addresses in IPv6 clothes nor zones.
fn read(source: &str) -> Result<IpAddr, String> {
    let ip = source.parse::<IpAddr>();
    let ip =
        ip.map_err(|_| format!("IP Address {source:?} parse error during conversion from string"))?;
    if is_mapped(ip) {
        return Err(format!(
            "IPv4-mapped IPv6 address {source:?} is not allowed"
        ));
    }
    Ok(ip)
}

fn read_range(source: &str) -> Result<IpNet, String> {
    let range = source.parse::<IpNet>();
    let range = range.map_err(|_| {
        format!("network address parse error during conversion from string: {source:?}")
    })?;
    if is_mapped(range.addr()) {
        return Err(format!(
            "IPv4-mapped IPv6 address {source:?} is not allowed"
        ));
    }
    Ok(range)
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

fn wrap(ip: IpAddr) -> Value {
    Value::Opaque(Arc::new(Address(ip)) as Arc<dyn Opaque>)
}

fn wrap_range(range: IpNet) -> Value {
    Value::Opaque(Arc::new(Range(range)) as Arc<dyn Opaque>)
}

fn address(values: &[Value]) -> Result<IpAddr, String> {
    let found = opaque::<Address>(values, 0).map(|address| address.0);
    found.ok_or_else(|| "no such overload".to_owned())
}

/// An address, or a text of one.
fn address_at(values: &[Value], at: usize) -> Result<IpAddr, String> {
    match opaque::<Address>(values, at) {
        Some(address) => Ok(address.0),
        None => read(text(values, at)?),
    }
}

fn range(values: &[Value]) -> Result<IpNet, String> {
    let found = opaque::<Range>(values, 0).map(|range| range.0);
    found.ok_or_else(|| "no such overload".to_owned())
}

/// A range, or a text of one.
fn range_at(values: &[Value], at: usize) -> Result<IpNet, String> {
    match opaque::<Range>(values, at) {
        Some(range) => Ok(range.0),
        None => read_range(text(values, at)?),
    }
}

fn is_link_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

/// As Go has it: everything that is sent to one host of some network, private ones included.
fn is_global(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let other = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    !(broadcast || other || is_link_unicast(ip))
}
