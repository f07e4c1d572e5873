//! Deployments, ReplicaSets, DaemonSets, StatefulSets and ReplicationControllers.

use serde_json::{Map, Value};

use super::access::{Fields, carry, default, ensure, same};
use super::{Context, Errors, immutable, intstr, labels, pod};
use crate::schema::{FieldError, Path};

/// The strategy of a rolling update has numbers, the others none.
pub(super) fn rolling_defaults(strategy: &mut Map<String, Value>) {
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        ensure(strategy, "rollingUpdate");
    }
}

/// Claims inside a StatefulSet say what they are, as protobuf cannot.
pub(super) fn claim_types(spec: &mut Map<String, Value>) {
    let claims = spec
        .get_mut("volumeClaimTemplates")
        .and_then(Value::as_array_mut);
    for claim in claims
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        claim.insert("apiVersion".to_owned(), "v1".into());
        claim.insert("kind".to_owned(), "PersistentVolumeClaim".into());
    }
}

/// A ReplicationController takes labels and selector from its template.
pub(super) fn controller_defaults(controller: &mut Map<String, Value>) {
    let template = controller
        .get("spec")
        .map_or(&Value::Null, |s| s.at("template"));
    let labels = template.at("metadata").at("labels").clone();
    if labels.as_object().is_none_or(Map::is_empty) {
        return;
    }
    default(ensure(controller, "spec"), "selector", labels.clone());
    default(ensure(controller, "metadata"), "labels", labels);
}

/// Checks the selector against the labels of the template, and what a template may not say.
fn template(spec: &Value, kind: &str, at: &Path<'_>, out: &mut Errors) {
    let selector = spec.at("selector");
    let template = spec.at("template");
    if template.is_null() {
        return;
    }
    let at_selector = at.field("selector");
    let at_template = at.field("template");
    if !selector.is_null() && labels::is_empty(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        out.push(FieldError::invalid(at_selector, selector.clone(), detail));
    }
    let given = template.at("metadata").at("labels");
    if !selector.is_null() && !labels::is_empty(selector) && !labels::matches(selector, given) {
        mismatch(given, &at_template, out);
    }
    always_running(template, kind, &at_template, out);
    mounts(spec, &at_template, out);
}

/// Checks that what the containers of a template mount is there; a StatefulSet's pods have its claims as volumes.
pub(super) fn mounts(spec: &Value, at_template: &Path<'_>, out: &mut Errors) {
    let pod = spec.at("template").at("spec");
    let claims = spec.items("volumeClaimTemplates");
    pod::spec::mounts(pod, claims, &at_template.field("spec"), out);
}

fn mismatch(labels: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("metadata");
    let shown = if labels.is_null() {
        Value::Object(Map::new())
    } else {
        labels.clone()
    };
    let detail = "`selector` does not match template `labels`";
    out.push(FieldError::invalid(at.field("labels"), shown, detail));
}

