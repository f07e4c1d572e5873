//! The scheduler's view: nodes with the pods on them, and bindings just made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use davit_api::{Amounts, HostPort, amounts, host_ports, pod_requests};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::affinity;
use crate::meta::uid;

/// A pod that takes up room on a node.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) pod: Arc<Pod>,
    pub(crate) requests: Amounts,
    pub(crate) ports: Vec<HostPort>,
}

/// A node and what is on it. A node that pods name but the API does not know has no `node`.
#[derive(Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) allocatable: Amounts,
    pub(crate) requested: Amounts,
    pub(crate) pods: HashMap<String, Placed>,
}

impl NodeInfo {
    fn add(&mut self, pod: Arc<Pod>) {
        let requests = pod.spec.as_ref().map(pod_requests).unwrap_or_default();
        for (name, amount) in &requests {
            *self.requested.entry(name.clone()).or_default() += amount;
        }
        let ports = host_ports(&pod);
        self.pods.insert(
            uid(&*pod).to_owned(),
            Placed {
                pod,
                requests,
                ports,
            },
        );
    }

    fn remove(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.pods.remove(uid)?;
        for (name, amount) in &placed.requests {
            *self.requested.entry(name.clone()).or_default() -= amount;
        }
        Some(placed)
    }
}

/// See the module's first lines.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<String, NodeInfo>,
    /// Node of every placed pod, by the pod's UID.
    homes: HashMap<String, String>,
    /// Placed pods with required anti-affinity, which every other pod must be checked against.
    repelling: HashMap<String, Arc<Pod>>,
}

impl Cluster {
    /// Takes in a pod as the cache shows it now; `None` when it is gone or has ended.
    /// True when that may have made room for another pod.
    pub(crate) fn observe_pod(&mut self, uid: &str, pod: Option<Arc<Pod>>) -> bool {
        let freed = self.take(uid).is_some();
        let home = pod
            .as_ref()
            .and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        match (pod, home) {
            (Some(pod), Some(home)) if !home.is_empty() => {
                self.place(pod, home);
                // A new neighbour may be what a pod with affinity waits for.
                !freed
            }
            _ => freed,
        }
    }

    /// Takes in a node as the cache shows it now. True when pods may fit that did not before.
    pub(crate) fn observe_node(&mut self, name: &str, node: Option<Arc<Node>>) -> bool {
        let Some(node) = node else {
            if let Some(info) = self.nodes.get_mut(name) {
                info.node = None;
                if info.pods.is_empty() {
                    self.nodes.remove(name);
                }
            }
            return false;
        };
        let info = self.nodes.entry(name.to_owned()).or_default();
        let allocatable = amounts(
            node.status
                .as_ref()
                .and_then(|status| status.allocatable.as_ref()),
        );
        let known = info.node.as_ref();
        let changed = known.is_none_or(|known| {
            known.metadata.labels != node.metadata.labels || known.spec != node.spec
        }) || allocatable != info.allocatable;
        info.allocatable = allocatable;
        info.node = Some(node);
        changed
    }

    /// True for a pod that has a node, be it by a binding not yet seen in the watch.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.homes.contains_key(uid)
    }

    /// Counts a binding that is being written.
    pub(crate) fn assume(&mut self, pod: &Arc<Pod>, node: &str) {
        self.take(uid(&**pod));
        self.place(pod.clone(), node.to_owned());
    }

    /// Takes back a binding that failed.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.take(uid);
    }

    /// Placed pods with required anti-affinity, and where they are.
    pub(crate) fn repelling(&self) -> impl Iterator<Item = (&Arc<Pod>, &NodeInfo)> {
        self.repelling.iter().filter_map(|(uid, pod)| {
            let home = self.homes.get(uid)?;
            Some((pod, self.nodes.get(home)?))
        })
    }

    fn place(&mut self, pod: Arc<Pod>, home: String) {
        if affinity::repels(&pod) {
            self.repelling.insert(uid(&*pod).to_owned(), pod.clone());
        }
        self.homes.insert(uid(&*pod).to_owned(), home.clone());
        self.nodes.entry(home).or_default().add(pod);
    }

    fn take(&mut self, uid: &str) -> Option<Placed> {
        self.repelling.remove(uid);
        let home = self.homes.remove(uid)?;
        let info = self.nodes.get_mut(&home)?;
        let placed = info.remove(uid);
        if info.node.is_none() && info.pods.is_empty() {
            self.nodes.remove(&home);
        }
        placed
    }
}
