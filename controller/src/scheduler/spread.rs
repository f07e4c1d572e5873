//! Even spreading of pods over topology domains.

use std::collections::BTreeMap;

use davit_api::LabelSelector;
use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use kube::ResourceExt;

use super::affinity::count_by_domain;
use super::cluster::{Cluster, NodeInfo};
use super::filter::{Candidate, check};
use crate::meta::controller_of;

/// One constraint, with the pods counted that it speaks of.
#[derive(Debug)]
struct Constraint {
    topology: String,
    max_skew: i64,
    min_domains: i64,
    hard: bool,
    matches_self: bool,
    counts: BTreeMap<String, i64>,
}

/// All constraints of a pod, and its siblings by node for the default spreading.
#[derive(Debug)]
pub(crate) struct Spread {
    constraints: Vec<Constraint>,
    /// UID of the pod's controller, whose pods are spread over nodes without being asked.
    owner: Option<String>,
}

impl Spread {
    pub(crate) fn new(candidate: &Candidate<'_>, cluster: &Cluster) -> Self {
        let pod = candidate.pod;
        let declared = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.topology_spread_constraints.as_ref());
        let constraints = declared
            .into_iter()
            .flatten()
            .filter_map(|row| constraint(candidate, row, cluster))
            .collect();
        Self {
            constraints,
            owner: controller_of(pod).map(|owner| owner.uid.clone()),
        }
    }

    /// The reason that speaks against the node, if any.
    pub(crate) fn check(&self, info: &NodeInfo) -> Option<&'static str> {
        for constraint in self.constraints.iter().filter(|constraint| constraint.hard) {
            let Some(domain) = constraint.domain(info) else {
                return Some(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            };
            let domains = i64::try_from(constraint.counts.len()).unwrap_or(i64::MAX);
            let least = constraint.counts.values().min().copied().unwrap_or(0);
            let least = if domains < constraint.min_domains {
                0
            } else {
                least
            };
            let here = constraint.counts.get(domain).copied().unwrap_or(0);
            if here + i64::from(constraint.matches_self) - least > constraint.max_skew {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        None
    }

    /// Fewer is better: pods in the node's domains by soft constraints, and siblings on the node.
    pub(crate) fn crowd(&self, info: &NodeInfo) -> i64 {
        let soft: i64 = self
            .constraints
            .iter()
            .filter(|constraint| !constraint.hard)
            .map(|constraint| match constraint.domain(info) {
                Some(domain) => constraint.counts.get(domain).copied().unwrap_or(0),
                None => constraint.counts.values().max().copied().unwrap_or(0) + 1,
            })
            .sum();
        let siblings = self.owner.as_ref().map_or(0, |owner| {
            let same = |pod: &Pod| controller_of(pod).is_some_and(|own| own.uid == *owner);
            info.pods
                .values()
                .filter(|placed| same(&placed.pod))
                .count()
        });
        soft + i64::try_from(siblings).unwrap_or(0)
    }
}

impl Constraint {
    fn domain<'a>(&self, info: &'a NodeInfo) -> Option<&'a str> {
        let labels = info.node.as_ref()?.metadata.labels.as_ref()?;
        labels.get(&self.topology).map(String::as_str)
    }
}

fn constraint(
    candidate: &Candidate<'_>,
    row: &TopologySpreadConstraint,
    cluster: &Cluster,
) -> Option<Constraint> {
    let pod = candidate.pod;
    let mut selector = row.label_selector.clone().unwrap_or_default();
    for key in row.match_label_keys.iter().flatten() {
        if let Some(value) = pod.labels().get(key) {
            selector
                .match_labels
                .get_or_insert_default()
                .insert(key.clone(), value.clone());
        }
    }
    let selector = LabelSelector::try_from(&selector).ok()?;
    let namespace = pod.namespace();
    // By default nodes that the pod's own affinity excludes do not count, tainted ones do.
    let honor_affinity = row.node_affinity_policy.as_deref() != Some("Ignore");
    let honor_taints = row.node_taints_policy.as_deref() == Some("Honor");
    let eligible = |info: &NodeInfo| {
        let bare = Candidate {
            pod,
            requests: BTreeMap::new(),
            ports: Vec::new(),
        };
        match check(&bare, info) {
            Ok(()) => true,
            Err(reasons) => reasons.iter().all(|reason| {
                let by_affinity = reason.contains("affinity/selector");
                let by_taint = reason.contains("taint") || reason.contains("unschedulable");
                !(reason.contains("gone")
                    || by_affinity && honor_affinity
                    || by_taint && honor_taints)
            }),
        }
    };
    let counts = count_by_domain(cluster, &row.topology_key, eligible, |other| {
        other.namespace() == namespace && selector.matches(other.labels())
    });
    Some(Constraint {
        topology: row.topology_key.clone(),
        max_skew: i64::from(row.max_skew),
        min_domains: i64::from(row.min_domains.unwrap_or(1)),
        hard: row.when_unsatisfiable == "DoNotSchedule",
        matches_self: selector.matches(pod.labels()),
        counts,
    })
}
