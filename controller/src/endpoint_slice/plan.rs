//! Which EndpointSlices a Service should have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::meta::{is_terminating, owned_by, value};
use crate::replica_set::{is_finished, ready_since};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Label of slices whose Service has no cluster IP.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Most endpoints in one slice.
const SLICE_SIZE: usize = 100;

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create(Box<EndpointSlice>),
    Replace(Box<EndpointSlice>),
    Delete(String),
}

/// Name of the Service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<&str> {
    value(slice.metadata.labels.as_ref(), SERVICE_NAME)
}

/// True for a slice that this controller keeps for this Service.
pub(crate) fn is_ours(slice: &EndpointSlice, service: &Service) -> bool {
    service_of(slice) == service.metadata.name.as_deref()
        && value(slice.metadata.labels.as_ref(), MANAGED_BY) == Some(CONTROLLER)
}

/// What the Service selects pods by; none if others keep its endpoints, or it has none.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty() && !external)
}

/// True when the Service's endpoints are pods that it selects.
pub(crate) fn has_selector(service: &Service) -> bool {
    selector(service).is_some()
}

/// True when the Service's selector matches the pod.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|selector| {
        selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

/// Ports as a group of pods has them: named target ports may differ from pod to pod.
pub(crate) type Ports = Vec<(Option<String>, String, i32, Option<String>)>;

/// The plan of one run; `zone_of` tells a node's zone.
pub(crate) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<Change> {
    let mut groups: BTreeMap<(String, Ports), Vec<Endpoint>> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| selects(service, pod) && !is_finished(pod))
    {
        for (family, address) in addresses(pod) {
            let endpoint = endpoint(service, pod, address, &zone_of);
            groups
                .entry((family.to_owned(), ports(service, pod)))
                .or_default()
                .push(endpoint);
        }
    }
    let mut wanted = Vec::new();
    if is_terminating(service) {
        groups.clear();
    } else if has_selector(service) {
        // One without endpoints says that there are none, which is more than no slice does.
        let published = |family: &str| groups.keys().any(|(other, _)| other == family);
        let missing = families(service)
            .into_iter()
            .filter(|family| !published(family));
        wanted.extend(missing.map(|family| slice(service, &family, &Ports::new(), Vec::new())));
    }
    for ((family, ports), endpoints) in groups {
        let chunks = endpoints.chunks(SLICE_SIZE);
        wanted.extend(chunks.map(|chunk| slice(service, &family, &ports, chunk.to_vec())));
    }
    fit(wanted, slices)
}

/// The address families that the Service has.
fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.ip_families.clone());
    listed
        .filter(|families| !families.is_empty())
        .unwrap_or_else(|| {
            let ip = spec.and_then(|spec| spec.cluster_ip.as_deref());
            let v6 = ip.is_some_and(|ip| ip.contains(':'));
            vec![if v6 { "IPv6" } else { "IPv4" }.to_owned()]
        })
}

/// The writes that turn the slices that exist into those that are wanted: each into one of its shape where there is one,
/// else into one of its family that is left over.
pub(crate) fn fit(wanted: Vec<EndpointSlice>, slices: &[Arc<EndpointSlice>]) -> Vec<Change> {
    let mut free: Vec<Arc<EndpointSlice>> = slices.to_vec();
    let mut changes = Vec::new();
    let mut new = Vec::new();
    for wanted in wanted {
        let same_shape = free
            .iter()
            .position(|old| old.address_type == wanted.address_type && same_ports(old, &wanted));
        match same_shape.map(|index| free.remove(index)) {
            Some(old) if same(&old, &wanted) => {}
            Some(old) => changes.push(Change::Replace(Box::new(carry_on(&old, wanted)))),
            None => new.push(wanted),
        }
    }
    for wanted in new {
        let spare = free
            .iter()
            .position(|old| old.address_type == wanted.address_type);
        changes.push(match spare.map(|index| free.remove(index)) {
            Some(old) => Change::Replace(Box::new(carry_on(&old, wanted))),
            None => Change::Create(Box::new(wanted)),
        });
    }
    changes.extend(free.iter().map(|old| Change::Delete(old.name_any())));
    changes
}

