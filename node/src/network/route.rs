//! Routes and policy routing rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use davit_plugins::capabilities::{ActError, ActErrorKind};
use davit_plugins::plan::{Place, PolicyRule, Route};
use futures::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::PROTOCOL;
use super::socket::{Netlink, errno, refused};

/// Adds a route or changes the one of the same destination, metric and table. On the host that must be one of ours, or of a
/// link of the same driver (`driver` begins the marks of those): others' would not come back.
pub(super) async fn ensure(socket: &Netlink, route: &Route, driver: &str) -> Result<(), ActError> {
    if route.place == Place::Host {
        refuse_others(socket, route, driver).await?;
    }
    let message = message(socket, route).await?;
    let outcome = socket.handle.route().add(message).replace().execute().await;
    outcome.map_err(|error| refused("add route", &describe(route), &error))
}

async fn refuse_others(socket: &Netlink, route: &Route, driver: &str) -> Result<(), ActError> {
    let v4 = route.dst.addr().is_ipv4();
    let same: Vec<RouteMessage> = dump(socket, v4)
        .await?
        .into_iter()
        .filter(|message| is_of(route, message) && !is_ours(message))
        .collect();
    if same.is_empty() {
        return Ok(());
    }
    let links = socket.list().await?;
    let own = |message: &RouteMessage| {
        let index = link_of(message);
        let link = links.iter().find(|link| Some(link.index) == index);
        link.and_then(|link| link.alias.as_deref())
            .is_some_and(|alias| alias.starts_with(driver))
    };
    if same.iter().all(own) {
        return Ok(());
    }
    let message = format!(
        "the host has a route {} of its own in table {}, which is not replaced; use another metric or table",
        describe(route),
        number_of(route)
    );
    Err(ActError::new(ActErrorKind::Occupied, message))
}

fn number_of(route: &Route) -> u32 {
    if route.table == 0 { 254 } else { route.table }
}

/// Whether a route in the kernel stands at the place of a planned one.
fn is_of(route: &Route, message: &RouteMessage) -> bool {
    let v4 = route.dst.addr().is_ipv4();
    // The kernel gives IPv6 routes without a metric its own default.
    let wanted = if route.metric == 0 && !v4 {
        1024
    } else {
        route.metric
    };
    destination(message, v4) == route.dst.trunc()
        && table(message) == number_of(route)
        && metric(message) == wanted
}

fn is_ours(message: &RouteMessage) -> bool {
    u8::from(message.header.protocol) == PROTOCOL
}

fn link_of(message: &RouteMessage) -> Option<u32> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Whether a route of ours stands where the plan has it.
pub(super) async fn is_there(socket: &Netlink, route: &Route) -> Result<bool, ActError> {
    let messages = dump(socket, route.dst.addr().is_ipv4()).await?;
    Ok(messages
        .iter()
        .any(|message| is_of(route, message) && is_ours(message)))
}

/// Removes every route and policy rule of ours.
pub(super) async fn sweep(socket: &Netlink) -> Result<Vec<String>, ActError> {
    let mut removed = Vec::new();
    for v4 in [true, false] {
        for message in dump(socket, v4).await?.into_iter().filter(is_ours) {
            let what = format!("route {}", destination(&message, v4));
            let outcome = socket.handle.route().del(message).execute().await;
            outcome.map_err(|error| refused("remove", &what, &error))?;
            removed.push(what);
        }
        for message in rules(socket, v4).await?.into_iter().filter(is_own_rule) {
            let what = "routing rule".to_owned();
            let outcome = socket.handle.rule().del(message).execute().await;
            outcome.map_err(|error| refused("remove", &what, &error))?;
            removed.push(what);
        }
    }
    Ok(removed)
}

/// Removes a route.
pub(super) async fn remove(socket: &Netlink, route: &Route) -> Result<(), ActError> {
    let message = match message(socket, route).await {
        Ok(message) => message,
        // Its link is gone, and the route with it.
        Err(_) => return Ok(()),
    };
    match socket.handle.route().del(message).execute().await {
        Err(error) if matches!(errno(&error), Some(Errno::ESRCH | Errno::ENODEV)) => Ok(()),
        other => other.map_err(|error| refused("remove route", &describe(route), &error)),
    }
}

fn describe(route: &Route) -> String {
    let mut text = format!("to {}", route.dst);
    if let Some(via) = route.via {
        text.push_str(&format!(" via {via}"));
    }
    if let Some(dev) = &route.dev {
        text.push_str(&format!(" on {dev}"));
    }
    text
}

async fn message(socket: &Netlink, route: &Route) -> Result<RouteMessage, ActError> {
    let index = match &route.dev {
        Some(dev) => Some(socket.index(dev).await?),
        None => None,
    };
    let mut message = match route.dst {
        IpNet::V4(dst) => {
            let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(dst.network(), dst.prefix_len());
            if let Some(IpAddr::V4(via)) = route.via {
                builder = builder.gateway(via);
            }
            if let Some(IpAddr::V4(src)) = route.src {
                builder = builder.pref_source(src);
            }
            finish(builder, route, index).build()
        }
        IpNet::V6(dst) => {
            let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(dst.network(), dst.prefix_len());
            if let Some(IpAddr::V6(via)) = route.via {
                builder = builder.gateway(via);
            }
            if let Some(IpAddr::V6(src)) = route.src {
                builder = builder.pref_source(src);
            }
            finish(builder, route, index).build()
        }
    };
    if route.via.is_none() && route.dst.addr().is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    Ok(message)
}

