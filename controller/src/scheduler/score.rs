//! How well a node suits a pod, beyond being possible.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::affinity::PodAffinity;
use super::cluster::NodeInfo;
use super::filter::Candidate;
use super::spread::Spread;
use crate::node_lifecycle::tolerates;
use crate::node_selector;

const MOST: i64 = 100;
/// Images below this size give no advantage; above the other, no further one. In bytes.
const IMAGE_RANGE: (i64, i64) = (23 << 20, 1000 << 20);

/// Picks the best of `feasible`: each aspect is brought to 0..=100 over the candidates and
/// weighed as Kubernetes weighs it. Ties go to the node with fewer pods, then by name.
pub(crate) fn best<'a>(
    candidate: &Candidate<'_>,
    feasible: &[(&'a str, &NodeInfo)],
    affinity: &PodAffinity,
    spread: &Spread,
) -> Option<&'a str> {
    if let [(only, _)] = feasible {
        return Some(only);
    }
    let column = |aspect: &dyn Fn(&NodeInfo) -> i64| -> Vec<i64> {
        feasible.iter().map(|(_, info)| aspect(info)).collect()
    };
    let pod = candidate.pod;
    let aspects = [
        (3, reversed(column(&|info| untolerated(pod, info)))),
        (2, scaled(column(&|info| preferred_nodes(pod, info)))),
        (2, reversed(column(&|info| spread.crowd(info)))),
        (2, scaled(column(&|info| affinity.score(info)))),
        (1, column(&|info| least_allocated(candidate, info))),
        (1, column(&|info| balanced(candidate, info))),
        (1, column(&|info| image_locality(pod, info))),
    ];
    let total = |index: usize| -> i64 {
        aspects
            .iter()
            .map(|(weight, column)| weight * column.get(index).copied().unwrap_or(0))
            .sum()
    };
    feasible
        .iter()
        .enumerate()
        .max_by_key(|(index, (name, info))| {
            (total(*index), std::cmp::Reverse((info.pods.len(), *name)))
        })
        .map(|(_, (name, _))| *name)
}

/// Brings a column to 0..=100; equal values all become 0.
fn scaled(column: Vec<i64>) -> Vec<i64> {
    let (Some(&low), Some(&high)) = (column.iter().min(), column.iter().max()) else {
        return column;
    };
    if low == high {
        return vec![0; column.len()];
    }
    column
        .into_iter()
        .map(|value| (value - low) * MOST / (high - low))
        .collect()
}

fn reversed(column: Vec<i64>) -> Vec<i64> {
    scaled(column.into_iter().map(|value| -value).collect())
}

fn untolerated(pod: &Pod, info: &NodeInfo) -> i64 {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let taints = info
        .node
        .as_ref()
        .and_then(|node| node.spec.as_ref()?.taints.as_deref());
    let soft = taints.unwrap_or_default().iter().filter(|taint| {
        taint.effect == "PreferNoSchedule" && !tolerations.iter().any(|own| tolerates(own, taint))
    });
    i64::try_from(soft.count()).unwrap_or(0)
}

fn preferred_nodes(pod: &Pod, info: &NodeInfo) -> i64 {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred = affinity.and_then(|own| {
        own.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let Some(node) = &info.node else { return 0 };
    preferred
        .into_iter()
        .flatten()
        .filter(|row| node_selector::term_matches(&row.preference, node))
        .map(|row| i64::from(row.weight))
        .sum()
}

/// Share of a resource, in thousandths, that would be in use with the pod on the node.
fn share(candidate: &Candidate<'_>, info: &NodeInfo, resource: &str) -> Option<i64> {
    let have = info
        .allocatable
        .get(resource)
        .copied()
        .filter(|have| *have > 0)?;
    let used = info.requested.get(resource).copied().unwrap_or(0);
    let wanted = candidate.requests.get(resource).copied().unwrap_or(0);
    let share = i128::from(used.saturating_add(wanted)) * 1000 / i128::from(have);
    i64::try_from(share).ok().map(|share| share.clamp(0, 1000))
}

fn least_allocated(candidate: &Candidate<'_>, info: &NodeInfo) -> i64 {
    let shares: Vec<i64> = ["cpu", "memory"]
        .iter()
        .filter_map(|name| share(candidate, info, name))
        .collect();
    let free: i64 = shares.iter().map(|share| (1000 - share) / 10).sum();
    free / i64::try_from(shares.len().max(1)).unwrap_or(1)
}

fn balanced(candidate: &Candidate<'_>, info: &NodeInfo) -> i64 {
    match (
        share(candidate, info, "cpu"),
        share(candidate, info, "memory"),
    ) {
        (Some(cpu), Some(memory)) => MOST - (cpu - memory).abs() / 2 / 10,
        _ => 0,
    }
}

fn image_locality(pod: &Pod, info: &NodeInfo) -> i64 {
    let (Some(spec), Some(node)) = (&pod.spec, &info.node) else {
        return 0;
    };
    let present: i64 = spec
        .containers
        .iter()
        .filter_map(|container| size_of_image(node, container.image.as_deref()?))
        .sum();
    let (low, high) = IMAGE_RANGE;
    (present.clamp(low, high) - low) * MOST / (high - low)
}

fn size_of_image(node: &Node, image: &str) -> Option<i64> {
    let images = node.status.as_ref()?.images.as_ref()?;
    let known = images
        .iter()
        .find(|known| known.names.iter().flatten().any(|name| name == image));
    known?.size_bytes
}
