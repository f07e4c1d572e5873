//! The status of a `Plugin` object, from what one node found out. Pure but for the time.

use crate::engine::LoadError;
use davit_api::{Plugin, PluginNode, PluginStatus, Risk};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// What loading led to on this node.
pub(super) enum Outcome {
    /// The plugin is not meant for this node.
    Elsewhere,
    /// It serves, as it is described now.
    Serving(Service),
    /// It cannot be loaded; a version before may still serve.
    Failed {
        error: LoadError,
        /// Text to paste, when grants are missing.
        missing: Option<String>,
        service: Option<Service>,
    },
}

/// A version in service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) driver: String,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) exports: Vec<String>,
    pub(super) risk: Risk,
    pub(super) degraded: bool,
    /// What users should know although it serves.
    pub(super) note: Option<String>,
}

/// The object's status with this node's part brought up to date.
pub(super) fn status(plugin: &Plugin, node: &str, outcome: Outcome) -> PluginStatus {
    let mut status = plugin.status.clone().unwrap_or_default();
    status.observed_generation = plugin.metadata.generation;
    let grants = grants_missing(&outcome);
    status.nodes.retain(|other| other.name != node);
    status.nodes.extend(entry(node, &outcome));
    status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    match outcome {
        Outcome::Serving(service)
        | Outcome::Failed {
            service: Some(service),
            ..
        } => {
            status.driver = Some(service.driver);
            status.version = Some(service.version);
            status.resolved_digest = Some(format!("sha256:{}", service.digest));
            status.exports = service.exports;
            status.risk = Some(service.risk);
        }
        Outcome::Failed { service: None, .. } if status.nodes.len() == 1 => {
            status.driver = None;
            status.version = None;
            status.resolved_digest = None;
            status.exports = Vec::new();
            status.risk = None;
        }
        Outcome::Elsewhere | Outcome::Failed { .. } => {}
    }
    let generation = plugin.metadata.generation;
    set(&mut status.conditions, ready(&status.nodes, generation));
    set(
        &mut status.conditions,
        Condition {
            observed_generation: generation,
            ..grants
        },
    );
    status
}

fn entry(node: &str, outcome: &Outcome) -> Option<PluginNode> {
    let (ready, reason, message) = match outcome {
        Outcome::Elsewhere => return None,
        Outcome::Serving(service) if service.degraded => (
            false,
            "Degraded",
            "the driver trapped or timed out repeatedly; it is tried again every 30 s".to_owned(),
        ),
        Outcome::Serving(service) => (true, "Ready", service.note.clone().unwrap_or_default()),
        Outcome::Failed {
            error,
            service: None,
            ..
        } => (false, error.reason(), error.to_string()),
        Outcome::Failed {
            error,
            service: Some(service),
            ..
        } => {
            let message = format!("{error}; version {} keeps serving", service.version);
            (false, error.reason(), message)
        }
    };
    Some(PluginNode {
        name: node.to_owned(),
        ready,
        reason: reason.to_owned(),
        message,
    })
}

/// `Ready` when every node that loads the plugin is.
fn ready(nodes: &[PluginNode], generation: Option<i64>) -> Condition {
    let failing = nodes.iter().find(|node| !node.ready);
    let (status, reason, message) = match (failing, nodes.len()) {
        (None, 0) => (
            "False",
            "NoNodes".to_owned(),
            "no node is selected".to_owned(),
        ),
        (None, count) => {
            let notes = nodes.iter().filter(|node| !node.message.is_empty());
            let notes: String = notes
                .map(|node| format!("; node {}: {}", node.name, node.message))
                .collect();
            (
                "True",
                "Ready".to_owned(),
                format!("ready on {count} node(s){notes}"),
            )
        }
        (Some(node), _) => (
            "False",
            node.reason.clone(),
            format!("node {}: {}", node.name, node.message),
        ),
    };
    condition("Ready", status, reason, message, generation)
}

fn grants_missing(outcome: &Outcome) -> Condition {
    match outcome {
        Outcome::Failed { error, missing, .. } if error.reason() == "GrantsMissing" => {
            let remedy = missing
                .as_ref()
                .map(|text| format!("; add {text}"))
                .unwrap_or_default();
            let message = format!("{error}{remedy}");
            condition(
                "GrantsMissing",
                "True",
                "GrantsMissing".to_owned(),
                message,
                None,
            )
        }
        _ => condition(
            "GrantsMissing",
            "False",
            "Granted".to_owned(),
            String::new(),
            None,
        ),
    }
}

fn condition(
    kind: &str,
    status: &str,
    reason: String,
    message: String,
    observed_generation: Option<i64>,
) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        observed_generation,
        last_transition_time: Time(Timestamp::now()),
    }
}

/// Replaces a condition; its time changes only when its status does.
fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}
