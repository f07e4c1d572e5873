//! What an update may change in a pod.

use serde_json::Value;

use super::{LISTS, quality_of_service};
use crate::schema::{FieldError, Path};
use crate::strategy::access::{Fields, carry, same};
use crate::strategy::{Context, Errors};

const ALLOWED: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a change of a pod through the main resource or one of its subresources.
pub(in crate::strategy) fn check(
    context: &Context<'_>,
    new: &Value,
    old: &Value,
    out: &mut Errors,
) {
    match context.subresource {
        "" => spec_change(new.at("spec"), old.at("spec"), out),
        "ephemeralcontainers" => ephemeral(new.at("spec"), old.at("spec"), out),
        "resize" => resize(new.at("spec"), old.at("spec"), out),
        "status" => status(new, old, out),
        _ => {}
    }
}

fn spec_change(new: &Value, old: &Value, out: &mut Errors) {
    let at = Path::new("spec");
    if new == old {
        return;
    }
    for list in ["containers", "initContainers"] {
        if new.items(list).len() != old.items(list).len() {
            let detail = "pod updates may not add or remove containers";
            out.push(FieldError::forbidden(at.field(list), detail));
            return;
        }
    }
    deadline(new, old, &at, out);
    tolerations(new, old, &at, out);
    gates(new, old, &at, out);
    // With what may change taken over from the new pod, nothing else may differ.
    let mut allowed = old.clone();
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        carry(&mut allowed, new, key);
    }
    if new.int("terminationGracePeriodSeconds") == Some(1)
        && old
            .int("terminationGracePeriodSeconds")
            .is_some_and(|s| s < 0)
    {
        carry(&mut allowed, new, "terminationGracePeriodSeconds");
    }
    if !old.items("schedulingGates").is_empty() {
        carry(&mut allowed, new, "nodeSelector");
        carry(&mut allowed, new, "affinity");
    }
    for list in ["containers", "initContainers"] {
        let containers = allowed.get_mut(list).and_then(Value::as_array_mut);
        for (container, new) in containers.into_iter().flatten().zip(new.items(list)) {
            carry(container, new, "image");
        }
    }
    if !same(&allowed, new) {
        let changed = changed_fields(&allowed, new).join(", ");
        out.push(FieldError::forbidden(
            at,
            format!("{ALLOWED}\nchanged: {changed}"),
        ));
    }
}

/// The paths under `spec` at which two values differ, at most ten.
fn changed_fields(old: &Value, new: &Value) -> Vec<String> {
    fn walk(old: &Value, new: &Value, at: &Path<'_>, out: &mut Vec<String>) {
        if out.len() >= 10 || same(old, new) {
            return;
        }
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                    walk(old.at(key), new.at(key), &at.field(key), out);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    walk(a, b, &at.index(index), out);
                }
            }
            _ => out.push(at.to_string()),
        }
    }
    let mut out = Vec::new();
    walk(old, new, &Path::new("spec"), &mut out);
    out
}

fn deadline(new: &Value, old: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("activeDeadlineSeconds");
    match (
        new.int("activeDeadlineSeconds"),
        old.int("activeDeadlineSeconds"),
    ) {
        (Some(new), Some(old)) if new > old => {
            let detail = format!("must be less than or equal to previous value {old}");
            out.push(FieldError::invalid(at, new, detail));
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            out.push(FieldError::invalid(at, Value::Null, detail));
        }
        _ => {}
    }
}

fn tolerations(new: &Value, old: &Value, at: &Path<'_>, out: &mut Errors) {
    // Seconds may change while the pod runs; anything else of a toleration stays.
    let stripped = |t: &Value| {
        let mut t = t.clone();
        if let Some(map) = t.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        t
    };
    let kept: Vec<Value> = new.items("tolerations").iter().map(stripped).collect();
    if !old
        .items("tolerations")
        .iter()
        .map(stripped)
        .all(|t| kept.contains(&t))
    {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        out.push(FieldError::forbidden(at.field("tolerations"), detail));
    }
}

fn gates(new: &Value, old: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("schedulingGates");
    let before = old.items("schedulingGates");
    for (index, gate) in new.items("schedulingGates").iter().enumerate() {
        if !before.contains(gate) {
            let detail = "only deletion is allowed, but found new scheduling gate";
            let name = gate.text("name");
            out.push(FieldError::forbidden(
                at.index(index),
                format!("{detail} '{name}'"),
            ));
        }
    }
}

