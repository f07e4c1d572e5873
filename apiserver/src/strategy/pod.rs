//! Pods: defaults that belong to pods and not to templates, creation, status, deletion.

pub(super) mod container;
pub(super) mod env;
pub(super) mod probe;
pub(super) mod scheduling;
pub(super) mod security;
pub(super) mod spec;
pub(super) mod update;
pub(super) mod volume;

use serde_json::{Map, Value, json};

use super::access::{Fields, carry, default, default_absent, ensure, object};
use super::generic::only;
use super::{Context, Errors, meta};
use crate::schema::{FieldError, Path};

/// The three lists of containers.
pub(crate) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a pod that a template does not get.
pub(super) fn defaults(pod: &mut Map<String, Value>) {
    let Some(spec) = object(pod, "spec") else {
        return;
    };
    default_absent(spec, "enableServiceLinks", true);
    let host_network = spec
        .get("hostNetwork")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    if let Some(resources) = object(spec, "resources") {
        fill_requests(resources);
    }
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    if let Some(resources) = object(container, "resources") {
        fill_requests(resources);
    }
}

fn fill_requests(resources: &mut Map<String, Value>) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let requests = ensure(resources, "requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_ports(container: &mut Map<String, Value>) {
    let ports = container.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(number) = port.get("containerPort").cloned() {
            default(port, "hostPort", number);
        }
    }
}

/// Defaults of a pod spec, in pods and templates: the two spellings of the service account.
pub(super) fn spec_defaults(spec: &mut Map<String, Value>) {
    let text = |spec: &Map<String, Value>, key: &str| {
        spec.get(key)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let name = text(spec, "serviceAccountName").or_else(|| text(spec, "serviceAccount"));
    if let Some(name) = name {
        spec.insert("serviceAccountName".to_owned(), name.clone().into());
        spec.insert("serviceAccount".to_owned(), name.into());
    }
}

/// A new pod is pending and has the quality of service its resources give it.
pub(super) fn create(_context: &Context<'_>, pod: &mut Value) {
    let class = quality_of_service(pod.at("spec"));
    let gated = !pod.at("spec").items("schedulingGates").is_empty();
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    if let Some(root) = pod.as_object_mut() {
        root.insert("status".to_owned(), status);
    }
}

/// Keeps what each way of writing a pod may not change.
pub(super) fn prepare_update(context: &Context<'_>, new: &mut Value, old: &Value) {
    match context.subresource {
        "" => {}
        "status" => {
            if new.at("status").text("qosClass").is_empty()
                && let Some(root) = new.as_object_mut()
            {
                let class = old.at("status").at("qosClass").clone();
                ensure(root, "status").insert("qosClass".to_owned(), class);
            }
        }
        "ephemeralcontainers" => narrow(new, old, &["ephemeralContainers"], &[]),
        "resize" => narrow(new, old, &["resources"], &["resources", "resizePolicy"]),
        _ => {}
    }
}

/// Takes from `new` only some fields of the spec, and some of each container.
fn narrow(new: &mut Value, old: &Value, spec_keys: &[&str], container_keys: &[&str]) {
    let wanted = new.at("spec").clone();
    only(new, old, "");
    carry(new, old, "status");
    let Some(spec) = new.as_object_mut().and_then(|root| object(root, "spec")) else {
        return;
    };
    for key in spec_keys {
        match wanted.get(*key) {
            Some(value) => spec.insert((*key).to_owned(), value.clone()),
            None => spec.remove(*key),
        };
    }
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let name = container.get("name");
            let Some(source) = wanted.items(list).iter().find(|c| c.get("name") == name) else {
                continue;
            };
            for key in container_keys {
                if let Some(value) = source.get(*key) {
                    container.insert((*key).to_owned(), value.clone());
                }
            }
        }
    }
}

/// Guaranteed, Burstable or BestEffort, from the cpu and memory of all containers.
pub(crate) fn quality_of_service(spec: &Value) -> &'static str {
    let containers = || {
        spec.items("containers")
            .iter()
            .chain(spec.items("initContainers"))
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in containers() {
        let resources = container.at("resources");
        for name in ["cpu", "memory"] {
            let limit = resources.at("limits").at(name);
            let request = resources.at("requests").at(name);
            any |= is_positive(limit) || is_positive(request);
            let equal = request.is_null() || request == limit;
            guaranteed &= is_positive(limit) && equal;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_positive(quantity: &Value) -> bool {
    super::resources::parse(quantity).is_some_and(|q| !q.is_zero() && !q.is_negative())
}

/// The grace period of a pod: its own, or none at all once it is finished or was never bound.
pub(super) fn grace(pod: &Value) -> Option<i64> {
    let finished = matches!(pod.at("status").text("phase"), "Succeeded" | "Failed");
    if pod.at("spec").text("nodeName").is_empty() || finished {
        return Some(0);
    }
    Some(
        pod.at("spec")
            .int("terminationGracePeriodSeconds")
            .unwrap_or(30)
            .max(0),
    )
}

/// What a pod may not have but a running one may.
pub(super) fn check(_context: &Context<'_>, pod: &Value, out: &mut Errors) {
    let spec = Path::new("spec");
    security::annotations(pod, out);
    if pod.at("spec").text("nodeName").is_empty() {
        return;
    }
    if !pod.at("spec").items("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        out.push(FieldError::forbidden(spec.field("nodeName"), detail));
    }
}

/// A new pod has no ephemeral containers yet.
pub(super) fn check_template(template: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_meta = at.field("metadata");
    let metadata = template.at("metadata");
    meta::labels(metadata.at("labels"), &at_meta.field("labels"), out);
    meta::annotations(metadata, &at_meta.field("annotations"), out);
    if !template.at("spec").items("ephemeralContainers").is_empty() {
        let at_spec = at.field("spec");
        let detail = "ephemeral containers not allowed in pod template";
        out.push(FieldError::forbidden(
            at_spec.field("ephemeralContainers"),
            detail,
        ));
    }
}
