//! Columns of the objects that hold a cluster together.

use serde_json::Value;

use super::{NONE, UNSET, items, joined, length, or_none, path, text, with};
use crate::table::{Cell, Column, age, at};

pub(in crate::resource) const COMPONENT_STATUS: &[Column] = &[
    Column::name(),
    with("Status", |o| {
        let healthy = healthy(o)["status"] == "True";
        if healthy { "Healthy" } else { "Unhealthy" }.into()
    }),
    with("Message", |o| text(healthy(o), "message").into()),
    with("Error", |o| text(healthy(o), "error").into()),
];

fn healthy(object: &Value) -> &Value {
    let conditions = items(object, "conditions");
    let healthy = conditions.iter().find(|c| c["type"] == "Healthy");
    healthy.unwrap_or(&Value::Null)
}

pub(in crate::resource) const CONFIG_MAP: &[Column] = &[
    Column::name(),
    with("Data", |o| {
        (length(&o["data"]) + length(&o["binaryData"])).into()
    }),
    Column::age(),
];

pub(in crate::resource) const SECRET: &[Column] = &[
    Column::name(),
    path("Type", "type"),
    with("Data", |o| length(&o["data"]).into()),
    Column::age(),
];

pub(in crate::resource) const NAMESPACE: &[Column] = &[
    Column::name(),
    path("Status", "status.phase"),
    Column::age(),
];

pub(in crate::resource) const SERVICE_ACCOUNT: &[Column] = &[
    Column::name(),
    with("Secrets", |o| length(&o["secrets"]).into()),
    Column::age(),
];

pub(in crate::resource) const QUOTA: &[Column] = &[
    Column::name(),
    with("Request", |o| {
        quota(o, |resource| !resource.starts_with("limits."))
    }),
    with("Limit", |o| {
        quota(o, |resource| resource.starts_with("limits."))
    }),
    Column::age(),
];

fn quota(object: &Value, wanted: fn(&str) -> bool) -> Value {
    let hard = at(object, "status.hard");
    let mut names: Vec<&String> = hard
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .collect();
    names.sort();
    let shown = names.into_iter().filter(|name| wanted(name)).map(|name| {
        let used = at(object, "status.used")[name].as_str().unwrap_or("0");
        format!("{name}: {used}/{}", hard[name].as_str().unwrap_or("0"))
    });
    shown.collect::<Vec<_>>().join(", ").into()
}

pub(in crate::resource) const EVENT: &[Column] = &[
    with("Last Seen", last_seen),
    path("Type", "type"),
    path("Reason", "reason"),
    with("Object", |o| {
        let about = either(o, "involvedObject", "regarding");
        format!(
            "{}/{}",
            text(about, "kind").to_lowercase(),
            text(about, "name")
        )
        .into()
    }),
    with("Subobject", |o| {
        text(either(o, "involvedObject", "regarding"), "fieldPath").into()
    })
    .wide(),
    with("Source", |o| {
        let source = either(o, "source", "deprecatedSource");
        let component = match text(source, "component") {
            "" => either(o, "reportingComponent", "reportingController").as_str(),
            component => Some(component),
        };
        match (component.unwrap_or_default(), text(source, "host")) {
            (component, "") => component.into(),
            (component, host) => format!("{component}, {host}").into(),
        }
    })
    .wide(),
    with("Message", |o| {
        let message = either(o, "message", "note").as_str().unwrap_or_default();
        message.trim().into()
    }),
    with("First Seen", |o| {
        let first = either(o, "firstTimestamp", "deprecatedFirstTimestamp").as_str();
        age::since_text(first.or(o["eventTime"].as_str())).into()
    })
    .wide(),
    with("Count", |o| {
        let count = either(o, "count", "deprecatedCount").as_i64().unwrap_or(1);
        at(o, "series.count").as_i64().unwrap_or(count).into()
    })
    .wide(),
    Column::name().wide(),
];

