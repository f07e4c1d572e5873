//! One pod's scheduling decision, as a function of the view of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use davit_api::{host_ports, pod_requests};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};

use super::affinity::PodAffinity;
use super::cluster::{Cluster, NodeInfo};
use super::filter::{Candidate, check};
use super::score::best;
use super::spread::Spread;
use super::volumes::Storage;
use crate::meta::uid;
use crate::volume::find_volume;

/// Clusters up to this size are looked at whole.
const SMALL: usize = 100;

/// Something to do for a claim before the pod can be bound.
#[derive(Clone, Debug)]
pub(crate) enum VolumeStep {
    /// Set an existing volume aside for the claim.
    Reserve {
        volume: Arc<PersistentVolume>,
        claim: Arc<PersistentVolumeClaim>,
    },
    /// Have a volume made on the chosen node.
    SelectNode { claim: Arc<PersistentVolumeClaim> },
}

/// What to do about a pending pod.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Bind(String),
    /// Volumes first, on this node.
    Volumes {
        node: String,
        steps: Vec<VolumeStep>,
    },
    /// No node for now; the message counts the reasons.
    Wait(String),
}

/// Decides for one pod.
pub(crate) fn select(pod: &Arc<Pod>, cluster: &Cluster, storage: &Storage) -> Decision {
    if let Some(obstacle) = &storage.obstacle {
        let total = cluster
            .nodes
            .values()
            .filter(|info| info.node.is_some())
            .count();
        return Decision::Wait(format!("0/{total} nodes are available: {obstacle}."));
    }
    let candidate = Candidate {
        pod,
        requests: pod.spec.as_ref().map(pod_requests).unwrap_or_default(),
        ports: host_ports(pod),
    };
    let affinity = PodAffinity::new(pod, cluster);
    let spread = Spread::new(&candidate, cluster);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<(&str, &NodeInfo)> = Vec::new();
    let enough = sample(cluster.nodes.len());
    for (name, info) in rotated(cluster, pod) {
        let Some(node) = &info.node else { continue };
        match judge(&candidate, info, node, storage, &affinity, &spread) {
            Ok(()) => feasible.push((name, info)),
            Err(against) => {
                for reason in against {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
        if feasible.len() >= enough {
            break;
        }
    }
    match best(&candidate, &feasible, &affinity, &spread) {
        Some(node) => settle(node, cluster, storage),
        None => Decision::Wait(explain(cluster, &reasons)),
    }
}

fn judge(
    candidate: &Candidate<'_>,
    info: &NodeInfo,
    node: &Node,
    storage: &Storage,
    affinity: &PodAffinity,
    spread: &Spread,
) -> Result<(), Vec<String>> {
    check(candidate, info)?;
    let against = storage
        .check(node)
        .or_else(|| spread.check(info))
        .or_else(|| affinity.check(info));
    against.map_or(Ok(()), |reason| Err(vec![reason.to_owned()]))
}

/// How many feasible nodes are enough to choose from: all of a small cluster, of a large one a
/// share that falls from 50 % to 5 %.
fn sample(nodes: usize) -> usize {
    if nodes <= SMALL {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(SMALL)
}

/// The nodes in order, starting at a place that differs from pod to pod, so that a sample does
/// not always take the same ones.
fn rotated<'a>(cluster: &'a Cluster, pod: &Pod) -> impl Iterator<Item = (&'a str, &'a NodeInfo)> {
    let nodes = cluster.nodes.len();
    let start = if nodes > SMALL {
        uid(pod).bytes().fold(7usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        }) % nodes
    } else {
        0
    };
    let all = cluster
        .nodes
        .iter()
        .map(|(name, info)| (name.as_str(), info));
    all.clone().skip(start).chain(all.take(start))
}

fn settle(node: &str, cluster: &Cluster, storage: &Storage) -> Decision {
    if storage.unbound.is_empty() {
        return Decision::Bind(node.to_owned());
    }
    let info = cluster
        .nodes
        .get(node)
        .and_then(|info| info.node.as_deref());
    let mut left = storage.volumes.clone();
    let steps = storage
        .unbound
        .iter()
        .filter(|unbound| unbound.selected.is_none())
        .map(|unbound| match find_volume(&unbound.claim, &left, info) {
            Some(volume) => {
                left.retain(|other| !Arc::ptr_eq(other, &volume));
                VolumeStep::Reserve {
                    volume,
                    claim: unbound.claim.clone(),
                }
            }
            None => VolumeStep::SelectNode {
                claim: unbound.claim.clone(),
            },
        })
        .collect();
    Decision::Volumes {
        node: node.to_owned(),
        steps,
    }
}

/// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
fn explain(cluster: &Cluster, reasons: &BTreeMap<String, usize>) -> String {
    let total = cluster
        .nodes
        .values()
        .filter(|info| info.node.is_some())
        .count();
    if total == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut rows: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    rows.sort();
    format!("0/{total} nodes are available: {}.", rows.join(", "))
}

#[cfg(test)]
mod tests;
