//! From requests and limits to what the kernel is told, computed as kubelet computes it.
use std::collections::BTreeMap;

use davit_api::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::members::{self, Role};
use crate::runtime::{CPU_PERIOD_US, Resources};

/// Most processes and threads of one pod, so that a fork bomb ends at its pod's border.
pub const POD_PIDS: u64 = 4096;

const SHARES_PER_CPU: u64 = 1024;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
const LEAST_QUOTA_US: u64 = 1000;

/// `oom_score_adj` of pods the node cannot do without, of guaranteed and of best-effort ones.
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;
/// Pods of this priority or higher are critical to the system.
const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// Quality of service class of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests as much.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl std::fmt::Display for QosClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

impl QosClass {
    /// The class as a cgroup below the runtime's root; guaranteed pods sit at the root itself.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }
}

/// Requests and limits of CPU (millicores) and memory (bytes); `None` where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amounts {
    cpu_request: Option<u64>,
    cpu_limit: Option<u64>,
    memory_request: Option<u64>,
    memory_limit: Option<u64>,
}

impl Amounts {
    fn of(resources: Option<&ResourceRequirements>) -> Self {
        let Some(resources) = resources else {
            return Self::default();
        };
        let cpu = |list: Option<&BTreeMap<String, ApiQuantity>>| {
            amount(list, "cpu").map(|quantity| u64::try_from(quantity.milli_value()).unwrap_or(0))
        };
        let memory = |list: Option<&BTreeMap<String, ApiQuantity>>| {
            amount(list, "memory").map(|quantity| quantity.bytes())
        };
        let (requests, limits) = (resources.requests.as_ref(), resources.limits.as_ref());
        let (cpu_limit, memory_limit) = (cpu(limits), memory(limits));
        Self {
            cpu_request: cpu(requests).or(cpu_limit),
            cpu_limit,
            memory_request: memory(requests).or(memory_limit),
            memory_limit,
        }
    }

    fn is_empty(self) -> bool {
        [
            self.cpu_request,
            self.cpu_limit,
            self.memory_request,
            self.memory_limit,
        ]
        .iter()
        .all(|amount| amount.unwrap_or(0) == 0)
    }

    fn is_guaranteed(self) -> bool {
        let fixed = |request: Option<u64>, limit: Option<u64>| {
            limit.is_some_and(|limit| limit > 0) && request == limit
        };
        fixed(self.cpu_request, self.cpu_limit) && fixed(self.memory_request, self.memory_limit)
    }
}