/// Events are shown in both of their versions.
fn either<'v>(object: &'v Value, core: &str, new: &str) -> &'v Value {
    if object[core].is_null() {
        &object[new]
    } else {
        &object[core]
    }
}

fn last_seen(event: &Value) -> Value {
    let series = text(event, "series.lastObservedTime");
    let last = either(event, "lastTimestamp", "deprecatedLastTimestamp").as_str();
    let first = either(event, "firstTimestamp", "deprecatedFirstTimestamp").as_str();
    let time = (!series.is_empty()).then_some(series);
    age::since_text(time.or(last).or(first).or(event["eventTime"].as_str())).into()
}

pub(in crate::resource) const LEASE: &[Column] = &[
    Column::name(),
    with("Holder", |o| text(o, "spec.holderIdentity").into()),
    Column::age(),
];

pub(in crate::resource) const RUNTIME_CLASS: &[Column] =
    &[Column::name(), path("Handler", "handler"), Column::age()];

pub(in crate::resource) const PRIORITY_CLASS: &[Column] = &[
    Column::name(),
    Column::integer("Value", Cell::Path("value")),
    with("Global-Default", |o| (o["globalDefault"] == true).into()),
    Column::age(),
    path("PreemptionPolicy", "preemptionPolicy"),
];

pub(in crate::resource) const ROLE_BINDING: &[Column] = &[
    Column::name(),
    with("Role", |o| {
        format!("{}/{}", text(o, "roleRef.kind"), text(o, "roleRef.name")).into()
    }),
    Column::age(),
    with("Users", |o| subjects(o, "User")).wide(),
    with("Groups", |o| subjects(o, "Group")).wide(),
    with("ServiceAccounts", |o| subjects(o, "ServiceAccount")).wide(),
];

fn subjects(binding: &Value, kind: &str) -> Value {
    let subjects = items(binding, "subjects")
        .iter()
        .filter(|s| text(s, "kind") == kind);
    let names = subjects.map(|subject| match text(subject, "namespace") {
        "" => text(subject, "name").to_owned(),
        namespace => format!("{namespace}/{}", text(subject, "name")),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

pub(in crate::resource) const SIGNING_REQUEST: &[Column] = &[
    Column::name(),
    Column::age(),
    path("SignerName", "spec.signerName"),
    path("Requestor", "spec.username"),
    with("RequestedDuration", |o| {
        match at(o, "spec.expirationSeconds").as_i64() {
            Some(seconds) => age::human(seconds).into(),
            None => NONE.into(),
        }
    }),
    with("Condition", |o| {
        let has = |kind: &str| {
            items(o, "status.conditions")
                .iter()
                .any(|c| text(c, "type") == kind)
        };
        let mut states = vec![match (has("Denied"), has("Approved")) {
            (true, _) => "Denied",
            (_, true) => "Approved",
            _ => "Pending",
        }];
        if has("Failed") {
            states.push("Failed");
        }
        if !text(o, "status.certificate").is_empty() {
            states.push("Issued");
        }
        joined(states)
    }),
];

pub(in crate::resource) const TRUST_BUNDLE: &[Column] = &[
    Column::name(),
    with("SignerName", |o| {
        or_none(text(o, "spec.signerName").to_owned())
    }),
];

pub(in crate::resource) const API_SERVICE: &[Column] = &[
    Column::name(),
    with("Service", |o| {
        let service = at(o, "spec.service");
        if service.is_null() {
            return "Local".into();
        }
        format!("{}/{}", text(service, "namespace"), text(service, "name")).into()
    }),
    with("Available", |o| {
        let conditions = items(o, "status.conditions");
        let Some(found) = conditions.iter().find(|c| text(c, "type") == "Available") else {
            return UNSET.into();
        };
        match text(found, "status") {
            "True" => "True".into(),
            status => format!("{status} ({})", text(found, "reason")).into(),
        }
    }),
    Column::age(),
];