/// Empty lists are stored or left out, as the client likes.
fn same_ports(old: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    old.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
}

fn same(old: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let endpoints = |slice: &EndpointSlice| slice.endpoints.clone().unwrap_or_default();
    endpoints(old) == endpoints(wanted) && old.metadata.labels == wanted.metadata.labels
}

/// The wanted content under the old object's identity.
fn carry_on(old: &EndpointSlice, mut wanted: EndpointSlice) -> EndpointSlice {
    wanted.metadata.name = old.metadata.name.clone();
    wanted.metadata.generate_name = None;
    wanted.metadata.uid = old.metadata.uid.clone();
    wanted.metadata.resource_version = old.metadata.resource_version.clone();
    wanted
}

fn slice(
    service: &Service,
    family: &str,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.into(), service.name_any());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let cluster_ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    if cluster_ip == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![owned_by(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(
            ports
                .iter()
                .map(|(name, protocol, port, app_protocol)| EndpointPort {
                    name: Some(name.clone().unwrap_or_default()),
                    protocol: Some(protocol.clone()),
                    port: Some(*port),
                    app_protocol: app_protocol.clone(),
                })
                .collect(),
        ),
    }
}

/// The pod's addresses with their families.
pub(crate) fn addresses(pod: &Pod) -> Vec<(&'static str, String)> {
    let status = pod.status.as_ref();
    let listed = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    listed
        .iter()
        .filter_map(|entry| match entry.ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => Some(("IPv4", entry.ip.clone())),
            Ok(IpAddr::V6(_)) => Some(("IPv6", entry.ip.clone())),
            Err(_) => None,
        })
        .collect()
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    address: String,
    zone_of: &impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let spec = pod.spec.as_ref();
    let publish = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses);
    let serving = ready_since(pod).is_some();
    let terminating = is_terminating(pod);
    let node = spec.and_then(|spec| spec.node_name.clone());
    let same_domain =
        spec.and_then(|spec| spec.subdomain.as_deref()) == service.metadata.name.as_deref();
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish == Some(true) || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|_| same_domain),
        zone: node.as_deref().and_then(zone_of),
        node_name: node,
        target_ref: Some(k8s_openapi::api::core::v1::ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.meta().uid.clone(),
            ..Default::default()
        }),
        ..Endpoint::default()
    }
}

/// The Service's ports as this pod serves them; a named target port that it lacks is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Ports {
    let declared = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    declared
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = target(port, &protocol, pod)?;
            Some((
                port.name.clone(),
                protocol,
                number,
                port.app_protocol.clone(),
            ))
        })
        .collect()
}

