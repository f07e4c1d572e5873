//! Which EndpointSlices show the Endpoints that a user wrote for a Service without a selector.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::plan::MANAGED_BY as KEPT_BY_US;
use crate::endpoint_slice::{Change, MANAGED_BY, SERVICE_NAME, fit, has_selector, service_of};
use crate::meta::{is_terminating, owned_by, value};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints that are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are a lock, not addresses.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Most addresses of a subset that are mirrored.
const SUBSET_SIZE: usize = 1000;

/// The name of the Endpoints that a slice mirrors, which is also its Service's.
pub(super) fn source_of(slice: &EndpointSlice) -> Option<&str> {
    let ours = value(slice.metadata.labels.as_ref(), MANAGED_BY) == Some(CONTROLLER);
    service_of(slice).filter(|_| ours)
}

/// The plan of one run.
pub(super) fn plan(
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
    slices: &[Arc<EndpointSlice>],
) -> Vec<Change> {
    let source = endpoints.filter(|endpoints| {
        let labels = endpoints.metadata.labels.as_ref();
        let annotations = endpoints.metadata.annotations.as_ref();
        service.is_some_and(|service| !has_selector(service) && !is_terminating(service))
            && !is_terminating(*endpoints)
            && value(labels, SKIP) != Some("true")
            && value(labels, KEPT_BY_US).is_none()
            && value(annotations, LEADER).is_none()
    });
    fit(source.map(wanted).unwrap_or_default(), slices)
}

fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let subsets = endpoints.subsets.as_deref().unwrap_or_default();
    let families = subsets.iter().flat_map(|subset| {
        let family = |of: &'static str| (of, subset, of_family(subset, of));
        [family("IPv4"), family("IPv6")]
    });
    families
        .filter(|(_, _, listed)| !listed.is_empty())
        .map(|(family, subset, listed)| slice(endpoints, family, subset, listed))
        .collect()
}

fn of_family(subset: &EndpointSubset, family: &str) -> Vec<Endpoint> {
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let down = subset.not_ready_addresses.iter().flatten();
    ready
        .chain(down.map(|address| (address, false)))
        .filter(|(address, _)| match address.ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => family == "IPv4",
            Ok(IpAddr::V6(_)) => family == "IPv6",
            Err(_) => false,
        })
        .take(SUBSET_SIZE)
        .map(|(address, ready)| endpoint(address, ready))
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    family: &str,
    subset: &EndpointSubset,
    listed: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), endpoints.name_any());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", endpoints.name_any())),
            namespace: endpoints.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![owned_by(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(listed),
        ports: Some(ports.collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(extra: Value) -> Endpoints {
        let mut meta = json!({"name": "db", "namespace": "ns", "uid": "e"});
        meta.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": meta, "subsets": [{
            "addresses": [{"ip": "10.9.0.1"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.9.0.2"}],
            "ports": [{"port": 5432}],
        }]}))
        .unwrap()
    }

    fn service(selector: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns"},
            "spec": {"selector": selector, "ports": [{"port": 5432}]}}))
        .unwrap()
    }

    #[test]
    fn each_family_of_a_subset_gets_a_slice() {
        let changes = plan(
            Some(&service(json!(null))),
            Some(&endpoints(json!({}))),
            &[],
        );
        let slices: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Create(slice) => slice,
                other => panic!("{other:?}"),
            })
            .collect();
        let shown: Vec<_> = slices
            .iter()
            .map(|slice| {
                let ready = slice.endpoints.iter().flatten().map(|endpoint| {
                    let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
                    (&*endpoint.addresses[0], ready)
                });
                (&*slice.address_type, ready.collect::<Vec<_>>())
            })
            .collect();
        let four = vec![("10.9.0.1", true), ("10.9.0.2", false)];
        assert_eq!(shown, [("IPv4", four), ("IPv6", vec![("fd00::1", true)])]);
        assert_eq!(source_of(slices[0]), Some("db"));
    }

    #[test]
    fn what_others_keep_is_not_mirrored() {
        let free = service(json!(null));
        let none = |service: Option<&Service>, extra: Value| {
            assert!(plan(service, Some(&endpoints(extra)), &[]).is_empty());
        };
        none(Some(&service(json!({"app": "db"}))), json!({}));
        none(None, json!({}));
        none(Some(&free), json!({"labels": {SKIP: "true"}}));
        none(
            Some(&free),
            json!({"labels": {KEPT_BY_US: "endpoint-controller"}}),
        );
        none(Some(&free), json!({"annotations": {LEADER: "{}"}}));
        let changes = plan(Some(&free), Some(&endpoints(json!({}))), &[]);
        let Change::Create(slice) = &changes[0] else {
            panic!("{changes:?}")
        };
        let mut made = (**slice).clone();
        made.metadata.name = Some("db-1".into());
        assert!(
            matches!(&*plan(None, None, &[Arc::new(made)]), [Change::Delete(name)] if name == "db-1")
        );
    }
}
