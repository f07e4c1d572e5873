//! Which Endpoints a Service should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::endpoint_slice::{HEADLESS, Ports, addresses, has_selector, ports, selects};
use crate::meta::{is_terminating, value};
use crate::replica_set::{is_finished, ready_since};

/// Label of the objects that this controller keeps, since Kubernetes 1.33.
pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
/// Says that a Service has more addresses than are listed.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in one object.
const CAPACITY: usize = 1000;

/// One write of the object that is named like the Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<Endpoints>),
    Replace(Box<Endpoints>),
    Delete,
}

/// The plan of one run.
pub(super) fn plan(
    service: Option<&Service>,
    pods: &[Arc<Pod>],
    old: Option<&Endpoints>,
) -> Option<Write> {
    let Some(service) = service.filter(|service| !is_terminating(*service)) else {
        let ours = old.is_some_and(|old| value(old.metadata.labels.as_ref(), MANAGED_BY).is_some());
        return ours.then_some(Write::Delete);
    };
    if !has_selector(service) {
        return None;
    }
    let wanted = endpoints(service, pods);
    let Some(old) = old else {
        return Some(Write::Create(Box::new(wanted)));
    };
    let shown = |object: &Endpoints| {
        let over = value(object.metadata.annotations.as_ref(), OVER_CAPACITY).map(str::to_owned);
        let subsets = object.subsets.clone().unwrap_or_default();
        (object.labels().clone(), over, subsets)
    };
    if shown(old) == shown(&wanted) {
        return None;
    }
    let mut changed = old.clone();
    changed.metadata.labels = wanted.metadata.labels;
    let annotations = changed.metadata.annotations.get_or_insert_default();
    annotations.remove(OVER_CAPACITY);
    annotations.extend(wanted.metadata.annotations.unwrap_or_default());
    changed.subsets = wanted.subsets;
    Some(Write::Replace(Box::new(changed)))
}

fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let spec = service.spec.as_ref();
    let headless = spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels.remove(HEADLESS);
    if headless {
        labels.insert(HEADLESS.into(), String::new());
    }
    let (subsets, truncated) = subsets(service, pods);
    let annotations = truncated.then(|| [(OVER_CAPACITY.to_owned(), "truncated".to_owned())]);
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: annotations.map(BTreeMap::from),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

/// Pods with the same ports share a subset; true when more of them exist than may be listed.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.as_ref();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let no_ports = spec.is_none_or(|spec| spec.ports.as_ref().is_none_or(Vec::is_empty));
    // One address a pod, of the Service's first family.
    let family = spec
        .and_then(|spec| spec.ip_families.as_ref()?.first().cloned())
        .unwrap_or_else(|| "IPv4".into());
    let mut groups: BTreeMap<Ports, [BTreeMap<String, EndpointAddress>; 2]> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| selects(service, pod)) {
        if is_finished(pod) || is_terminating(&**pod) && !publish {
            continue;
        }
        let Some((_, ip)) = addresses(pod).into_iter().find(|(of, _)| *of == family) else {
            continue;
        };
        let ports = ports(service, pod);
        if ports.is_empty() && !no_ports {
            continue;
        }
        let ready = publish || ready_since(pod).is_some();
        let address = address(service, pod, ip.clone());
        let [up, down] = groups.entry(ports).or_default();
        (if ready { up } else { down }).insert(ip, address);
    }
    let total: usize = groups.values().flatten().map(BTreeMap::len).sum();
    let mut left = CAPACITY;
    let mut take = |addresses: BTreeMap<String, EndpointAddress>| {
        let taken: Vec<EndpointAddress> = addresses.into_values().take(left).collect();
        left -= taken.len();
        (!taken.is_empty()).then_some(taken)
    };
    let subsets = groups
        .into_iter()
        .map(|(ports, [up, down])| EndpointSubset {
            addresses: take(up),
            not_ready_addresses: take(down),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
        });
    let listed = subsets
        .filter(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some())
        .collect();
    (listed, total > CAPACITY)
}

fn port(
    (name, protocol, port, app_protocol): (Option<String>, String, i32, Option<String>),
) -> EndpointPort {
    EndpointPort {
        name,
        port,
        protocol: Some(protocol),
        app_protocol,
    }
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.as_ref();
    let same_domain =
        spec.and_then(|spec| spec.subdomain.as_deref()) == service.metadata.name.as_deref();
    EndpointAddress {
        ip,
        hostname: spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|_| same_domain),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    }
}

#[cfg(test)]
mod tests;
