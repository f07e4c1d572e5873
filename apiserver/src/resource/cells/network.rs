//! Columns of services, endpoints and ingress.

use serde_json::Value;

use super::{NONE, UNSET, int, items, joined, or_none, pairs, path, selector, text, with};
use crate::table::{Column, at};

pub(in crate::resource) const SERVICE: &[Column] = &[
    Column::name(),
    path("Type", "spec.type"),
    with("Cluster-IP", |o| match text(o, "spec.clusterIP") {
        "" => NONE.into(),
        ip => ip.into(),
    }),
    with("External-IP", external_ip),
    with("Port(s)", |o| {
        let ports = items(o, "spec.ports").iter().map(|port| {
            let (number, protocol) = (int(port, "port"), text(port, "protocol"));
            match int(port, "nodePort") {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        });
        or_none(ports.collect::<Vec<_>>().join(","))
    }),
    Column::age(),
    with("Selector", |o| pairs(at(o, "spec.selector"))).wide(),
];

fn external_ip(service: &Value) -> Value {
    let fixed = items(service, "spec.externalIPs")
        .iter()
        .filter_map(Value::as_str);
    match text(service, "spec.type") {
        "ExternalName" => text(service, "spec.externalName").into(),
        "LoadBalancer" => {
            let given = items(service, "status.loadBalancer.ingress");
            let given = given.iter().map(|ingress| match text(ingress, "ip") {
                "" => text(ingress, "hostname"),
                ip => ip,
            });
            let all: Vec<&str> = given.chain(fixed).filter(|text| !text.is_empty()).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",").into()
            }
        }
        _ => joined(fixed),
    }
}

/// The first few of many, as kubectl shortens them.
fn shortened(mut parts: Vec<String>) -> Value {
    let more = parts.len().saturating_sub(3);
    parts.truncate(3);
    let text = parts.join(",");
    if more > 0 {
        format!("{text} + {more} more...").into()
    } else {
        or_none(text)
    }
}

pub(in crate::resource) const ENDPOINTS: &[Column] = &[
    Column::name(),
    with("Endpoints", |o| {
        let mut parts = Vec::new();
        for subset in items(o, "subsets") {
            for address in items(subset, "addresses") {
                let ip = text(address, "ip");
                let ports = items(subset, "ports");
                if ports.is_empty() {
                    parts.push(ip.to_owned());
                }
                parts.extend(
                    ports
                        .iter()
                        .map(|port| format!("{ip}:{}", int(port, "port"))),
                );
            }
        }
        shortened(parts)
    }),
    Column::age(),
];

pub(in crate::resource) const ENDPOINT_SLICE: &[Column] = &[
    Column::name(),
    path("AddressType", "addressType"),
    with("Ports", |o| {
        let ports = items(o, "ports")
            .iter()
            .map(|port| match port["port"].as_i64() {
                Some(number) => number.to_string(),
                None => "*".to_owned(),
            });
        match shortened(ports.collect()) {
            Value::String(text) if text == NONE => UNSET.into(),
            ports => ports,
        }
    }),
    with("Endpoints", |o| {
        let addresses = items(o, "endpoints")
            .iter()
            .flat_map(|e| items(e, "addresses"));
        let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
        match shortened(addresses.collect()) {
            Value::String(text) if text == NONE => UNSET.into(),
            endpoints => endpoints,
        }
    }),
    Column::age(),
];

pub(in crate::resource) const INGRESS: &[Column] = &[
    Column::name(),
    with("Class", |o| {
        or_none(text(o, "spec.ingressClassName").to_owned())
    }),
    with("Hosts", |o| {
        let hosts = items(o, "spec.rules").iter().map(|rule| text(rule, "host"));
        let hosts: Vec<&str> = hosts.filter(|host| !host.is_empty()).collect();
        if hosts.is_empty() {
            "*".into()
        } else {
            hosts.join(",").into()
        }
    }),
    with("Address", |o| {
        let ingress = items(o, "status.loadBalancer.ingress").iter();
        let addresses = ingress.map(|i| match text(i, "ip") {
            "" => text(i, "hostname"),
            ip => ip,
        });
        addresses.collect::<Vec<_>>().join(",").into()
    }),
    with("Ports", |o| {
        let tls = !items(o, "spec.tls").is_empty();
        if tls { "80, 443" } else { "80" }.into()
    }),
    Column::age(),
];

pub(in crate::resource) const INGRESS_CLASS: &[Column] = &[
    Column::name(),
    path("Controller", "spec.controller"),
    with("Parameters", |o| {
        let parameters = at(o, "spec.parameters");
        if parameters.is_null() {
            return NONE.into();
        }
        let kind = text(parameters, "kind");
        let kind = match text(parameters, "apiGroup") {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        format!("{kind}/{}", text(parameters, "name")).into()
    }),
    Column::age(),
];

pub(in crate::resource) const IP_ADDRESS: &[Column] = &[
    Column::name(),
    with("ParentRef", |o| {
        let parent = at(o, "spec.parentRef");
        let mut parts = vec![text(parent, "resource")];
        parts.extend(["group", "namespace", "name"].map(|field| text(parent, field)));
        let group = parts.remove(1);
        let mut resource = parts.remove(0).to_owned();
        if !group.is_empty() {
            resource = format!("{resource}.{group}");
        }
        let rest: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{resource}/{}", rest.join("/")).into()
    }),
    Column::age(),
];

pub(in crate::resource) const NETWORK_POLICY: &[Column] = &[
    Column::name(),
    with("Pod-Selector", |o| selector(at(o, "spec.podSelector"))),
    Column::age(),
];

pub(in crate::resource) const SERVICE_CIDR: &[Column] = &[
    Column::name(),
    with("CIDRs", |o| {
        joined(items(o, "spec.cidrs").iter().filter_map(Value::as_str))
    }),
    Column::age(),
];
