//! Columns of workloads.

use serde_json::Value;

use super::{NONE, UNSET, count, int, items, joined, pairs, path, selector, text, with};
use crate::table::{Cell, Column, age, at};

const CONTAINERS: Column = with("Containers", |o| names(o, "name")).wide();
const IMAGES: Column = with("Images", |o| names(o, "image")).wide();
const SELECTOR: Column = with("Selector", own_selector).wide();

/// Names or images of the containers of the pods it makes.
fn names(object: &Value, field: &str) -> Value {
    let direct = at(object, "spec.template.spec.containers");
    let nested = at(object, "spec.jobTemplate.spec.template.spec.containers");
    let template = at(object, "template.spec.containers");
    let found = [direct, nested, template]
        .into_iter()
        .find_map(Value::as_array);
    joined(
        found
            .into_iter()
            .flatten()
            .map(|container| text(container, field)),
    )
}

/// A selector that is structured, or a plain map (ReplicationController), or a CronJob's template's.
fn own_selector(object: &Value) -> Value {
    let own = at(object, "spec.selector");
    let own = if own.is_null() {
        at(object, "spec.jobTemplate.spec.selector")
    } else {
        own
    };
    let plain = own
        .as_object()
        .is_some_and(|map| map.values().all(Value::is_string));
    if plain { pairs(own) } else { selector(own) }
}

pub(in crate::resource) const POD_TEMPLATE: &[Column] = &[
    Column::name(),
    with("Containers", |o| names(o, "name")),
    with("Images", |o| names(o, "image")),
    with("Pod Labels", |o| pairs(at(o, "template.metadata.labels"))),
];

