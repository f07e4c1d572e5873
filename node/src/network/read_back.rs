//! Compares the steps of a plan with the kernel, packet rules aside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use davit_plugins::capabilities::{ActError, Drift};
use davit_plugins::plan::{NetworkOp, Place};

use super::socket::Found;
use super::{Places, address, is_set, netns_of, route, sysctl};

/// What a namespace holds, read once for all steps.
struct View {
    links: HashMap<String, Found>,
    addresses: HashMap<u32, Vec<ipnet::IpNet>>,
}

async fn view(places: &mut Places<'_>, place: Place) -> Result<View, ActError> {
    let socket = places.open(place).await?;
    let links = socket
        .list()
        .await?
        .into_iter()
        .map(|found| (found.name.clone(), found))
        .collect();
    Ok(View {
        links,
        addresses: address::all(socket).await?,
    })
}

/// Whether something of a step is still there, so that it has to be undone.
pub(super) async fn is_there(
    places: &mut Places<'_>,
    op: &NetworkOp,
    pod_gone: bool,
) -> Result<bool, ActError> {
    let here: Vec<Place> = op.places();
    if pod_gone && !here.is_empty() && here.iter().all(|place| *place == Place::Pod) {
        return Ok(false);
    }
    let mark = places.cx.mark();
    match op {
        NetworkOp::Route(route) => route::is_there(places.open(route.place).await?, route).await,
        NetworkOp::Rule(rule) => route::has_rule(places.open(rule.place).await?, rule).await,
        NetworkOp::Address { .. } | NetworkOp::Neighbor { .. } | NetworkOp::Fdb { .. } => {
            let drift = compare(places, std::slice::from_ref(op)).await?;
            Ok(drift.is_empty())
        }
        _ if op.links().is_empty() => Ok(true),
        _ => {
            for link in op.links() {
                if link.place == Place::Pod && pod_gone {
                    continue;
                }
                let found = places.open(link.place).await?.find(&link.name).await?;
                if found.is_some_and(|found| found.alias.as_deref() == Some(&mark)) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// The steps that are not in force, in order.
pub(super) async fn compare(
    places: &mut Places<'_>,
    ops: &[NetworkOp],
) -> Result<Vec<Drift>, ActError> {
    let mark = places.cx.mark();
    let mut views: HashMap<Place, View> = HashMap::new();
    let mut drift = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        for place in places_of(op) {
            if let Entry::Vacant(slot) = views.entry(place) {
                slot.insert(view(places, place).await?);
            }
        }
        if let Some(what) = difference(places, &views, op, &mark).await? {
            drift.push(Drift { index, what });
        }
    }
    Ok(drift)
}

fn places_of(op: &NetworkOp) -> Vec<Place> {
    match op {
        NetworkOp::Address { dev, .. } => vec![dev.place],
        _ => op.links().iter().map(|link| link.place).collect(),
    }
}

async fn difference(
    places: &mut Places<'_>,
    views: &HashMap<Place, View>,
    op: &NetworkOp,
    mark: &str,
) -> Result<Option<String>, ActError> {
    Ok(match op {
        NetworkOp::Address { dev, cidr, .. } => {
            let present = views.get(&dev.place).is_some_and(|view| {
                let index = view.links.get(&dev.name).map(|found| found.index);
                index
                    .and_then(|index| view.addresses.get(&index))
                    .is_some_and(|addresses| addresses.contains(cidr))
            });
            (!present).then(|| format!("address {cidr} is missing on {}", dev.name))
        }
        NetworkOp::Route(wanted) => {
            let socket = places.open(wanted.place).await?;
            let known = route::keys(socket, wanted.dst.addr().is_ipv4()).await?;
            let table = if wanted.table == 0 { 254 } else { wanted.table };
            // The kernel gives IPv6 routes without a metric its own default.
            let same = |(dst, in_table, metric): &(ipnet::IpNet, u32, u32)| {
                *dst == wanted.dst.trunc()
                    && *in_table == table
                    && (wanted.metric == 0 || *metric == wanted.metric)
            };
            (!known.iter().any(same)).then(|| format!("route to {} is missing", wanted.dst))
        }
        NetworkOp::Rule(rule) => {
            let present = route::has_rule(places.open(rule.place).await?, rule).await?;
            (!present).then(|| format!("rule {} is missing", rule.priority))
        }
        NetworkOp::Sysctl {
            place, key, value, ..
        } => {
            let now = sysctl::read(netns_of(places.cx, *place)?, key).await?;
            (!sysctl::is_same(&now, value)).then(|| format!("{key} is {now}, not {value}"))
        }
        NetworkOp::Neighbor { dev, ip, mac } => {
            let socket = places.open(dev.place).await?;
            let present = address::has_neighbor(socket, &dev.name, *ip, *mac).await?;
            (!present).then(|| format!("neighbour {ip} is missing on {}", dev.name))
        }
        NetworkOp::Fdb { dev, mac, dst } => {
            let socket = places.open(dev.place).await?;
            let present = address::has_fdb(socket, &dev.name, *mac, *dst).await?;
            (!present).then(|| format!("forwarding entry {mac} is missing on {}", dev.name))
        }
        _ => op
            .links()
            .into_iter()
            .find_map(|link| link_difference(views.get(&link.place)?, link, mark)),
    })
}

fn link_difference(view: &View, link: &davit_plugins::plan::Link, mark: &str) -> Option<String> {
    let name = &link.name;
    let Some(found) = view.links.get(name) else {
        return Some(format!("link {name} is missing"));
    };
    if found.alias.as_deref() != Some(mark) {
        return Some(format!("link {name} belongs to something else"));
    }
    if !found.up && !is_set(link, "down") {
        return Some(format!("link {name} is down"));
    }
    if link.mac.is_some_and(|mac| mac != found.mac) {
        return Some(format!("link {name} has address {}", found.mac));
    }
    if link.mtu.is_some_and(|mtu| mtu != found.mtu) {
        return Some(format!("link {name} has MTU {}", found.mtu));
    }
    let master = link
        .master
        .as_ref()
        .map(|master| view.links.get(master).map(|found| found.index));
    match master {
        Some(index) if index.is_none() || index != found.master => {
            Some(format!("link {name} is not on its bridge"))
        }
        _ => None,
    }
}
