//! Whether a pod can run on a node at all, and if not, why.

use davit_api::{Amounts, HostPort};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::ResourceExt;

use super::cluster::NodeInfo;
use crate::node_lifecycle::tolerates;
use crate::node_selector;

/// Pods on a node when it does not say how many it takes.
const DEFAULT_PODS: i64 = 110;

/// A pod with what is worked out of its spec once for all nodes.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) requests: Amounts,
    pub(crate) ports: Vec<HostPort>,
}

/// Checks everything that concerns this node alone. Reasons are worded as Kubernetes words them.
///
/// # Errors
/// Every reason that speaks against the node.
pub(crate) fn check(candidate: &Candidate<'_>, info: &NodeInfo) -> Result<(), Vec<String>> {
    let Some(node) = &info.node else {
        return Err(vec!["node(s) are gone".into()]);
    };
    if let Some(reason) = placement(candidate.pod, node) {
        return Err(vec![reason]);
    }
    if conflicting_port(candidate, info) {
        return Err(vec![
            "node(s) didn't have free ports for the requested pod ports".into(),
        ]);
    }
    let lacking = insufficient(candidate, info);
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(lacking)
    }
}

fn placement(pod: &Pod, node: &Node) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if cordoned
        && !tolerations
            .iter()
            .any(|toleration| tolerates(toleration, &cordon))
    {
        return Some("node(s) were unschedulable".into());
    }
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let refused = taints.iter().find(|taint| {
        taint.effect != "PreferNoSchedule"
            && !tolerations
                .iter()
                .any(|toleration| tolerates(toleration, taint))
    });
    if let Some(taint) = refused {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        ));
    }
    let labels = node.labels();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let admitted = required.is_none_or(|required| node_selector::matches(required, node));
    (!selected || !admitted).then(|| "node(s) didn't match Pod's node affinity/selector".to_owned())
}

fn conflicting_port(candidate: &Candidate<'_>, info: &NodeInfo) -> bool {
    candidate.ports.iter().any(|wanted| {
        info.pods
            .values()
            .flat_map(|placed| &placed.ports)
            .any(|taken| taken.conflicts(wanted))
    })
}

fn insufficient(candidate: &Candidate<'_>, info: &NodeInfo) -> Vec<String> {
    let mut lacking = Vec::new();
    let limit = info
        .allocatable
        .get("pods")
        .copied()
        .unwrap_or(DEFAULT_PODS);
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= limit {
        lacking.push("Too many pods".to_owned());
    }
    for (name, amount) in &candidate.requests {
        let have = info.allocatable.get(name).copied().unwrap_or(0);
        let used = info.requested.get(name).copied().unwrap_or(0);
        if *amount > 0 && used.saturating_add(*amount) > have {
            lacking.push(format!("Insufficient {name}"));
        }
    }
    lacking
}
