//! From Services and EndpointSlices to entries.

use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use super::{Endpoint, Entry, FLEETING, Port, STEADY, Zone};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The Service under which pods reach the name server.
const NAME_SERVER: &str = "kube-dns.kube-system";

/// What a zone is made from.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) domain: &'a str,
    pub(crate) services: &'a [&'a Service],
    pub(crate) slices: &'a [&'a EndpointSlice],
    /// Names of the namespaces there are.
    pub(crate) namespaces: &'a [String],
    /// Grows with every change.
    pub(crate) serial: u32,
}

impl Zone {
    /// The names of a cluster.
    pub(crate) fn new(view: &View<'_>) -> Self {
        let mut endpoints = endpoints(view.slices);
        let mut zone = Self {
            domain: view.domain.trim_end_matches('.').to_ascii_lowercase(),
            namespaces: view.namespaces.iter().cloned().collect(),
            serial: view.serial,
            ..Self::default()
        };
        for service in view.services {
            let metadata = &service.metadata;
            let (Some(name), Some(namespace)) = (&metadata.name, &metadata.namespace) else {
                continue;
            };
            let key = format!("{name}.{namespace}");
            let endpoints = endpoints.remove(&key).unwrap_or_default();
            if let Some(entry) = service
                .spec
                .as_ref()
                .and_then(|spec| entry(spec, endpoints))
            {
                zone.point(&key, &entry);
                zone.services.insert(key, entry);
            }
        }
        if let Some(Entry::Cluster { addresses, .. }) = zone.services.get(NAME_SERVER) {
            zone.servers.clone_from(addresses);
        }
        zone
    }

    /// Notes what stands behind the addresses of a Service. One of its own comes before one of an endpoint.
    fn point(&mut self, key: &str, entry: &Entry) {
        match entry {
            Entry::Cluster { addresses, .. } => {
                let name = format!("{key}.svc");
                let all = addresses.iter().map(|ip| (*ip, (name.clone(), STEADY)));
                self.pointers.extend(all);
            }
            Entry::Headless(endpoints) => {
                for endpoint in endpoints {
                    let name = format!("{}.{key}.svc", endpoint.host);
                    self.pointers.entry(endpoint.ip).or_insert((name, FLEETING));
                }
            }
            Entry::Alias(_) => {}
        }
    }
}

/// Nothing for a Service that has no address yet.
fn entry(spec: &ServiceSpec, endpoints: Vec<Endpoint>) -> Option<Entry> {
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?.trim_end_matches('.');
        return Some(Entry::Alias(target.to_ascii_lowercase()));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Entry::Headless(endpoints));
    }
    let texts = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    let ports = spec.ports.iter().flatten().filter_map(port).collect();
    (!addresses.is_empty()).then_some(Entry::Cluster {
        addresses,
        ports,
        endpoints,
    })
}

fn port(port: &ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref()),
        number: u16::try_from(port.port).ok()?,
    })
}

fn protocol(protocol: Option<&str>) -> String {
    protocol.unwrap_or("TCP").to_ascii_lowercase()
}

fn endpoint_port(port: &EndpointPort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref()),
        number: u16::try_from(port.port?).ok()?,
    })
}

/// The ready endpoints by Service. What a Service publishes although it is not ready, its slices call ready.
fn endpoints(slices: &[&EndpointSlice]) -> HashMap<String, Vec<Endpoint>> {
    let mut all = HashMap::<String, Vec<Endpoint>>::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let (Some(service), Some(namespace)) = (service, &slice.metadata.namespace) else {
            continue;
        };
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(endpoint_port)
            .collect();
        let list = all.entry(format!("{service}.{namespace}")).or_default();
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref();
            if conditions.and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            for ip in endpoint
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
            {
                let host = endpoint.hostname.as_deref().map(str::to_ascii_lowercase);
                list.push(Endpoint {
                    host: host.unwrap_or_else(|| host_of(ip)),
                    ip,
                    ports: ports.clone(),
                });
            }
        }
    }
    for list in all.values_mut() {
        // The same endpoint may stand in two slices while it moves from one to the other.
        list.sort_by(|a, b| (a.ip, &a.host).cmp(&(b.ip, &b.host)));
        list.dedup_by(|a, b| a.ip == b.ip && a.host == b.host && a.ports == b.ports);
    }
    all
}

/// The name of an endpoint whose pod has none.
fn host_of(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}
