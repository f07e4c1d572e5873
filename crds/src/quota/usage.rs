//! What one object counts.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::scope::Facts;
use super::{Amounts, Counting, pod};
use crate::Quantity;

const BY_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// The most devices one claim can have, which is what a request for all devices counts as.
const MOST_DEVICES: i64 = 32;
/// Kinds of the core group that can also be counted without `count/`.
const PLAIN_COUNTS: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// What one object counts, and what scopes ask about it.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Its usage of everything it counts against.
    pub usage: Amounts,
    /// Resources that a quota on them makes mandatory, with the containers that do not name them.
    pub(super) unset: Vec<(&'static str, Vec<String>)>,
    pub(super) facts: Facts,
}

impl Counted {
    /// What an object counts at a time. A pod no longer counts as running when it has ended, or when the period it was
    /// given to end is over.
    #[must_use]
    pub fn of(kind: &Counting, object: &Value, now: Timestamp) -> Self {
        let mut counted = Self::default();
        counted.add(kind.count_name(), Quantity::from_int(1));
        match (kind.group.as_str(), kind.plural.as_str()) {
            ("", "pods") => pod::count(&mut counted, object, now),
            ("", "services") => service(&mut counted, object),
            ("", "persistentvolumeclaims") => claim(&mut counted, object),
            ("resource.k8s.io", "resourceclaims") => devices(&mut counted, object),
            ("", plain) if PLAIN_COUNTS.contains(&plain) => {
                counted.add(plain.to_owned(), Quantity::from_int(1));
            }
            _ => {}
        }
        counted
    }

    pub(super) fn add(&mut self, name: String, amount: Quantity) {
        let sum = self.usage.entry(name).or_default();
        *sum += amount;
    }
}

/// Whether objects of the kind count against a resource of this name.
#[must_use]
pub fn counts(kind: &Counting, name: &str) -> bool {
    if name == kind.count_name() {
        return true;
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::counts(name),
        ("", "services") => {
            matches!(
                name,
                "services" | "services.nodeports" | "services.loadbalancers"
            )
        }
        ("", "persistentvolumeclaims") => {
            let plain = name
                .split_once(BY_STORAGE_CLASS)
                .map_or(name, |(_, plain)| plain);
            matches!(plain, "persistentvolumeclaims" | "requests.storage")
        }
        ("resource.k8s.io", "resourceclaims") => name.ends_with(BY_DEVICE_CLASS),
        ("", plain) => plain == name && PLAIN_COUNTS.contains(&plain),
        _ => false,
    }
}

fn service(counted: &mut Counted, service: &Value) {
    let spec = &service["spec"];
    let ports = spec["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let all = ports.len() as i64;
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (all, 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            let given = ports
                .iter()
                .filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
            (given.count() as i64, 1)
        }
        Some("LoadBalancer") => (all, 1),
        _ => (0, 0),
    };
    counted.add("services".to_owned(), Quantity::from_int(1));
    counted.add(
        "services.nodeports".to_owned(),
        Quantity::from_int(node_ports),
    );
    counted.add(
        "services.loadbalancers".to_owned(),
        Quantity::from_int(balancers),
    );
}

fn claim(counted: &mut Counted, claim: &Value) {
    let annotated = claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = annotated
        .or_else(|| claim.pointer("/spec/storageClassName"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let by_class = |name: &str| format!("{class}{BY_STORAGE_CLASS}{name}");
    let claims = "persistentvolumeclaims";
    counted.add(claims.to_owned(), Quantity::from_int(1));
    if !class.is_empty() {
        counted.add(by_class(claims), Quantity::from_int(1));
    }
    if let Some(size) = claim_size(claim) {
        let storage = "requests.storage";
        counted.add(storage.to_owned(), size);
        if !class.is_empty() {
            counted.add(by_class(storage), size);
        }
    }
    let names = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    let names = names.iter().filter_map(|at| claim.pointer(at)?.as_str());
    let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
    counted.facts.attribute_classes = Some(names.collect());
}

/// Whole bytes asked for or, while a claim shrinks back, still allocated.
fn claim_size(claim: &Value) -> Option<Quantity> {
    let whole = |at: &str| {
        let amount = pod::quantity(claim.pointer(at)?)?;
        Some(Quantity::from_int(amount.value()).with_format(amount.format()))
    };
    let asked = whole("/spec/resources/requests/storage")?;
    Some(whole("/status/allocatedResources/storage").map_or(asked, |has| asked.max(has)))
}

/// The devices a claim may get, by class; of alternatives the largest number.
fn devices(counted: &mut Counted, claim: &Value) {
    let number = |request: &Value| match request["allocationMode"].as_str() {
        Some("All") => MOST_DEVICES,
        _ => request["count"].as_i64().unwrap_or(1),
    };
    let requests = claim.pointer("/spec/devices/requests");
    for request in requests.and_then(Value::as_array).into_iter().flatten() {
        let mut most = Amounts::new();
        let choices = request["firstAvailable"].as_array();
        for choice in choices.into_iter().flatten().chain(request.get("exactly")) {
            if let Some(class) = choice["deviceClassName"].as_str() {
                let amount = Quantity::from_int(number(choice));
                let have = most.entry(format!("{class}{BY_DEVICE_CLASS}")).or_default();
                *have = (*have).max(amount);
            }
        }
        for (name, amount) in most {
            counted.add(name, amount);
        }
    }
}
