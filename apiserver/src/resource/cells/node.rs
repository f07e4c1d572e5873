//! Columns of nodes.

use serde_json::Value;

use super::{NONE, items, or_none, path, text, with};
use crate::table::{Column, at};

pub(in crate::resource) const NODE: &[Column] = &[
    Column::name(),
    with("Status", status),
    with("Roles", roles),
    Column::age(),
    path("Version", "status.nodeInfo.kubeletVersion"),
    with("Internal-IP", |node| address(node, "InternalIP")).wide(),
    with("External-IP", |node| address(node, "ExternalIP")).wide(),
    with("OS-Image", |node| info(node, "osImage")).wide(),
    with("Kernel-Version", |node| info(node, "kernelVersion")).wide(),
    with("Container-Runtime", |node| {
        info(node, "containerRuntimeVersion")
    })
    .wide(),
];

fn status(node: &Value) -> Value {
    let conditions = items(node, "status.conditions");
    let ready = conditions
        .iter()
        .find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if at(node, "spec.unschedulable") == true {
        status.push_str(",SchedulingDisabled");
    }
    status.into()
}

fn roles(node: &Value) -> Value {
    let labels = at(node, "metadata.labels").as_object();
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) if !role.is_empty() => Some(role),
                _ if key == "kubernetes.io/role" => value.as_str(),
                _ => None,
            },
        )
        .collect();
    roles.sort_unstable();
    or_none(roles.join(","))
}

fn address(node: &Value, kind: &str) -> Value {
    let addresses = items(node, "status.addresses");
    let found = addresses
        .iter()
        .find(|address| text(address, "type") == kind);
    found
        .map_or(NONE, |address| text(address, "address"))
        .into()
}

fn info(node: &Value, field: &str) -> Value {
    match text(at(node, "status.nodeInfo"), field) {
        "" => "<unknown>".into(),
        value => value.into(),
    }
}
