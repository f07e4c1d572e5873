//! The endpoints behind one port of a Service, as a node may use them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use davit_api::SpecialAddress;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TCP: &str = "TCP";

/// Endpoints of one port and family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// On any node.
    pub(super) all: Vec<SocketAddr>,
    /// On this node.
    pub(super) here: Vec<SocketAddr>,
}

/// The slices that belong to a Service.
pub(super) fn slices_of<'s, 'a>(
    service: &'a Service,
    slices: &'a [&'s EndpointSlice],
) -> impl Iterator<Item = &'s EndpointSlice> + 'a {
    let name = service.metadata.name.as_deref();
    slices.iter().copied().filter(move |slice| {
        let labels = slice.metadata.labels.as_ref();
        slice.metadata.namespace == service.metadata.namespace
            && labels
                .and_then(|labels| labels.get(SERVICE_NAME))
                .map(String::as_str)
                == name
    })
}

/// The usable endpoints of a port: those that are ready, or, when none is, those that still serve while they end.
pub(super) fn of_port(
    slices: &[&EndpointSlice],
    port: &ServicePort,
    is_v4: bool,
    node: &str,
) -> Endpoints {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| family(slice) == Some(is_v4)) {
        let Some(number) = number(slice, port) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            // All addresses of an endpoint lead to the same; the first is the one to use.
            let ip = endpoint.addresses.first();
            let ip = ip.and_then(|ip| ip.parse::<IpAddr>().ok());
            // On every node it would be another: the node itself, or something on its link.
            if let Some(ip) = ip.filter(|ip| SpecialAddress::of(*ip).is_none()) {
                found.push((SocketAddr::new(ip, number), endpoint));
            }
        }
    }
    let here = |endpoint: &Endpoint| endpoint.node_name.as_deref() == Some(node);
    Endpoints {
        all: usable(found.iter().copied()),
        here: usable(found.iter().copied().filter(|(_, endpoint)| here(endpoint))),
    }
}

fn usable<'e>(found: impl Iterator<Item = (SocketAddr, &'e Endpoint)> + Clone) -> Vec<SocketAddr> {
    let ready = found.clone().filter(|(_, endpoint)| is_ready(endpoint));
    let ready: BTreeSet<SocketAddr> = ready.map(|(address, _)| address).collect();
    if !ready.is_empty() {
        return ready.into_iter().collect();
    }
    let ending = found.filter(|(_, endpoint)| is_serving_its_last(endpoint));
    let ending: BTreeSet<SocketAddr> = ending.map(|(address, _)| address).collect();
    ending.into_iter().collect()
}

/// A condition that is not given counts as ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn is_serving_its_last(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| {
        conditions.serving == Some(true) && conditions.terminating == Some(true)
    })
}

fn family(slice: &EndpointSlice) -> Option<bool> {
    match slice.address_type.as_str() {
        "IPv4" => Some(true),
        "IPv6" => Some(false),
        _ => None,
    }
}

/// Ports are matched by name; a Service with one port may leave it out.
fn number(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    let named = |name: &Option<String>| name.clone().unwrap_or_default();
    let protocol = |protocol: &Option<String>| protocol.as_deref().unwrap_or(TCP).to_owned();
    let mut ports = slice.ports.iter().flatten();
    let fits = ports.find(|candidate| {
        named(&candidate.name) == named(&port.name)
            && protocol(&candidate.protocol) == protocol(&port.protocol)
    })?;
    u16::try_from(fits.port?).ok()
}
