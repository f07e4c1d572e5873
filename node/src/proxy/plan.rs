//! From Services and EndpointSlices to doors. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoints::{Endpoints, of_port, slices_of};
use super::outside::{Outside, Refused};
use crate::network::nft::services::{Door, Masquerade, Target};

/// Services with this label are served by somebody else.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// Kubernetes' default.
const STICKY_SECONDS: u32 = 3 * 60 * 60;

/// What the doors of a node are made from.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) node: &'a str,
    pub(crate) services: &'a [&'a Service],
    pub(crate) slices: &'a [&'a EndpointSlice],
    /// Ranges of the pod networks.
    pub(crate) pods: &'a [IpNet],
    /// Addresses of nodes.
    pub(crate) nodes: &'a [IpAddr],
    /// Ranges outside of the cluster that Services may take addresses from.
    pub(crate) open: &'a [IpNet],
    /// Whether packets between pods of one bridge pass the rules in both directions. Where they do not, an answer
    /// would come past the rules, so every client is masqueraded.
    pub(crate) bridges_are_seen: bool,
    /// What this node serves by itself.
    pub(crate) relays: &'a [Relay],
}

/// A port of this node that serves a port of a Service as long as the Service has no endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    /// Namespace and name of the Service.
    pub(crate) service: (&'static str, &'static str),
    /// Name of its port.
    pub(crate) port: &'static str,
    /// The port of this node.
    pub(crate) to: u16,
}

impl Relay {
    /// To an API server that only this machine reaches.
    pub(crate) fn to_api(to: u16) -> Self {
        let service = ("default", "kubernetes");
        Self {
            service,
            port: "https",
            to,
        }
    }

    /// To the name server of this node, over both transports.
    pub(crate) fn to_names(to: u16) -> [Self; 2] {
        let service = ("kube-system", "kube-dns");
        ["dns", "dns-tcp"].map(|port| Self { service, port, to })
    }
}

/// All doors of this node, in the order of the Services.
pub(crate) fn plan(view: &View<'_>) -> Vec<Door> {
    let outside = Outside::of(view);
    let served = view.services.iter().filter(|service| is_served(service));
    served
        .flat_map(|service| doors_of(view, &outside, service))
        .collect()
}

/// Addresses that Services name and have no doors at.
pub(crate) fn refused(view: &View<'_>) -> Vec<Refused> {
    let outside = Outside::of(view);
    let served = view.services.iter().filter(|service| is_served(service));
    served
        .flat_map(|service| outside.refused(service))
        .collect()
}

pub(super) fn is_served(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let elsewhere = labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    let spec = service.spec.as_ref();
    let has_address = spec.is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName")
            && !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"))
    });
    has_address && !elsewhere
}

fn doors_of(view: &View<'_>, outside: &Outside<'_>, service: &Service) -> Vec<Door> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let slices: Vec<&EndpointSlice> = slices_of(service, view.slices).collect();
    let led = outside.led(service);
    let mut doors = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            continue;
        };
        for is_v4 in [true, false] {
            let maker = Maker {
                view,
                service,
                spec,
                port,
                protocol,
                is_v4,
                endpoints: of_port(&slices, port, is_v4, view.node),
            };
            doors.extend(maker.cluster_doors());
            doors.extend(maker.outside_doors(&led));
        }
    }
    doors
}

/// Number of the transport protocol.
pub(super) fn protocol(name: Option<&str>) -> Option<u8> {
    match name {
        None | Some("TCP") => Some(6),
        Some("UDP") => Some(17),
        Some("SCTP") => Some(132),
        Some(_) => None,
    }
}

/// The doors of one port and family.
struct Maker<'a> {
    view: &'a View<'a>,
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a ServicePort,
    protocol: u8,
    is_v4: bool,
    endpoints: Endpoints,
}

impl Maker<'_> {
    fn cluster_doors(&self) -> Vec<Door> {
        let local = self.spec.internal_traffic_policy.as_deref() == Some("Local");
        let masquerade = if self.view.bridges_are_seen {
            Masquerade::OthersThan(self.view.pods.to_vec())
        } else {
            Masquerade::Everybody
        };
        let target = match self.relay() {
            Some(relay) if self.endpoints.all.is_empty() => Target::Here(relay.to),
            _ if !local => Target::Endpoints(self.endpoints.all.clone()),
            _ => self.of_this_node(),
        };
        let ips = self
            .spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&self.spec.cluster_ip);
        let mut ips: Vec<IpAddr> = self.own_family(ips);
        ips.dedup();
        let door = |ip| self.door(Some(ip), self.port.port, &target, &masquerade);
        ips.into_iter().filter_map(door).collect()
    }

    /// Node ports, external addresses and those of load balancers.
    fn outside_doors(&self, led: &[IpAddr]) -> Vec<Door> {
        let local = self.spec.external_traffic_policy.as_deref() == Some("Local");
        let (target, masquerade) = if local {
            (self.of_this_node(), Masquerade::Nobody)
        } else {
            let all = Target::Endpoints(self.endpoints.all.clone());
            (all, Masquerade::Everybody)
        };
        let mut doors: Vec<Door> = led
            .iter()
            .filter(|ip| ip.is_ipv4() == self.is_v4)
            .filter_map(|ip| self.door(Some(*ip), self.port.port, &target, &masquerade))
            .collect();
        if let Some(port) = self.port.node_port.filter(|port| *port != 0)
            && self.has_family()
        {
            doors.extend(self.door(None, port, &target, &masquerade));
        }
        doors
    }

    fn of_this_node(&self) -> Target {
        if self.endpoints.here.is_empty() && !self.endpoints.all.is_empty() {
            return Target::Silence;
        }
        Target::Endpoints(self.endpoints.here.clone())
    }

    fn relay(&self) -> Option<&Relay> {
        let metadata = &self.service.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let port = self.port.name.as_deref();
        self.view.relays.iter().find(|relay| {
            let (its_namespace, its_name) = relay.service;
            namespace == Some(its_namespace) && name == Some(its_name) && port == Some(relay.port)
        })
    }

    /// For how many seconds a client that does not come again belongs to its endpoint.
    fn sticky(&self) -> Option<u32> {
        if self.spec.session_affinity.as_deref() != Some("ClientIP") {
            return None;
        }
        let config = self.spec.session_affinity_config.as_ref();
        let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        Some(seconds.unwrap_or(STICKY_SECONDS))
    }

    fn has_family(&self) -> bool {
        let family = if self.is_v4 { "IPv4" } else { "IPv6" };
        match &self.spec.ip_families {
            Some(families) => families.iter().any(|listed| listed == family),
            None => !self.own_family(&self.spec.cluster_ip).is_empty(),
        }
    }

    fn own_family<'i>(&self, ips: impl IntoIterator<Item = &'i String>) -> Vec<IpAddr> {
        let parsed = ips.into_iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        parsed.filter(|ip| ip.is_ipv4() == self.is_v4).collect()
    }

    fn door(
        &self,
        address: Option<IpAddr>,
        port: i32,
        target: &Target,
        masquerade: &Masquerade,
    ) -> Option<Door> {
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let metadata = &self.service.metadata;
        Some(Door {
            label: format!(
                "{}/{}:{}",
                name(&metadata.namespace),
                name(&metadata.name),
                name(&self.port.name)
            ),
            protocol: self.protocol,
            address,
            is_v4: self.is_v4,
            port: u16::try_from(port).ok()?,
            target: target.clone(),
            masquerade: masquerade.clone(),
            sticky: self.sticky(),
        })
    }
}
