//! A pod's status from its declaration and what is known of it: pure, field by field as kubelet reports it.
//!
//! [`compute`] makes the whole status, [`patch`] the smallest write that turns one into the other.
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::pod::members;
use crate::pod::observed::{HoldPhase, Observed};
use crate::pod::plan::is_ending;
use crate::pod::resources::qos_class;

mod conditions;
mod containers;
mod patch;
mod phase;
mod resources;
#[cfg(test)]
mod tests;

pub use patch::patch;

/// The status of `pod` on a node with these addresses.
///
/// Conditions set by others (readiness gates, `DisruptionTarget`) are kept; transition times move only when a status changes.
pub fn compute(pod: &Pod, seen: &Observed, host_ips: &[IpAddr], now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let ended = is_ending(pod, seen)
        && !seen
            .containers
            .values()
            .any(crate::pod::observed::Known::alive);
    let view = containers::View {
        pod,
        seen,
        now,
        ended,
    };
    let containers = view.main_statuses();
    let inits = view.init_statuses();
    let added = view.ephemeral_statuses();
    let phase = phase::phase(pod, seen, &inits, &containers, ended);
    let ips = pod_ips(pod, seen, host_ips, &old);
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        start_time: old.start_time.or_else(|| seen.start_time.map(Time)),
        host_ip: host_ips.first().map(ToString::to_string),
        host_ips: Some(
            host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        qos_class: old.qos_class.or_else(|| Some(qos_class(pod).to_string())),
        reason: seen
            .failure
            .as_ref()
            .map(|failure| failure.reason.clone())
            .or(old.reason),
        message: seen
            .failure
            .as_ref()
            .map(|failure| failure.message.clone())
            .or(old.message),
        container_statuses: Some(containers),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        phase: Some(phase.to_owned()),
        ephemeral_container_statuses: (!added.is_empty()).then_some(added),
        // What the API server or other components own stays as it is.
        nominated_node_name: old.nominated_node_name,
        resize: old.resize,
        resource_claim_statuses: old.resource_claim_statuses,
        conditions: old.conditions,
        ..PodStatus::default()
    };
    conditions::update(pod, &mut status, seen, now);
    status
}

/// The sandbox's addresses; the node's for `hostNetwork`. What was reported once stays until there is something newer.
fn pod_ips(pod: &Pod, seen: &Observed, host_ips: &[IpAddr], old: &PodStatus) -> Vec<String> {
    if !seen.ips.is_empty() {
        return seen.ips.iter().map(ToString::to_string).collect();
    }
    let host_network = members::spec(pod).host_network.unwrap_or(false);
    if host_network && seen.sandbox.phase == HoldPhase::Ready {
        return host_ips.iter().map(ToString::to_string).collect();
    }
    old.pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.clone())
        .collect()
}