fn ephemeral(new: &Value, old: &Value, out: &mut Errors) {
    let spec = Path::new("spec");
    let at = spec.field("ephemeralContainers");
    for container in old.items("ephemeralContainers") {
        let name = container.text("name");
        let found = new
            .items("ephemeralContainers")
            .iter()
            .find(|c| c.text("name") == name);
        match found {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                out.push(FieldError::forbidden(at, detail));
            }
            Some(found) if !same(found, container) => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n");
                out.push(FieldError::forbidden(at, detail));
            }
            Some(_) => {}
        }
    }
}

fn resize(new: &Value, old: &Value, out: &mut Errors) {
    let spec = Path::new("spec");
    let class = quality_of_service(new);
    if class != quality_of_service(old) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        out.push(FieldError::invalid(spec, class, detail));
    }
    for list in ["containers", "initContainers"] {
        let at = spec.field(list);
        let pairs = new.items(list).iter().zip(old.items(list));
        for (index, (new, old)) in pairs.enumerate() {
            let at = at.index(index);
            let at = at.field("resources");
            let (now, before) = (new.at("resources"), old.at("resources"));
            if list == "initContainers"
                && !same(now, before)
                && old.text("restartPolicy") != "Always"
            {
                let detail = "resources for non-sidecar init containers are immutable";
                out.push(FieldError::forbidden(at, detail));
                continue;
            }
            for (kind, removed) in [
                ("limits", "resource limits cannot be removed"),
                ("requests", "resource requests cannot be removed"),
            ] {
                resized(now.at(kind), before.at(kind), removed, &at.field(kind), out);
            }
        }
    }
}

/// Amounts of cpu and memory may change but not go; all others stay.
fn resized(new: &Value, old: &Value, removed: &str, at: &Path<'_>, out: &mut Errors) {
    let names = |amounts: &Value| -> Vec<String> {
        let amounts = amounts.as_object().into_iter().flatten();
        amounts.map(|(name, _)| name.clone()).collect()
    };
    let resizable = |name: &str| matches!(name, "cpu" | "memory");
    let (after, before) = (names(new), names(old));
    if before
        .iter()
        .any(|name| resizable(name) && !after.contains(name))
    {
        out.push(FieldError::forbidden(at, removed));
    }
    let mut all = after.iter().chain(&before);
    if all.any(|name| !resizable(name) && new.at(name) != old.at(name)) {
        let detail = "only cpu and memory resources are mutable";
        out.push(FieldError::forbidden(at, detail));
    }
}

fn status(new: &Value, old: &Value, out: &mut Errors) {
    let status = Path::new("status");
    let nominated = new.at("status").text("nominatedNodeName");
    if !nominated.is_empty()
        && let Some(fault) = crate::strategy::names::dns_subdomain(nominated)
    {
        out.push(FieldError::invalid(
            status.field("nominatedNodeName"),
            nominated,
            fault,
        ));
    }
    // A container that ended for good may not start again under the same restart policy.
    let at = status.field("containerStatuses");
    let restarts = new.at("spec").text("restartPolicy");
    for (index, before) in old
        .at("status")
        .items("containerStatuses")
        .iter()
        .enumerate()
    {
        let Some(after) = new
            .at("status")
            .items("containerStatuses")
            .iter()
            .find(|s| s.text("name") == before.text("name"))
        else {
            continue;
        };
        let own = LISTS.iter().flat_map(|list| new.at("spec").items(list));
        let own = own
            .into_iter()
            .find(|c| c.text("name") == before.text("name"));
        let policy = own
            .map(|c| c.text("restartPolicy"))
            .filter(|p| !p.is_empty());
        let terminated = before.at("state").at("terminated");
        let ended = !terminated.is_null() && !after.at("state").has("terminated");
        let failed = terminated.int("exitCode").unwrap_or(0) != 0;
        let final_end = match policy.unwrap_or(restarts) {
            "Never" => true,
            "OnFailure" => !failed,
            _ => false,
        };
        if ended && final_end {
            let at = at.index(index);
            out.push(FieldError::forbidden(
                at.field("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
}
