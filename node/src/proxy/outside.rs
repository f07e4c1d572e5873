//! Which addresses outside of the cluster a Service is reached at. Pure.
//!
//! The API server asks the same when somebody writes them; what is in use since, or was written before it asked, is refused
//! here once more, because packets follow these rules and not the API server's.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use davit_api::SpecialAddress;
use k8s_openapi::api::core::v1::Service;

use super::plan::{View, is_served};

/// An address that a Service names and is not reached at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Refused {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) message: String,
}

/// Who names an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The Service, which any tenant writes.
    Service,
    /// A load balancer, in the status.
    Balancer,
}

/// Addresses that are taken, and by which namespace outside ones are.
pub(super) struct Outside<'a> {
    view: &'a View<'a>,
    cluster: HashSet<IpAddr>,
    first: HashMap<IpAddr, &'a str>,
}

impl<'a> Outside<'a> {
    pub(super) fn of(view: &'a View<'a>) -> Self {
        let mut services: Vec<&Service> = view.services.to_vec();
        services.sort_by_key(|service| {
            let metadata = &service.metadata;
            let age = metadata.creation_timestamp.clone();
            (age, metadata.namespace.clone(), metadata.name.clone())
        });
        let specs = services.iter().filter_map(|service| service.spec.as_ref());
        let ips = specs.flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        let mut outside = Self {
            view,
            cluster: ips.filter_map(|ip| parse(ip)).collect(),
            first: HashMap::new(),
        };
        for service in services
            .iter()
            .copied()
            .filter(|service| is_served(service))
        {
            for (by, address) in named(service) {
                if outside.fault_of(by, address).is_none() {
                    let first = outside.first.entry(address);
                    first.or_insert_with(|| namespace(service));
                }
            }
        }
        outside
    }

    /// The addresses a Service is reached at.
    pub(super) fn led(&self, service: &Service) -> Vec<IpAddr> {
        let all = named(service);
        all.filter(|(by, address)| self.fault(service, *by, *address).is_none())
            .map(|(_, address)| address)
            .collect()
    }

    pub(super) fn refused(&self, service: &Service) -> Vec<Refused> {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let refused = named(service).filter_map(|(by, address)| {
            let fault = self.fault(service, by, address)?;
            Some(Refused {
                namespace: text(&service.metadata.namespace),
                name: text(&service.metadata.name),
                uid: text(&service.metadata.uid),
                message: format!("the Service is not reached at {address}: {fault}"),
            })
        });
        refused.collect()
    }

    /// Why a Service is not reached at an address.
    fn fault(&self, service: &Service, by: By, address: IpAddr) -> Option<String> {
        let other = || {
            let its_own = self.first.get(&address) == Some(&namespace(service));
            (!its_own).then(|| "a Service of another namespace has it".to_owned())
        };
        self.fault_of(by, address).or_else(other)
    }

    /// Why no Service is reached at an address.
    fn fault_of(&self, by: By, address: IpAddr) -> Option<String> {
        let view = self.view;
        if let Some(special) = SpecialAddress::of(address) {
            return Some(format!("it {}", special.fault()));
        }
        if self.cluster.contains(&address) {
            return Some("it is the address of a Service".to_owned());
        }
        if view.pods.iter().any(|net| net.contains(&address)) {
            return Some("it is in the range of a network of pods".to_owned());
        }
        if view.nodes.contains(&address) {
            return Some("it is the address of a node".to_owned());
        }
        if by == By::Service && !view.open.iter().any(|net| net.contains(&address)) {
            return Some(
                "it is in no range that this node was told Services may take addresses from (--external-ips)".to_owned(),
            );
        }
        None
    }
}

fn namespace(service: &Service) -> &str {
    service.metadata.namespace.as_deref().unwrap_or_default()
}

fn parse(text: &str) -> Option<IpAddr> {
    text.parse().map(|ip: IpAddr| ip.to_canonical()).ok()
}

/// External addresses, and those of load balancers but for the ones that are routed to a balancer of others.
fn named(service: &Service) -> impl Iterator<Item = (By, IpAddr)> + '_ {
    let external = service
        .spec
        .iter()
        .flat_map(|spec| spec.external_ips.iter().flatten());
    let status = service.status.as_ref();
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let routed = ingress
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let balancers = routed.filter_map(|ingress| ingress.ip.as_ref());
    let external = external.map(|ip| (By::Service, ip));
    let all = external.chain(balancers.map(|ip| (By::Balancer, ip)));
    all.filter_map(|(by, ip)| Some((by, parse(ip)?)))
}
