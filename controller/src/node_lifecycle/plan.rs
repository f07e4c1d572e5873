//! What a node's heartbeats and conditions mean for its taints and its pods.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};

use crate::meta::{at, now};

/// Silence after which a node is called unreachable.
pub(crate) const GRACE: Duration = Duration::from_secs(50);
/// Grace for a node that never reported at all.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition type, the status that is a problem, and the taint it puts on the node.
const PRESSURES: [(&str, &str, &str); 4] = [
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// A node's heartbeat at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) silent: bool,
    /// When to look again, should nothing be heard until then.
    pub(crate) check_after: Duration,
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// True for a node that is ready and not cordoned.
pub(crate) fn is_schedulable(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
        && node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true)
}

/// Judges the latest sign of life: a lease renewal or a status heartbeat.
pub(crate) fn health(node: &Node, lease: Option<&Lease>, now: Timestamp) -> Health {
    let renewed = lease
        .and_then(|lease| lease.spec.as_ref())
        .and_then(|spec| spec.renew_time.as_ref())
        .map(|time| time.0);
    let reported = condition(node, "Ready")
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    let (latest, grace) = match renewed.max(reported) {
        Some(latest) => (latest, GRACE),
        None => {
            let born = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (born.unwrap_or(now), STARTUP_GRACE)
        }
    };
    let silence = Duration::try_from(now.duration_since(latest)).unwrap_or_default();
    match grace.checked_sub(silence) {
        Some(left) if !left.is_zero() => Health {
            silent: false,
            check_after: left,
        },
        _ => Health {
            silent: true,
            check_after: GRACE,
        },
    }
}

/// Conditions of a silent node, or `None` when they say so already.
pub(crate) fn unknown_conditions(node: &Node) -> Option<Vec<NodeCondition>> {
    if condition(node, "Ready").is_some_and(|ready| ready.status == "Unknown") {
        return None;
    }
    let types = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    let unknown = types.map(|type_| {
        let known = condition(node, type_);
        let (reason, message) = match known {
            Some(_) => (
                "NodeStatusUnknown",
                "The node agent stopped posting node status.",
            ),
            None => (
                "NodeStatusNeverUpdated",
                "The node agent never posted node status.",
            ),
        };
        NodeCondition {
            type_: type_.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: known.and_then(|known| known.last_heartbeat_time.clone()),
            last_transition_time: Some(now()),
        }
    });
    Some(unknown.into())
}

/// The taints the node should have, or `None` when it has them.
pub(crate) fn taints(node: &Node, silent: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let old = spec.taints.unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready").map(|ready| ready.status.as_str()) {
        _ if silent => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some("True") => {}
        Some("Unknown") => {
            wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
        }
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    for (type_, problem, key) in PRESSURES {
        if condition(node, type_).is_some_and(|condition| condition.status == problem) {
            wanted.push((key, "NoSchedule"));
        }
    }
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is =
        |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let ours = |taint: &Taint| {
        let managed = [NOT_READY, UNREACHABLE, UNSCHEDULABLE];
        managed.contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, _, key)| taint.key == *key)
    };
    let mut new: Vec<Taint> = old
        .iter()
        .filter(|taint| !ours(taint) || wanted.iter().any(|row| is(taint, *row)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !new.iter().any(|taint| is(taint, (key, effect))) {
            new.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added: Some(at(now)),
            });
        }
    }
    (new != old).then_some(new)
}

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
    }
}

/// What `NoExecute` taints mean for a running pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    Stay,
    In(Duration),
    Now,
}

/// Judges a pod by its node's taints and its own tolerations, each with its time limit.
pub(crate) fn eviction(pod: &Pod, taints: &[Taint], now: Timestamp) -> Eviction {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let mut earliest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let covering: Vec<&Toleration> = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .collect();
        if covering.is_empty() {
            return Eviction::Now;
        }
        // The shortest limit counts; a toleration without one sets none.
        let limit = covering
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min();
        if let Some(limit) = limit {
            let since = taint.time_added.as_ref().map_or(now, |time| time.0);
            let end = since.as_second() + limit.max(0);
            earliest = Some(earliest.map_or(end, |earliest| earliest.min(end)));
        }
    }
    match earliest.map(|end| end - now.as_second()) {
        None => Eviction::Stay,
        Some(left) if left <= 0 => Eviction::Now,
        Some(left) => Eviction::In(Duration::from_secs(left.unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2030-01-01T00:10:00Z";

    fn moment() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn node(ready: &str, heartbeat: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "creationTimestamp": "2030-01-01T00:00:00Z"},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]},
        }))
        .unwrap()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap()
    }

    #[test]
    fn the_latest_sign_of_life_counts() {
        let node = node("True", "2030-01-01T00:01:00Z");
        let fresh = lease("2030-01-01T00:09:50.000000Z");
        let health_now = health(&node, Some(&fresh), moment());
        assert_eq!(
            health_now,
            Health {
                silent: false,
                check_after: Duration::from_secs(40)
            }
        );
        assert!(health(&node, Some(&lease("2030-01-01T00:09:00.000000Z")), moment()).silent);
        assert!(health(&node, None, moment()).silent);
    }

    #[test]
    fn taints_follow_conditions_and_leave_foreign_ones_alone() {
        let mut node = node("False", NOW);
        node.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "mine".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        }]);
        let tainted = taints(&node, false, moment()).unwrap();
        let keys: Vec<_> = tainted
            .iter()
            .map(|t| (t.key.as_str(), t.effect.as_str()))
            .collect();
        assert_eq!(
            keys,
            [
                ("mine", "NoSchedule"),
                (NOT_READY, "NoSchedule"),
                (NOT_READY, "NoExecute")
            ]
        );
        node.spec.as_mut().unwrap().taints = Some(tainted);
        assert_eq!(taints(&node, false, moment()), None);
        node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into();
        assert_eq!(taints(&node, false, moment()).unwrap().len(), 1);
    }

    #[test]
    fn a_cordoned_node_is_unschedulable() {
        let mut node = node("True", NOW);
        node.spec.get_or_insert_default().unschedulable = Some(true);
        let tainted = taints(&node, false, moment()).unwrap();
        assert_eq!(tainted[0].key, UNSCHEDULABLE);
    }

    #[test]
    fn pods_leave_when_their_toleration_runs_out() {
        let taint = Taint {
            key: UNREACHABLE.into(),
            effect: "NoExecute".into(),
            time_added: Some(crate::meta::at("2030-01-01T00:06:00Z".parse().unwrap())),
            value: None,
        };
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}}))
                .unwrap()
        };
        let of = |tolerations| eviction(&pod(tolerations), std::slice::from_ref(&taint), moment());
        let row = |seconds: i64| {
            json!({"key": UNREACHABLE, "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": seconds})
        };
        assert_eq!(of(json!([])), Eviction::Now);
        assert_eq!(of(json!([row(300)])), Eviction::In(Duration::from_secs(60)));
        assert_eq!(of(json!([row(200)])), Eviction::Now);
        assert_eq!(of(json!([{"operator": "Exists"}])), Eviction::Stay);
    }
}