fn finish<T>(
    mut builder: RouteMessageBuilder<T>,
    route: &Route,
    index: Option<u32>,
) -> RouteMessageBuilder<T> {
    if let Some(index) = index {
        builder = builder.output_interface(index);
    }
    builder = builder.protocol(RouteProtocol::Other(PROTOCOL));
    if route.table != 0 {
        builder = builder.table_id(route.table);
    }
    if route.metric != 0 {
        builder = builder.priority(route.metric);
    }
    if route.onlink {
        builder.onlink()
    } else {
        builder
    }
}

/// Routes of a family as `(destination, table, metric)`, for comparison with a plan.
pub(super) async fn keys(socket: &Netlink, v4: bool) -> Result<Vec<(IpNet, u32, u32)>, ActError> {
    let messages = dump(socket, v4).await?;
    Ok(messages
        .iter()
        .map(|message| (destination(message, v4), table(message), metric(message)))
        .collect())
}

/// Index of the link that carries the default route of a family with the lowest metric.
pub(super) async fn default_link(socket: &Netlink, family: u8) -> Result<Option<u32>, ActError> {
    let messages = dump(socket, family == 4).await?;
    let default = messages
        .iter()
        .filter(|message| {
            message.header.destination_prefix_length == 0
                && table(message) == u32::from(RouteHeader::RT_TABLE_MAIN)
        })
        .min_by_key(|message| metric(message));
    Ok(default.and_then(link_of))
}

async fn dump(socket: &Netlink, v4: bool) -> Result<Vec<RouteMessage>, ActError> {
    let filter = if v4 {
        RouteMessageBuilder::<Ipv4Addr>::new().build()
    } else {
        RouteMessageBuilder::<Ipv6Addr>::new().build()
    };
    let answer = socket.handle.route().get(filter).execute();
    answer
        .try_collect()
        .await
        .map_err(|error| refused("list", "routes", &error))
}

fn destination(message: &RouteMessage, v4: bool) -> IpNet {
    let length = message.header.destination_prefix_length;
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        });
    let any: IpAddr = if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let address = address.unwrap_or(any);
    IpNet::new(address, length).unwrap_or_else(|_| address.into())
}

fn table(message: &RouteMessage) -> u32 {
    let long = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    long.unwrap_or_else(|| u32::from(message.header.table))
}

fn metric(message: &RouteMessage) -> u32 {
    let metric = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
    metric.unwrap_or(0)
}

/// Adds a policy routing rule.
pub(super) async fn ensure_rule(socket: &Netlink, rule: &PolicyRule) -> Result<(), ActError> {
    let mut request = socket.handle.rule().add();
    *request.message_mut() = rule_message(rule);
    match request.execute().await {
        Err(error) if errno(&error) == Some(Errno::EEXIST) && has_rule(socket, rule).await? => {
            Ok(())
        }
        other => other.map_err(|error| refused("add rule", &rule.priority.to_string(), &error)),
    }
}

/// Removes a policy routing rule.
pub(super) async fn remove_rule(socket: &Netlink, rule: &PolicyRule) -> Result<(), ActError> {
    match socket.handle.rule().del(rule_message(rule)).execute().await {
        Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(()),
        other => other.map_err(|error| refused("remove rule", &rule.priority.to_string(), &error)),
    }
}

/// True when the namespace has this very rule, made by us.
pub(super) async fn has_rule(socket: &Netlink, rule: &PolicyRule) -> Result<bool, ActError> {
    let wanted = rule_message(rule);
    let rules = rules(socket, rule.family == 4).await?;
    Ok(rules.iter().any(|found| {
        let mut attributes = wanted.attributes.iter();
        found.header.src_len == wanted.header.src_len
            && found.header.dst_len == wanted.header.dst_len
            && attributes.all(|attribute| match attribute {
                RuleAttribute::Table(table) => {
                    found.attributes.contains(attribute) || u32::from(found.header.table) == *table
                }
                _ => found.attributes.contains(attribute),
            })
    }))
}

async fn rules(socket: &Netlink, v4: bool) -> Result<Vec<RuleMessage>, ActError> {
    let version = if v4 { IpVersion::V4 } else { IpVersion::V6 };
    let answer = socket.handle.rule().get(version).execute();
    answer
        .try_collect()
        .await
        .map_err(|error| refused("list", "rules", &error))
}

fn is_own_rule(message: &RuleMessage) -> bool {
    let own = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    message.attributes.contains(&own)
}

fn rule_message(rule: &PolicyRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.family == 6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.action = RuleAction::ToTable;
    message
        .attributes
        .push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Table(rule.table));
    message
        .attributes
        .push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(src) = rule.src {
        message.header.src_len = src.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Source(src.network()));
    }
    if let Some(dst) = rule.dst {
        message.header.dst_len = dst.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Destination(dst.network()));
    }
    if rule.fwmark != 0 {
        message.attributes.push(RuleAttribute::FwMark(rule.fwmark));
    }
    if let Some(iif) = &rule.iif {
        message.attributes.push(RuleAttribute::Iifname(iif.clone()));
    }
    message
}
