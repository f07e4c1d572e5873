//! Routes and policy routing rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use davit_plugins::capabilities::ActError;
use davit_plugins::plan::{PolicyRule, Route};
use futures::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::socket::{Netlink, errno, refused};

/// Adds a route or changes the one of the same destination, metric and table.
pub(super) async fn ensure(socket: &Netlink, route: &Route) -> Result<(), ActError> {
    let message = message(socket, route).await?;
    let outcome = socket.handle.route().add(message).replace().execute().await;
    outcome.map_err(|error| refused("add route", &describe(route), &error))
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
    Ok(default.and_then(|message| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
    }))
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
        Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
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

/// True when the namespace has a rule of this family, priority and table.
pub(super) async fn has_rule(socket: &Netlink, rule: &PolicyRule) -> Result<bool, ActError> {
    let version = if rule.family == 6 {
        IpVersion::V6
    } else {
        IpVersion::V4
    };
    let answer = socket.handle.rule().get(version).execute();
    let rules: Vec<RuleMessage> = answer
        .try_collect()
        .await
        .map_err(|error| refused("list", "rules", &error))?;
    Ok(rules.iter().any(|found| {
        found
            .attributes
            .contains(&RuleAttribute::Priority(rule.priority))
            && (found.attributes.contains(&RuleAttribute::Table(rule.table))
                || u32::from(found.header.table) == rule.table)
    }))
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
