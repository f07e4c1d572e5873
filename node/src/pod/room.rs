//! The room on this node: what its pods ask for together never exceeds what it has, whoever placed them here.
use std::collections::{BTreeMap, HashMap};

use davit_api::{Amounts, HostPort, Quantity, host_ports, pod_requests};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::config::host_network;
use super::members;
use super::observed::{Failure, Problem};
use crate::inputs::containers;

/// Number of pods, as nodes name it.
const PODS: &str = "pods";

/// What there is and who has it.
#[derive(Debug, Default)]
pub struct Room {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Resources that are not in it are not counted here: they may be the cluster's.
    allocatable: Amounts,
    pods: HashMap<String, Wants>,
}

/// What a pod takes up.
#[derive(Debug)]
struct Wants {
    requests: Amounts,
    ports: Vec<HostPort>,
}

impl Wants {
    fn of(pod: &Pod) -> Self {
        Self {
            requests: pod_requests(members::spec(pod)),
            ports: host_ports(pod),
        }
    }
}

impl Room {
    /// The node has so much for pods from now on. Pods that have room keep it.
    pub fn offer(&self, allocatable: &BTreeMap<String, Quantity>) {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let amount = if name == "cpu" {
                quantity.milli_value()
            } else {
                quantity.value()
            };
            (name.clone(), amount)
        };
        self.inner.lock().allocatable = allocatable.iter().map(amount).collect();
    }

    /// Takes room for a pod, unless it has it already.
    ///
    /// # Errors
    /// There is too little; the pod fails then, as kubelet would have it.
    pub fn take(&self, pod: &Pod) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        let uid = members::uid(pod);
        if inner.pods.contains_key(uid) {
            return Ok(());
        }
        let wants = Wants::of(pod);
        if let Some(failure) = inner.lacking(&wants) {
            return Err(failure);
        }
        inner.pods.insert(uid.to_owned(), wants);
        Ok(())
    }

    /// Counts a pod that runs already.
    pub fn count(&self, pod: &Pod) {
        let mut inner = self.inner.lock();
        let uid = members::uid(pod);
        if !inner.pods.contains_key(uid) {
            inner.pods.insert(uid.to_owned(), Wants::of(pod));
        }
    }

    /// Gives a pod that has room what it asks for now, instead.
    ///
    /// # Errors
    /// The node does not have it: `Infeasible` for ever, `Deferred` until others leave. The pod keeps what it has.
    pub fn resize(&self, pod: &Pod) -> Result<(), Problem> {
        let mut inner = self.inner.lock();
        let (uid, wants) = (members::uid(pod), Wants::of(pod));
        for name in ["memory", "cpu"] {
            let asked = wants.requests.get(name).copied().unwrap_or(0);
            let Some(capacity) = inner.allocatable.get(name).copied() else {
                continue;
            };
            let others = inner.pods.iter().filter(|(other, _)| *other != uid);
            let of = |other: &Wants| other.requests.get(name).copied().unwrap_or(0);
            let used = others
                .map(|(_, other)| of(other))
                .fold(0, i64::saturating_add);
            if asked > capacity {
                let message = format!(
                    "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
                );
                return Err(Problem::new("Infeasible", message));
            }
            if used.saturating_add(asked) > capacity {
                let message = format!(
                    "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, \
                     capacity: {capacity}"
                );
                return Err(Problem::new("Deferred", message));
            }
        }
        inner.pods.insert(uid.to_owned(), wants);
        Ok(())
    }

    /// Gives a pod's room back.
    pub fn leave(&self, uid: &str) {
        self.inner.lock().pods.remove(uid);
    }
}

impl Inner {
    fn lacking(&self, wants: &Wants) -> Option<Failure> {
        let count = i64::try_from(self.pods.len()).unwrap_or(i64::MAX);
        let most = self.allocatable.get(PODS).copied().unwrap_or(i64::MAX);
        if count >= most {
            return Some(out_of(PODS, 1, count, most));
        }
        for (name, amount) in &wants.requests {
            let Some(have) = self.allocatable.get(name) else {
                continue;
            };
            let of = |other: &Wants| other.requests.get(name).copied().unwrap_or(0);
            let used = self.pods.values().map(of).fold(0, i64::saturating_add);
            if *amount > 0 && used.saturating_add(*amount) > *have {
                return Some(out_of(name, *amount, used, *have));
            }
        }
        let mut taken = self.pods.values().flat_map(|other| &other.ports);
        let conflict = taken.any(|taken| wants.ports.iter().any(|port| port.conflicts(taken)));
        conflict.then(|| Failure {
            reason: "NodePorts".into(),
            message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free \
                      ports for the requested pod ports"
                .into(),
        })
    }
}