fn always_running(template: &Value, kind: &str, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("spec");
    let policy = template.at("spec").text("restartPolicy");
    if !matches!(policy, "Always" | "") {
        out.push(FieldError::not_supported(
            at.field("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if template.at("spec").has("activeDeadlineSeconds") {
        let name = match kind {
            "daemonset" => "DaemonSet",
            "statefulset" => "StatefulSet",
            "replicationcontroller" => "ReplicationController",
            _ => "ReplicaSet",
        };
        let detail = format!("activeDeadlineSeconds in {name} is not Supported");
        out.push(FieldError::forbidden(
            at.field("activeDeadlineSeconds"),
            detail,
        ));
    }
}

/// Checks a Deployment's spec.
pub(super) fn deployment(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    template(spec, "deployment", at, out);
    let at_strategy = at.field("strategy");
    let strategy = spec.at("strategy");
    let at_rolling = at_strategy.field("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            out.push(FieldError::forbidden(at_rolling, detail));
        }
        "RollingUpdate" => {
            let rolling = strategy.at("rollingUpdate");
            let (surge, gone) = (rolling.at("maxSurge"), rolling.at("maxUnavailable"));
            let at_gone = at_rolling.field("maxUnavailable");
            intstr::not_negative(gone, &at_gone, out);
            intstr::not_negative(surge, &at_rolling.field("maxSurge"), out);
            if intstr::is_nothing(surge) && intstr::is_nothing(gone) {
                let detail = "may not be 0 when `maxSurge` is 0";
                out.push(FieldError::invalid(at_gone, gone.clone(), detail));
            }
            intstr::at_most_all(gone, &at_gone, out);
        }
        _ => {}
    }
    if let Some(deadline) = spec.int("progressDeadlineSeconds")
        && deadline <= spec.int("minReadySeconds").unwrap_or(0)
    {
        let detail = "must be greater than minReadySeconds";
        out.push(FieldError::invalid(
            at.field("progressDeadlineSeconds"),
            deadline,
            detail,
        ));
    }
}

/// Checks a ReplicaSet's spec.
pub(super) fn replica_set(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    template(spec, "deployment", at, out);
}

/// Checks a DaemonSet's spec.
pub(super) fn daemon_set(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    template(spec, "daemonset", at, out);
    let strategy = spec.at("updateStrategy");
    if strategy.text("type") != "RollingUpdate" {
        return;
    }
    let at = at.field("updateStrategy");
    let at = at.field("rollingUpdate");
    if !strategy.has("rollingUpdate") {
        out.push(FieldError::required(at, ""));
        return;
    }
    let rolling = strategy.at("rollingUpdate");
    let (surge, gone) = (rolling.at("maxSurge"), rolling.at("maxUnavailable"));
    for (value, key) in [(gone, "maxUnavailable"), (surge, "maxSurge")] {
        intstr::not_negative(value, &at.field(key), out);
        intstr::at_most_all(value, &at.field(key), out);
    }
    match (intstr::is_nothing(surge), intstr::is_nothing(gone)) {
        (true, true) => {
            let detail = "cannot be 0 when maxSurge is 0";
            out.push(FieldError::required(at.field("maxUnavailable"), detail));
        }
        (false, false) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            out.push(FieldError::invalid(
                at.field("maxSurge"),
                surge.clone(),
                detail,
            ));
        }
        _ => {}
    }
}

/// Checks a StatefulSet's spec.
pub(super) fn stateful_set(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    template(spec, "statefulset", at, out);
    let strategy = spec.at("updateStrategy");
    let at_strategy = at.field("updateStrategy");
    match strategy.text("type") {
        "" => out.push(FieldError::required(at_strategy, "")),
        "OnDelete" if strategy.has("rollingUpdate") => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let value = strategy.at("rollingUpdate").clone();
            out.push(FieldError::invalid(
                at_strategy.field("rollingUpdate"),
                value,
                detail,
            ));
        }
        _ => {}
    }
    if let Some(gone) = strategy.at("rollingUpdate").get("maxUnavailable") {
        let at = at_strategy.field("rollingUpdate");
        let at = at.field("maxUnavailable");
        intstr::not_negative(gone, &at, out);
        intstr::at_most_all(gone, &at, out);
        if intstr::is_nothing(gone) {
            out.push(FieldError::invalid(at, gone.clone(), "cannot be 0"));
        }
    }
}

/// Checks a ReplicationController's spec.
pub(super) fn replication_controller(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let template = spec.at("template");
    let at_template = at.field("template");
    let labels = template.at("metadata").at("labels");
    if !template.is_null()
        && !spec
            .entries("selector")
            .all(|(k, v)| labels.get(k) == Some(v))
    {
        mismatch(labels, &at_template, out);
    }
    always_running(template, "replicationcontroller", &at_template, out);
    mounts(spec, &at_template, out);
}

/// The selector of a workload stays as it was made.
pub(super) fn selector_immutable(
    context: &Context<'_>,
    new: &Value,
    old: &Value,
    out: &mut Errors,
) {
    if context.subresource.is_empty() {
        immutable(
            new.at("spec"),
            old.at("spec"),
            "selector",
            &Path::new("spec"),
            out,
        );
    }
}

/// A StatefulSet's spec may change in a few fields only.
pub(super) fn stateful_set_update(
    context: &Context<'_>,
    new: &Value,
    old: &Value,
    out: &mut Errors,
) {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    if !context.subresource.is_empty() {
        return;
    }
    let mut allowed = old.at("spec").clone();
    for key in MUTABLE {
        carry(&mut allowed, new.at("spec"), key);
    }
    if !same(&allowed, new.at("spec")) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                      'template', 'updateStrategy', 'revisionHistoryLimit', \
                      'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        out.push(FieldError::forbidden("spec", detail));
    }
}

/// The data of a revision is what it is.
pub(super) fn revision_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    immutable(new, old, "data", &Path::ROOT, out);
}