pub(in crate::resource) const DEPLOYMENT: &[Column] = &[
    Column::name(),
    with("Ready", |o| {
        format!(
            "{}/{}",
            int(o, "status.readyReplicas"),
            int(o, "spec.replicas")
        )
        .into()
    }),
    count("Up-to-date", |o| int(o, "status.updatedReplicas").into()),
    count("Available", |o| int(o, "status.availableReplicas").into()),
    Column::age(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::resource) const REPLICA_SET: &[Column] = &[
    Column::name(),
    count("Desired", |o| int(o, "spec.replicas").into()),
    count("Current", |o| int(o, "status.replicas").into()),
    count("Ready", |o| int(o, "status.readyReplicas").into()),
    Column::age(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::resource) const DAEMON_SET: &[Column] = &[
    Column::name(),
    count("Desired", |o| {
        int(o, "status.desiredNumberScheduled").into()
    }),
    count("Current", |o| {
        int(o, "status.currentNumberScheduled").into()
    }),
    count("Ready", |o| int(o, "status.numberReady").into()),
    count("Up-to-date", |o| {
        int(o, "status.updatedNumberScheduled").into()
    }),
    count("Available", |o| int(o, "status.numberAvailable").into()),
    with("Node Selector", |o| {
        pairs(at(o, "spec.template.spec.nodeSelector"))
    }),
    Column::age(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::resource) const STATEFUL_SET: &[Column] = &[
    Column::name(),
    with("Ready", |o| {
        format!(
            "{}/{}",
            int(o, "status.readyReplicas"),
            int(o, "spec.replicas")
        )
        .into()
    }),
    Column::age(),
    CONTAINERS,
    IMAGES,
];

pub(in crate::resource) const CONTROLLER_REVISION: &[Column] = &[
    Column::name(),
    with("Controller", |o| {
        let owners = items(o, "metadata.ownerReferences");
        let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) else {
            return NONE.into();
        };
        let group = text(owner, "apiVersion")
            .split_once('/')
            .map(|(group, _)| group);
        let kind = text(owner, "kind").to_lowercase();
        let kind = group.map_or(kind.clone(), |group| format!("{kind}.{group}"));
        format!("{kind}/{}", text(owner, "name")).into()
    }),
    Column::integer("Revision", Cell::Path("revision")),
    Column::age(),
];

pub(in crate::resource) const JOB: &[Column] = &[
    Column::name(),
    with("Status", job_status),
    with("Completions", |o| {
        let succeeded = int(o, "status.succeeded");
        let parallelism = at(o, "spec.parallelism").as_i64();
        match (at(o, "spec.completions").as_i64(), parallelism) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, Some(many)) if many > 1 => format!("{succeeded}/1 of {many}"),
            _ => format!("{succeeded}/1"),
        }
        .into()
    }),
    with("Duration", |o| {
        let start = text(o, "status.startTime").parse::<jiff::Timestamp>();
        let end = text(o, "status.completionTime").parse::<jiff::Timestamp>();
        let Ok(start) = start else { return "".into() };
        let end = end.unwrap_or_else(|_| jiff::Timestamp::now());
        age::human(end.as_second() - start.as_second()).into()
    }),
    Column::age(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn job_status(job: &Value) -> Value {
    let has = |kind: &str| {
        let conditions = items(job, "status.conditions");
        conditions
            .iter()
            .any(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    let status = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if !at(job, "metadata.deletionTimestamp").is_null() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    status.into()
}

pub(in crate::resource) const CRON_JOB: &[Column] = &[
    Column::name(),
    path("Schedule", "spec.schedule"),
    with("Timezone", |o| match text(o, "spec.timeZone") {
        "" => NONE.into(),
        zone => zone.into(),
    }),
    with("Suspend", |o| {
        let suspended = at(o, "spec.suspend") == true;
        if suspended { "True" } else { "False" }.into()
    }),
    count("Active", |o| items(o, "status.active").len().into()),
    with("Last Schedule", |o| {
        match text(o, "status.lastScheduleTime") {
            "" => NONE.into(),
            time => age::since_text(Some(time)).into(),
        }
    }),
    Column::age(),
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::resource) const AUTOSCALER: &[Column] = &[
    Column::name(),
    with("Reference", |o| {
        let target = at(o, "spec.scaleTargetRef");
        format!("{}/{}", text(target, "kind"), text(target, "name")).into()
    }),
    with("Targets", targets),
    with("MinPods", |o| match at(o, "spec.minReplicas") {
        Value::Number(number) => number.to_string().into(),
        _ => UNSET.into(),
    }),
    count("MaxPods", |o| int(o, "spec.maxReplicas").into()),
    count("Replicas", |o| int(o, "status.currentReplicas").into()),
    Column::age(),
];

/// `cpu: 30%/70%` for resource metrics; other sources by their type.
fn targets(object: &Value) -> Value {
    let metrics = items(object, "spec.metrics");
    let current = items(object, "status.currentMetrics");
    let shown = metrics.iter().enumerate().map(|(index, metric)| {
        let now = current.get(index).unwrap_or(&Value::Null);
        let percent = |value: &Value| value.as_i64().map(|number| format!("{number}%"));
        let wanted = at(metric, "resource.target.averageUtilization");
        let have = at(now, "resource.current.averageUtilization");
        let have = percent(have).unwrap_or_else(|| "<unknown>".to_owned());
        match percent(wanted) {
            Some(wanted) => format!("{}: {have}/{wanted}", text(metric, "resource.name")),
            None => format!("{}: {have}", text(metric, "type").to_lowercase()),
        }
    });
    let shown: Vec<String> = shown.collect();
    super::or_none(shown.join(", "))
}

pub(in crate::resource) const DISRUPTION_BUDGET: &[Column] = &[
    Column::name(),
    with("Min Available", |o| {
        or_not_available(at(o, "spec.minAvailable"))
    }),
    with("Max Unavailable", |o| {
        or_not_available(at(o, "spec.maxUnavailable"))
    }),
    count("Allowed Disruptions", |o| {
        int(o, "status.disruptionsAllowed").into()
    }),
    Column::age(),
];

fn or_not_available(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}
