//! What a network's status is, and which parts of it belong to nobody, from what is seen of networks and nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use davit_api::{Network, NetworkNode, NetworkStatus, NodeCount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::meta::{now, uid};

const READY: &str = "Ready";

/// What is there of one network.
pub(super) struct Seen<'a> {
    pub(super) network: &'a Network,
    /// The nodes' parts of it.
    pub(super) parts: &'a [Arc<NetworkNode>],
    /// Names of the nodes that there are.
    pub(super) nodes: &'a [String],
    /// How long the nodes of parts have been missing, by the parts' UIDs.
    pub(super) missing: &'a HashMap<String, Duration>,
    /// How long they may be.
    pub(super) quarantine: Duration,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The status to write, unless it is written already.
    pub(super) status: Option<NetworkStatus>,
    /// Parts of nodes that have been missing for long enough.
    pub(super) orphans: Vec<Arc<NetworkNode>>,
    /// When the next part may have been missing for long enough.
    pub(super) wait: Option<Duration>,
}

pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    for part in seen.parts {
        let Some(missing) = seen.missing.get(uid(&**part)) else {
            continue;
        };
        match seen.quarantine.checked_sub(*missing) {
            Some(left) if !left.is_zero() => {
                plan.wait = Some(plan.wait.map_or(left, |other| other.min(left)));
            }
            _ => plan.orphans.push(part.clone()),
        }
    }
    let old = seen.network.status.clone().unwrap_or_default();
    let new = status(seen, &old);
    plan.status = (new != old).then_some(new);
    plan
}

fn status(seen: &Seen<'_>, old: &NetworkStatus) -> NetworkStatus {
    let verdicts: Vec<Result<(), (&str, String)>> = seen
        .nodes
        .iter()
        .map(|node| verdict(node, seen.parts))
        .collect();
    let ready = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (is_ready, reason, message) = match verdicts.into_iter().find_map(Result::err) {
        _ if seen.nodes.is_empty() => (false, "NoNodes", "there is no node".to_owned()),
        Some((reason, message)) => (false, reason, message),
        None => (true, "NetworkUp", format!("up on {ready} node(s)")),
    };
    let status = if is_ready { "True" } else { "False" }.to_owned();
    let before = old.conditions.iter().find(|old| old.type_ == READY);
    let since = before.filter(|before| before.status == status);
    NetworkStatus {
        nodes: NodeCount {
            desired: count(seen.nodes.len()),
            ready: count(ready),
        },
        conditions: vec![Condition {
            type_: READY.to_owned(),
            last_transition_time: since
                .map_or_else(now, |before| before.last_transition_time.clone()),
            status,
            reason: reason.to_owned(),
            message,
            observed_generation: seen.network.metadata.generation,
        }],
    }
}

/// Whether a node serves the network, by what its own agent says; else the reason and what it says.
fn verdict<'a>(node: &str, parts: &'a [Arc<NetworkNode>]) -> Result<(), (&'a str, String)> {
    let Some(part) = parts.iter().find(|part| part.spec.node == node) else {
        return Err((
            "Claiming",
            format!("node {node} has no addresses of it yet"),
        ));
    };
    let conditions = part.status.iter().flat_map(|status| &status.conditions);
    match conditions
        .into_iter()
        .find(|condition| condition.type_ == READY)
    {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err((
            &condition.reason,
            format!("node {node}: {}", condition.message),
        )),
        None => Err(("Starting", format!("node {node} has not said anything yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn part(node: &str, ready: Option<&str>) -> Arc<NetworkNode> {
        let conditions: Vec<_> = ready
            .into_iter()
            .map(|status| {
                json!({"type": READY, "status": status, "reason": "Because", "message": "of that",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let part = json!({
            "apiVersion": "davit.dev/v1alpha1", "kind": "NetworkNode",
            "metadata": {"name": format!("n.{node}"), "uid": node},
            "spec": {"network": "n", "node": node}, "status": {"conditions": conditions},
        });
        Arc::new(serde_json::from_value(part).unwrap())
    }

    fn network() -> Network {
        let network = json!({
            "apiVersion": "davit.dev/v1alpha1", "kind": "Network",
            "metadata": {"name": "n", "generation": 3}, "spec": {"driver": "d"},
        });
        serde_json::from_value(network).unwrap()
    }

    fn planned(
        network: &Network,
        parts: &[Arc<NetworkNode>],
        nodes: &[&str],
        missing: &[(&str, u64)],
    ) -> Plan {
        let wait = |(uid, seconds): &(&str, u64)| (uid.to_string(), Duration::from_secs(*seconds));
        plan(&Seen {
            network,
            parts,
            nodes: &nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            missing: &missing.iter().map(wait).collect(),
            quarantine: Duration::from_secs(40),
        })
    }

    #[test]
    fn a_network_is_ready_when_it_is_up_on_every_node() {
        let (up, down, silent) = (
            part("a", Some("True")),
            part("b", Some("False")),
            part("b", None),
        );
        for (parts, nodes, expected) in [
            (
                vec![up.clone()],
                vec!["a"],
                "1/1 True NetworkUp up on 1 node(s)",
            ),
            (
                vec![up.clone(), down],
                vec!["a", "b"],
                "1/2 False Because node b: of that",
            ),
            (
                vec![up.clone(), silent],
                vec!["a", "b"],
                "1/2 False Starting node b has not said anything yet",
            ),
            (
                vec![up.clone()],
                vec!["a", "b"],
                "1/2 False Claiming node b has no addresses of it yet",
            ),
            (vec![up], vec![], "0/0 False NoNodes there is no node"),
        ] {
            let status = planned(&network(), &parts, &nodes, &[]).status.unwrap();
            let condition = &status.conditions[0];
            let text = format!(
                "{}/{} {} {} {}",
                status.nodes.ready,
                status.nodes.desired,
                condition.status,
                condition.reason,
                condition.message
            );
            assert_eq!(text, expected);
            assert_eq!(condition.observed_generation, Some(3));
        }
    }

    #[test]
    fn a_status_that_is_true_is_not_written_again() {
        let mut network = network();
        let parts = [part("a", Some("True"))];
        network.status = planned(&network, &parts, &["a"], &[]).status;
        assert_eq!(planned(&network, &parts, &["a"], &[]), Plan::default());
        let since = network.status.as_ref().unwrap().conditions[0]
            .last_transition_time
            .clone();
        let grown = planned(
            &network,
            &[parts[0].clone(), part("b", Some("True"))],
            &["a", "b"],
            &[],
        );
        assert_eq!(
            grown.status.unwrap().conditions[0].last_transition_time,
            since
        );
    }

    #[test]
    fn parts_of_nodes_that_stay_away_are_given_up() {
        let parts = [part("a", Some("True")), part("b", None), part("c", None)];
        let plan = planned(&network(), &parts, &["a"], &[("b", 41), ("c", 10)]);
        assert_eq!(plan.orphans, [parts[1].clone()]);
        assert_eq!(plan.wait, Some(Duration::from_secs(30)));
        assert_eq!(
            planned(&network(), &parts, &["a", "b", "c"], &[]).orphans,
            []
        );
    }
}
