//! Addresses outside of the cluster that Services take: `externalIPs`, and what load balancers report (CVE-2020-8554).
//!
//! Every node leads packets for such an address to the Service's endpoints, whoever the address belongs to. One that is in use
//! is therefore never taken. Any other one is an administrator's to give: by the ranges of `--external-ips`, or by the right to
//! `services/status`, which only load balancers need.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use davit_api::SpecialAddress;
use ipnet::IpNet;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};
use crate::schema::FieldError;

/// What the server itself knows of addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Ranges whose addresses Services may take.
    pub(crate) open: Vec<IpNet>,
    /// The range of Services' own addresses.
    pub(crate) services: Option<IpNet>,
    /// The server's own addresses.
    pub(crate) own: Vec<IpAddr>,
}

pub(super) struct ExternalAddresses {
    source: Arc<dyn ObjectSource>,
    known: Known,
}

impl ExternalAddresses {
    pub(super) fn new(source: Arc<dyn ObjectSource>, known: Known) -> Self {
        Self { source, known }
    }

    fn check(&self, request: &Request<'_>, service: &Value) -> Vec<FieldError> {
        let old = request.old.unwrap_or(&Value::Null);
        // Looked for at most once: all pods and Services are gone through for it.
        let holders = LazyCell::new(|| self.holders(request.namespace));
        let held = |address: IpAddr| {
            holders
                .get(&address)
                .map(|who| format!("{address} is {who}"))
        };
        if request.subresource == "status" {
            let before: Vec<IpAddr> = balanced(old).map(|(_, address)| address).collect();
            let new = balanced(service).filter(|(_, address)| !before.contains(address));
            let fault = |(index, address)| {
                let fault = self.in_range(address).or_else(|| held(address))?;
                let path = format!("status.loadBalancer.ingress[{index}].ip");
                let remedy = "an address that others serve is reported with ipMode Proxy";
                Some(FieldError::forbidden(path, format!("{fault}; {remedy}")))
            };
            return new.filter_map(fault).collect();
        }
        let before: Vec<IpAddr> = external(old).map(|(_, address)| address).collect();
        let new = external(service).filter(|(_, address)| !before.contains(address));
        let fault = |(index, address)| {
            let fault = self.in_range(address).or_else(|| self.closed(address));
            let fault = fault.or_else(|| held(address))?;
            Some(FieldError::forbidden(
                format!("spec.externalIPs[{index}]"),
                fault,
            ))
        };
        new.filter_map(fault).collect()
    }

    /// Why an address that is nobody's may not be taken.
    fn closed(&self, address: IpAddr) -> Option<String> {
        let open = self.known.open.iter().any(|net| net.contains(&address));
        (!open).then(|| {
            format!(
                "{address} is in no range that Services may take addresses from; an administrator opens one with \
                 --external-ips"
            )
        })
    }

    /// What an address is for, whoever has it.
    fn in_range(&self, address: IpAddr) -> Option<String> {
        if let Some(special) = SpecialAddress::of(address) {
            return Some(format!("{address} {}", special.fault()));
        }
        let of = |what: String| Some(format!("{address} is {what}"));
        let within = |kind: Kind, fields: &str| self.with_range(kind, fields, address);
        if self
            .known
            .services
            .is_some_and(|net| net.contains(&address))
            || within(Kind::SERVICE_CIDRS, "/spec/cidrs").is_some()
        {
            return of("in the range of Services".to_owned());
        }
        if let Some(network) = within(Kind::NETWORKS, "/spec/subnets") {
            return of(format!("in the range of the network {network:?}"));
        }
        if self.known.own.contains(&address) {
            return of("the address of the API server".to_owned());
        }
        let text = address.to_string();
        let taken = self.source.get(Kind::IP_ADDRESSES, "", &text).is_some();
        taken.then(|| format!("{address} is the address of a Service"))
    }

    /// The object that has ranges with an address in them.
    fn with_range(&self, kind: Kind, ranges: &str, address: IpAddr) -> Option<String> {
        self.objects(kind).find_map(|object| {
            let ranges = object.pointer(ranges)?.as_array()?;
            let mut nets = ranges
                .iter()
                .filter_map(|net| net.as_str()?.parse::<IpNet>().ok());
            nets.any(|net| net.contains(&address))
                .then(|| name(&object))
        })
    }

    /// The addresses of nodes, of pods, and of Services of other namespaces. Names of other tenants' objects are not told.
    fn holders(&self, namespace: &str) -> HashMap<IpAddr, String> {
        let mut all = HashMap::new();
        for service in self.objects(Kind::SERVICES) {
            let mut taken: Vec<IpAddr> = items(&service["spec"]["clusterIPs"])
                .filter_map(parse)
                .collect();
            if service["metadata"]["namespace"] != namespace {
                taken.extend(external(&service).map(|(_, address)| address));
                taken.extend(balanced(&service).map(|(_, address)| address));
            }
            let who = "the address of a Service of another namespace";
            all.extend(taken.into_iter().map(|address| (address, who.to_owned())));
        }
        for pod in self.objects(Kind::PODS) {
            let who = if pod["metadata"]["namespace"] == namespace {
                format!("the address of the pod {:?}", name(&pod))
            } else {
                "the address of a pod of another namespace".to_owned()
            };
            let status = &pod["status"];
            let many = items(&status["podIPs"]).map(|entry| &entry["ip"]);
            let addresses = many.chain([&status["podIP"]]).filter_map(parse);
            all.extend(addresses.map(|address| (address, who.clone())));
        }
        for node in self.objects(Kind::NODES) {
            let who = format!("an address of the node {:?}", name(&node));
            let addresses = items(&node["status"]["addresses"]);
            let addresses = addresses.filter_map(|entry| parse(&entry["address"]));
            all.extend(addresses.map(|address| (address, who.clone())));
        }
        all
    }

    fn objects(&self, kind: Kind) -> impl Iterator<Item = Value> + use<> {
        let objects = self.source.list(kind, "").into_iter();
        objects.filter_map(|bytes| serde_json::from_slice(&bytes).ok())
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn parse(text: &Value) -> Option<IpAddr> {
    let parsed: Option<IpAddr> = text.as_str().and_then(|text| text.parse().ok());
    parsed.map(|address| address.to_canonical())
}

/// The external addresses of a Service, with their places.
fn external(service: &Value) -> impl Iterator<Item = (usize, IpAddr)> + '_ {
    let all = items(&service["spec"]["externalIPs"]).enumerate();
    all.filter_map(|(index, text)| Some((index, parse(text)?)))
}

/// The addresses of a Service's load balancer that nodes lead to it, with their places.
fn balanced(service: &Value) -> impl Iterator<Item = (usize, IpAddr)> + '_ {
    let all = items(&service["status"]["loadBalancer"]["ingress"]).enumerate();
    let led = all.filter(|(_, ingress)| ingress["ipMode"] != "Proxy");
    led.filter_map(|(index, ingress)| Some((index, parse(&ingress["ip"])?)))
}

#[async_trait]
impl Plugin for ExternalAddresses {
    fn name(&self) -> &'static str {
        "ExternalAddresses"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        (request.group, request.resource) == ("", "services")
            && matches!(request.subresource, "" | "status")
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let errors = self.check(request, object);
        if errors.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid { errors })
    }
}

#[cfg(test)]
mod tests;
