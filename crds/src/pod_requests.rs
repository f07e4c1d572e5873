//! What a pod asks of a node: resources and host ports. The scheduler and the node count alike.

use std::collections::BTreeMap;

use crate::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// Amounts by resource name: milli-units of cpu, units of everything else.
pub type Amounts = BTreeMap<String, i64>;

/// Reads a resource map; an unreadable quantity counts as nothing, since admission refused it.
pub fn amounts(map: Option<&BTreeMap<String, Text>>) -> Amounts {
    map.into_iter()
        .flatten()
        .filter_map(|(name, text)| {
            let quantity = text.0.parse::<Quantity>().ok()?;
            let amount = if name == "cpu" {
                quantity.milli_value()
            } else {
                quantity.value()
            };
            Some((name.clone(), amount))
        })
        .collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.entry(name.clone()).or_default();
        *total = total.saturating_add(*amount);
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let highest = most.entry(name.clone()).or_default();
        *highest = (*highest).max(*amount);
    }
}

fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    amounts(resources.and_then(|resources| resources.requests.as_ref()))
}

/// Requests of the whole pod: the larger of what its containers need together and what the init
/// containers need one after another, sidecars counted from their start on, plus overhead.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &requests(container.resources.as_ref()));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own);
            raise(&mut starting, &together);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &starting);
    // Requests of the pod as a whole replace those of its containers, resource by resource.
    for (name, amount) in requests(spec.resources.as_ref()) {
        running.insert(name, amount);
    }
    add(&mut running, &amounts(spec.overhead.as_ref()));
    running
}

/// A port that the pod occupies on its node: address, protocol and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Address of the node; the unspecified one stands for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number.
    pub port: i32,
}

impl HostPort {
    /// True when both cannot be had on one node; the unspecified address takes all.
    pub fn conflicts(&self, other: &Self) -> bool {
        let wild = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || wild(&self.ip) || wild(&other.ip))
    }
}

/// Host ports of all of the pod's containers.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let of = |container: &Container| container.ports.clone().unwrap_or_default();
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars =
        sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(of)
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port.host_ip.filter(|ip| !ip.is_empty());
            Some(HostPort {
                ip: ip.unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.unwrap_or_else(|| "TCP".into()),
                port: number,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_dearest_moment_of_a_pod_counts() {
        let row = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "a", "resources": row("200m")},
                {"name": "b", "resources": {"requests": {"cpu": "0.3", "memory": "1Ki"}}}],
            "initContainers": [
                {"name": "i", "resources": row("400m")},
                {"name": "side", "restartPolicy": "Always", "resources": row("100m")},
                {"name": "j", "resources": row("900m")}],
            "overhead": {"cpu": "1m"},
        }))
        .unwrap();
        let sum = pod_requests(&spec);
        assert_eq!(sum["cpu"], 1001);
        assert_eq!(sum["memory"], 1024);
    }

    #[test]
    fn host_ports_conflict_on_overlapping_addresses() {
        let port = |ip: &str, number| HostPort {
            ip: ip.into(),
            protocol: "TCP".into(),
            port: number,
        };
        assert!(port("0.0.0.0", 80).conflicts(&port("10.0.0.1", 80)));
        assert!(!port("10.0.0.2", 80).conflicts(&port("10.0.0.1", 80)));
        assert!(!port("0.0.0.0", 81).conflicts(&port("10.0.0.1", 80)));
    }
}