fn target(port: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            containers
                .iter()
                .flat_map(|container| container.ports.as_deref().unwrap_or_default())
                .find(|port| {
                    port.name.as_deref() == Some(name)
                        && port.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|port| port.container_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool, extra: Value) -> Arc<Pod> {
        let mut meta = json!({"name": name, "namespace": "ns", "uid": name,
            "labels": {"app": "web"}});
        meta.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        Arc::new(
            serde_json::from_value(json!({
                "metadata": meta,
                "spec": {"nodeName": "n", "containers": [
                    {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [
                    {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn plan_of(pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Vec<Change> {
        plan(&service(), pods, slices, |_| Some("zone-a".into()))
    }

    #[test]
    fn ready_pods_are_published_with_their_own_port() {
        let pods = [
            pod("a", "10.1.0.1", true, json!({})),
            pod("b", "10.1.0.2", false, json!({})),
        ];
        let changes = plan_of(&pods, &[]);
        let [Change::Create(slice)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let endpoints = slice.endpoints.as_ref().unwrap();
        let shown: Vec<_> = endpoints
            .iter()
            .map(|e| {
                (
                    e.addresses[0].as_str(),
                    e.conditions.as_ref().unwrap().ready.unwrap(),
                )
            })
            .collect();
        assert_eq!(shown, [("10.1.0.1", true), ("10.1.0.2", false)]);
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
        assert_eq!(endpoints[0].zone.as_deref(), Some("zone-a"));
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let pods = [pod("a", "10.1.0.1", true, json!({}))];
        let changes = plan_of(&pods, &[]);
        let [Change::Create(slice)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let mut stored = (**slice).clone();
        stored.metadata.name = Some("web-x".into());
        let stored = [Arc::new(stored)];
        assert!(plan_of(&pods, &stored).is_empty());
        let more = [pods[0].clone(), pod("b", "10.1.0.2", true, json!({}))];
        assert!(matches!(plan_of(&more, &stored).as_slice(),
            [Change::Replace(slice)] if slice.metadata.name.as_deref() == Some("web-x")));
        let changes = plan_of(&[], &stored);
        let [Change::Replace(empty)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(empty.metadata.name.as_deref(), Some("web-x"));
        assert_eq!(empty.endpoints, Some(Vec::new()));
    }

    #[test]
    fn a_service_that_matches_nothing_has_an_empty_slice_of_each_family() {
        let mut both = service();
        let families = vec!["IPv4".to_owned(), "IPv6".to_owned()];
        both.spec.as_mut().unwrap().ip_families = Some(families);
        let plan_of = |service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]| {
            let changes = plan(service, pods, slices, |_| None).into_iter();
            let made = changes.map(|change| match change {
                Change::Create(slice) => Arc::new(*slice),
                other => panic!("{other:?}"),
            });
            made.collect::<Vec<_>>()
        };
        let made = plan_of(&both, &[], &[]);
        let shown: Vec<_> = made
            .iter()
            .map(|slice| {
                (
                    slice.address_type.as_str(),
                    slice.endpoints.as_ref().unwrap().len(),
                )
            })
            .collect();
        assert_eq!(shown, [("IPv4", 0), ("IPv6", 0)]);
        assert!(plan_of(&both, &[], &made).is_empty());
        // Of a family that has a pod it goes over to the pod.
        let pods = [pod("a", "10.1.0.1", true, json!({}))];
        let changes = plan(&both, &pods, &made, |_| None);
        assert!(
            matches!(changes.as_slice(), [Change::Replace(slice)] if slice.address_type == "IPv4"),
            "{changes:?}"
        );
        let mut without = service();
        without.spec.as_mut().unwrap().selector = None;
        assert!(plan_of(&without, &[], &[]).is_empty());
        let mut leaving = service();
        leaving.metadata.deletion_timestamp = Some(crate::meta::now());
        assert!(plan_of(&leaving, &[], &[]).is_empty());
    }

    #[test]
    fn a_leaving_pod_serves_but_is_not_ready() {
        let leaving = json!({"deletionTimestamp": "2030-01-01T00:00:00Z"});
        let changes = plan_of(&[pod("a", "10.1.0.1", true, leaving)], &[]);
        let [Change::Create(slice)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let conditions = slice.endpoints.as_ref().unwrap()[0]
            .conditions
            .clone()
            .unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
    }

    #[test]
    fn large_services_are_cut_into_slices_by_family() {
        let mut pods: Vec<_> = (0..150)
            .map(|n| pod(&format!("p{n}"), &format!("10.1.0.{n}"), true, json!({})))
            .collect();
        pods.push(pod("six", "fd00::7", true, json!({})));
        let changes = plan_of(&pods, &[]);
        let sizes: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Create(slice) => (
                    slice.address_type.clone(),
                    slice.endpoints.as_ref().unwrap().len(),
                ),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            sizes,
            [
                ("IPv4".into(), 100),
                ("IPv4".into(), 50),
                ("IPv6".into(), 1)
            ]
        );
    }
}