fn amount(list: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Option<Quantity> {
    Quantity::try_from(list?.get(name)?).ok()
}

/// The pod's quality of service class.
pub fn qos_class(pod: &Pod) -> QosClass {
    let all: Vec<Amounts> = match &members::spec(pod).resources {
        Some(resources) => vec![Amounts::of(Some(resources))],
        None => members::members(pod)
            .map(|member| Amounts::of(member.container.resources.as_ref()))
            .collect(),
    };
    if all.iter().all(|amounts| amounts.is_empty()) {
        QosClass::BestEffort
    } else if all.iter().all(|amounts| amounts.is_guaranteed()) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// The limits of one container on a node with that much memory.
pub fn container_resources(pod: &Pod, container: &Container, node_memory: u64) -> Resources {
    let amounts = Amounts::of(container.resources.as_ref());
    let limits = limits_of(&container.resources.clone().unwrap_or_default());
    Resources {
        oom_score_adj: i32::try_from(oom_score_adj(
            pod,
            amounts.memory_request.unwrap_or(0),
            node_memory,
        ))
        .ok(),
        ..limits
    }
}

/// What the kernel is told of these amounts, for a container.
pub fn limits_of(resources: &ResourceRequirements) -> Resources {
    let amounts = Amounts::of(Some(resources));
    Resources {
        memory_bytes: amounts.memory_limit.filter(|bytes| *bytes > 0),
        cpu_shares: Some(shares(amounts.cpu_request.unwrap_or(0))),
        cpu_quota_us: quota(amounts.cpu_limit.unwrap_or(0)),
        ..Resources::default()
    }
}

/// The limits of the pod's own cgroup: the sum of what its containers ask for, limits only if all of them have one.
pub fn pod_resources(pod: &Pod) -> Resources {
    let spec = members::spec(pod);
    let own = spec
        .resources
        .as_ref()
        .map(|resources| Amounts::of(Some(resources)))
        .unwrap_or_default();
    let total =
        |pick: fn(Amounts) -> Option<u64>| effective(pod, |amounts| pick(amounts).unwrap_or(0));
    let limited = |pick: fn(Amounts) -> Option<u64>| {
        let all = members::members(pod).all(|member| {
            pick(Amounts::of(member.container.resources.as_ref())).is_some_and(|limit| limit > 0)
        });
        all.then(|| total(pick))
    };
    let cpu_limit = own
        .cpu_limit
        .or_else(|| limited(|amounts| amounts.cpu_limit));
    let memory_limit = own
        .memory_limit
        .or_else(|| limited(|amounts| amounts.memory_limit));
    let cpu_request = own
        .cpu_request
        .unwrap_or_else(|| total(|amounts| amounts.cpu_request));
    let overhead = |name: &str| amount(spec.overhead.as_ref(), name);
    let cpu_overhead = overhead("cpu").map_or(0, |quantity| {
        u64::try_from(quantity.milli_value()).unwrap_or(0)
    });
    let memory_overhead = overhead("memory").map_or(0, |quantity| quantity.bytes());
    Resources {
        memory_bytes: memory_limit.map(|bytes| bytes.saturating_add(memory_overhead)),
        cpu_shares: Some(shares(cpu_request.saturating_add(cpu_overhead))),
        cpu_quota_us: cpu_limit.and_then(|milli| quota(milli.saturating_add(cpu_overhead))),
        pids_max: Some(POD_PIDS),
        oom_score_adj: None,
    }
}

/// What the pod needs at most at one time: the main containers and sidecars together, or an init container with the sidecars
/// started before it.
fn effective(pod: &Pod, pick: impl Fn(Amounts) -> u64) -> u64 {
    let of = |container: &Container| pick(Amounts::of(container.resources.as_ref()));
    let mut sidecars = 0u64;
    let mut peak = 0u64;
    for member in members::init_members(pod) {
        let need = of(&member.container);
        if member.role == Role::Sidecar {
            sidecars = sidecars.saturating_add(need);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(need));
        }
    }
    let mains = members::main_members(pod).fold(0u64, |sum, member| {
        sum.saturating_add(of(&member.container))
    });
    peak.max(mains.saturating_add(sidecars))
}

fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(SHARES_PER_CPU) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

fn quota(milli: u64) -> Option<u64> {
    (milli > 0).then(|| (milli.saturating_mul(CPU_PERIOD_US) / 1000).max(LEAST_QUOTA_US))
}

/// Burstable containers are the likelier to be killed the less memory they asked for.
fn oom_score_adj(pod: &Pod, memory_request: u64, node_memory: u64) -> i64 {
    if members::spec(pod)
        .priority
        .is_some_and(|priority| priority >= SYSTEM_CRITICAL)
    {
        return OOM_GUARANTEED;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => OOM_GUARANTEED,
        QosClass::BestEffort => OOM_BEST_EFFORT,
        QosClass::Burstable => {
            let share = u128::from(memory_request) * 1000 / u128::from(node_memory.max(1));
            let score = 1000 - i64::try_from(share).unwrap_or(i64::MAX).min(1000);
            score.clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value, inits: Value) -> Pod {
        serde_json::from_value(
            json!({ "spec": { "containers": containers, "initContainers": inits } }),
        )
        .unwrap()
    }

    fn with(requests: Value, limits: Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let full = with(json!({}), json!({"cpu": "1", "memory": "1Gi"}));
        let less = with(json!({"cpu": "500m"}), json!({"cpu": "1", "memory": "1Gi"}));
        let none = with(json!({}), json!({}));
        let cases = [
            (vec![none.clone()], vec![], QosClass::BestEffort),
            (vec![full.clone()], vec![], QosClass::Guaranteed),
            (
                vec![full.clone(), full.clone()],
                vec![full.clone()],
                QosClass::Guaranteed,
            ),
            (
                vec![full.clone(), none.clone()],
                vec![],
                QosClass::Burstable,
            ),
            (vec![full.clone()], vec![none], QosClass::Burstable),
            (vec![less], vec![], QosClass::Burstable),
            (
                vec![with(json!({"cpu": "0"}), json!({}))],
                vec![],
                QosClass::BestEffort,
            ),
        ];
        for (containers, inits, class) in cases {
            let pod = pod(Value::Array(containers.clone()), Value::Array(inits));
            assert_eq!(qos_class(&pod), class, "{containers:?}");
        }
    }

    #[test]
    fn container_limits_are_kubelets() {
        let gib = 1 << 30;
        let container = with(
            json!({"cpu": "250m", "memory": "1Gi"}),
            json!({"cpu": "1500m", "memory": "2Gi"}),
        );
        let pod = pod(json!([container]), json!([]));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let resources = container_resources(&pod, container, 10 * gib);
        assert_eq!(resources.memory_bytes, Some(2 * gib));
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!(resources.cpu_quota_us, Some(150_000));
        assert_eq!(resources.oom_score_adj, Some(900));
    }

    #[test]
    fn small_and_absent_amounts_get_the_least() {
        let pod = pod(
            json!([
                with(json!({}), json!({})),
                with(json!({"cpu": "1m"}), json!({"cpu": "5m"}))
            ]),
            json!([]),
        );
        let containers = &pod.spec.as_ref().unwrap().containers;
        assert_eq!(
            container_resources(&pod, &containers[0], 1).cpu_shares,
            Some(2)
        );
        let tiny = container_resources(&pod, &containers[1], 1);
        assert_eq!((tiny.cpu_shares, tiny.cpu_quota_us), (Some(2), Some(1000)));
    }

    #[test]
    fn a_pod_sums_and_takes_the_peak_of_initialisation() {
        let main = with(
            json!({"cpu": "100m"}),
            json!({"cpu": "200m", "memory": "64Mi"}),
        );
        let init = with(json!({"cpu": "1"}), json!({"cpu": "2", "memory": "32Mi"}));
        let both = pod(json!([main.clone(), main.clone()]), json!([init]));
        let resources = pod_resources(&both);
        assert_eq!(resources.cpu_shares, Some(1024));
        assert_eq!(resources.cpu_quota_us, Some(200_000));
        assert_eq!(resources.memory_bytes, Some(128 << 20));
        let partly = pod(json!([main, with(json!({}), json!({}))]), json!([]));
        assert_eq!(pod_resources(&partly).memory_bytes, None);
        assert_eq!(pod_resources(&partly).pids_max, Some(POD_PIDS));
    }
}
