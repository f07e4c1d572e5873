//! Namespaces, nodes, events, priority classes, quotas and limits.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::access::{Fields, carry, default, ensure, same};
use super::generic::only;
use super::{Context, Errors, immutable, resources};
use crate::schema::{FieldError, Path};

/// Every namespace carries its name as a label, to be selected by.
pub(super) fn namespace_defaults(namespace: &mut Map<String, Value>) {
    let meta = ensure(namespace, "metadata");
    let name = meta
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if !name.is_empty() {
        ensure(meta, "labels").insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// A new namespace is active and is held until its content is gone.
pub(super) fn namespace_create(_: &Context<'_>, namespace: &mut Value) {
    let Some(root) = namespace.as_object_mut() else {
        return;
    };
    root.insert("status".to_owned(), json!({"phase": "Active"}));
    let spec = ensure(root, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

/// The finalizers of a namespace change through `finalize` only.
pub(super) fn namespace_prepare(context: &Context<'_>, new: &mut Value, old: &Value) {
    match context.subresource {
        "finalize" => only(new, old, "spec"),
        _ => carry(new, old, "spec"),
    }
}

/// What holds a namespace is named as finalizers are.
pub(super) fn namespace_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    let (finalizers, before) = (new.at("spec").items("finalizers"), old.at("spec"));
    if finalizers != before.items("finalizers") {
        let root = Path::new("spec");
        let at = root.field("finalizers");
        super::meta::finalizers(finalizers, &at, out);
        super::meta::known_finalizers(finalizers, &at, out);
    }
}

/// A node that says nothing of what can be allocated offers all it has.
pub(super) fn node_status_defaults(status: &mut Map<String, Value>) {
    if let Some(capacity) = status.get("capacity").filter(|c| !c.is_null()).cloned() {
        default(status, "allocatable", capacity);
    }
}

/// Checks a node's spec.
pub(super) fn node_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_taints = at.field("taints");
    let mut seen = HashSet::new();
    for (index, taint) in spec.items("taints").iter().enumerate() {
        if !seen.insert((taint.text("key"), taint.text("effect"))) {
            out.push(FieldError::duplicate(at_taints.index(index), taint.clone()));
        }
    }
    let at_ranges = at.field("podCIDRs");
    for (index, range) in spec.items("podCIDRs").iter().enumerate() {
        if let Some(fault) = super::names::cidr(range.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid(
                at_ranges.index(index),
                range.clone(),
                fault,
            ));
        }
    }
}

/// Addresses and identity of a node stay once they are set.
pub(super) fn node_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    let spec = Path::new("spec");
    for key in ["podCIDR", "podCIDRs", "providerID"] {
        let before = old.at("spec").at(key);
        if !before.is_null() && !same(before, &Value::Null) && !same(new.at("spec").at(key), before)
        {
            let detail = "node updates may not change this field once it is set";
            out.push(FieldError::forbidden(spec.field(key), detail));
        }
    }
}

/// An event lies in the namespace of what it is about.
pub(super) fn event(_: &Context<'_>, event: &Value, out: &mut Errors) {
    let namespace = event.at("metadata").text("namespace");
    let about = Path::new("involvedObject");
    let other = event.at("involvedObject").text("namespace");
    let expected = if other.is_empty() { "default" } else { other };
    let system = other.is_empty() && namespace == "kube-system";
    if namespace != expected && !system {
        let detail = "does not match event.namespace";
        out.push(FieldError::invalid(about.field("namespace"), other, detail));
    }
}

/// Checks an event of the newer API.
pub(super) fn new_event(_: &Context<'_>, event: &Value, out: &mut Errors) {
    let namespace = event.at("metadata").text("namespace");
    let other = event.at("regarding").text("namespace");
    let expected = if other.is_empty() { "default" } else { other };
    if namespace != expected && !(other.is_empty() && namespace == "kube-system") {
        let detail = "does not match event.namespace";
        out.push(FieldError::invalid("regarding.namespace", other, detail));
    }
    for key in [
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if event.text(key).is_empty() && event.has("eventTime") {
            out.push(FieldError::required(key, ""));
        }
    }
}

/// Checks a priority class.
pub(super) fn priority_class(_: &Context<'_>, class: &Value, out: &mut Errors) {
    let name = class.at("metadata").text("name");
    let system = match name {
        "system-node-critical" => Some(2_000_001_000),
        "system-cluster-critical" => Some(2_000_000_000),
        _ => None,
    };
    let value = class.int("value").unwrap_or(0);
    match system {
        Some(wanted) if wanted == value => {}
        None if name.starts_with("system-") => {
            let detail =
                "priority class names with 'system-' prefix are reserved for system use only";
            out.push(FieldError::forbidden("metadata.name", detail));
        }
        Some(_) => {
            let detail = "the value of a system priority class is fixed";
            out.push(FieldError::forbidden("value", detail));
        }
        None if value > 1_000_000_000 => {
            let detail = "maximum allowed value of a user defined priority is 1000000000";
            out.push(FieldError::forbidden("value", detail));
        }
        None => {}
    }
}

/// The value of a priority class is copied into pods and so stays.
pub(super) fn priority_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if new.int("value") != old.int("value") {
        out.push(FieldError::forbidden(
            "value",
            "may not be changed in an update.",
        ));
    }
    immutable(new, old, "preemptionPolicy", &Path::ROOT, out);
}

/// Limits of containers that say less than they could.
pub(super) fn limit_defaults(item: &mut Map<String, Value>) {
    if item.get("type").and_then(Value::as_str) != Some("Container") {
        return;
    }
    let fill = |item: &mut Map<String, Value>, target: &str, source: &str| {
        let Some(values) = item.get(source).and_then(Value::as_object).cloned() else {
            return;
        };
        let target = ensure(item, target);
        for (name, value) in values {
            target.entry(name).or_insert(value);
        }
    };
    fill(item, "default", "max");
    fill(item, "defaultRequest", "default");
    fill(item, "defaultRequest", "min");
}

/// Checks one item of a LimitRange.
pub(super) fn limit_item(item: &Value, at: &Path<'_>, out: &mut Errors) {
    if item.text("type").is_empty() {
        out.push(FieldError::required(at.field("type"), ""));
    }
    let order = ["min", "defaultRequest", "default", "max"];
    for list in order {
        resources::amounts(item.at(list), &at.field(list), out);
    }
    for (lower, upper) in [
        ("min", "max"),
        ("min", "default"),
        ("min", "defaultRequest"),
        ("defaultRequest", "default"),
        ("default", "max"),
        ("defaultRequest", "max"),
    ] {
        let at = at.field(lower);
        for (name, value) in item.entries(lower) {
            let (low, high) = (
                resources::parse(value),
                resources::parse(item.at(upper).at(name)),
            );
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let detail = format!("{lower} value {low} is greater than {upper} value {high}");
                out.push(FieldError::invalid(at.key(name), value.clone(), detail));
            }
        }
    }
}

/// The handler of a runtime class stays.
pub(super) fn runtime_class_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    immutable(new, old, "handler", &Path::ROOT, out);
}

/// Checks a lease.
pub(super) fn lease(_: &Context<'_>, lease: &Value, out: &mut Errors) {
    let spec = lease.at("spec");
    if spec.has("holderIdentity") && spec.text("holderIdentity").is_empty() && spec.has("strategy")
    {
        out.push(FieldError::invalid(
            "spec.holderIdentity",
            "",
            "must not be empty",
        ));
    }
}