fn out_of(name: &str, requested: i64, used: i64, capacity: i64) -> Failure {
    Failure {
        reason: format!("OutOf{name}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, \
             used: {used}, capacity: {capacity}"
        ),
    }
}

/// A port of this node that leads to a port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenPort {
    pub(crate) host: HostPort,
    /// The container's.
    pub(crate) port: u16,
}

/// The ports that the node opens for a pod; a pod on the node's own network opens its ports itself.
pub(crate) fn open_ports(pod: &Pod) -> Vec<OpenPort> {
    if host_network(pod) {
        return Vec::new();
    }
    let all = containers(members::spec(pod)).flat_map(|own| own.ports.iter().flatten());
    let open = all.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let ip = port.host_ip.clone().filter(|ip| !ip.is_empty());
        Some(OpenPort {
            host: HostPort {
                ip: ip.unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: number,
            },
            port: u16::try_from(port.container_port).ok()?,
        })
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, requests: &Value, port: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": requests}, "ports": [port]}]}}))
        .unwrap()
    }

    fn room() -> Room {
        let room = Room::default();
        let all = [("cpu", "1"), ("example.com/dongle", "4"), ("pods", "3")];
        let all = all.map(|(name, text)| (name.to_owned(), text.parse().unwrap()));
        room.offer(&all.into());
        room
    }

    #[test]
    fn requests_are_counted_whoever_placed_the_pod() {
        let room = room();
        let none = json!({"containerPort": 1});
        let dongles = |uid: &str, count: i64| {
            pod(
                uid,
                &json!({"example.com/dongle": count.to_string()}),
                &none,
            )
        };
        room.take(&dongles("a", 3)).unwrap();
        room.take(&dongles("a", 3)).unwrap();
        let failure = room.take(&dongles("b", 2)).unwrap_err();
        assert_eq!(failure.reason, "OutOfexample.com/dongle");
        assert!(
            failure
                .message
                .ends_with("requested: 2, used: 3, capacity: 4"),
            "{}",
            failure.message
        );
        room.take(&dongles("c", 1)).unwrap();
        let failure = room
            .take(&pod("d", &json!({"cpu": "1500m"}), &none))
            .unwrap_err();
        assert_eq!(failure.reason, "OutOfcpu");
        // What this node knows nothing of may be the cluster's.
        room.take(&pod("e", &json!({"example.com/other": "9"}), &none))
            .unwrap();
        let failure = room.take(&pod("f", &json!({}), &none)).unwrap_err();
        assert_eq!(failure.reason, "OutOfpods");
        room.leave("a");
        room.take(&dongles("b", 2)).unwrap();
    }

    #[test]
    fn a_port_is_had_once() {
        let room = room();
        let on = |uid: &str, ip: &str, protocol: &str| {
            let port =
                json!({"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol});
            pod(uid, &json!({}), &port)
        };
        room.count(&on("a", "10.0.0.1", "TCP"));
        assert_eq!(
            room.take(&on("b", "", "TCP")).unwrap_err().reason,
            "NodePorts"
        );
        room.take(&on("c", "10.0.0.1", "UDP")).unwrap();
        room.take(&on("d", "10.0.0.2", "TCP")).unwrap();
    }

    #[test]
    fn a_resize_is_given_deferred_or_never_possible() {
        let port = json!({"containerPort": 80});
        let asks = |uid: &str, cpu: &str| pod(uid, &json!({"cpu": cpu}), &port);
        let room = room();
        room.take(&asks("a", "400m")).unwrap();
        room.take(&asks("b", "500m")).unwrap();
        room.resize(&asks("a", "500m")).unwrap();
        let deferred = room.resize(&asks("a", "501m")).unwrap_err();
        assert_eq!(deferred.reason, "Deferred");
        let words = "cpu, requested: 501, used: 500, capacity: 1000";
        assert!(deferred.message.contains(words), "{deferred:?}");
        let never = room.resize(&asks("a", "1001m")).unwrap_err();
        assert_eq!(never.reason, "Infeasible");
        // What was not given was not taken.
        room.resize(&asks("b", "500m")).unwrap();
        room.leave("b");
        room.resize(&asks("a", "1")).unwrap();
    }

    #[test]
    fn pods_on_the_nodes_network_open_their_ports_themselves() {
        let port = json!({"containerPort": 80, "hostPort": 8080});
        let mut pod = pod("a", &json!({}), &port);
        assert_eq!(open_ports(&pod).len(), 1);
        pod.spec.as_mut().unwrap().host_network = Some(true);
        assert_eq!(open_ports(&pod), []);
    }
}
