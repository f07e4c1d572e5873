//! Binding a pod to a node: the one write of the scheduler.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::call::now;
use super::write::{self, Outcome};
use super::{Answer, Call, admit, body, metadata};
use crate::admission::{Operation, Request};
use crate::error::StatusError;

/// `POST pods/<name>/binding`, or (with no name) the old `POST bindings`.
pub(super) async fn create(
    call: &Call,
    body: Bytes,
    name: Option<&str>,
) -> Result<Response<Body>, StatusError> {
    let _announced = call.server.store.announce();
    let mut binding = body::decode_other(call, &body, "", "v1", "Binding")?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => metadata::text(&binding, "name").to_owned(),
    };
    let pods = call.server.registry.snapshot().find("", "v1", "pods");
    let resource = pods.ok_or_else(StatusError::no_such_path)?;
    let mut path = call.path.clone();
    path.name.clone_from(&name);
    let mut call = call.derived(path, call.options.clone());
    call.resource = resource;
    metadata::check_place(&call, &mut binding)?;
    let request = call.admission(Operation::Create, &name, None);
    let request = Request {
        subresource: "binding",
        ..request
    };
    admit::all(&call, &request, &mut binding).await?;
    for _ in 0..write::TRIES {
        let current = write::current(&call, &name)
            .await?
            .ok_or_else(|| call.not_found(&name))?;
        let uid = metadata::text(&binding, "uid");
        if !uid.is_empty() && uid != metadata::text(&current.object, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                metadata::text(&current.object, "uid")
            );
            return Err(StatusError::conflict(&call.resource, &name, &why));
        }
        let mut pod = current.object.clone();
        bind(&call, &name, &mut pod, &binding)?;
        match write::replace(&call, &current, pod).await? {
            Outcome::Raced => {}
            _ => {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "code": 201,
                });
                let answer = Answer::document(call.accept, StatusCode::CREATED, status)?;
                return Ok(answer.into_response());
            }
        }
    }
    Err(StatusError::modified(&call.resource, &name))
}

fn bind(call: &Call, name: &str, pod: &mut Value, binding: &Value) -> Result<(), StatusError> {
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or_default();
    let kind = target["kind"].as_str().unwrap_or_default();
    if node.is_empty() || !matches!(kind, "" | "Node") {
        let error = crate::schema::FieldError::required("target.name", "a node must be named");
        return Err(StatusError::invalid(&call.resource, name, &[error]));
    }
    let conflict = |why: String| Err(StatusError::conflict(&call.resource, name, &why));
    if metadata::is_deleting(pod) {
        return conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(bound) = pod.pointer("/spec/nodeName").and_then(Value::as_str)
        && !bound.is_empty()
    {
        return conflict(format!("pod {name} is already assigned to node {bound:?}"));
    }
    let gates = pod
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = node.into();
    let annotations = binding
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    // Labels, which come from the node, do not replace those the pod has.
    let labels = binding
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        let own = &mut pod["metadata"]["labels"][key];
        if own.is_null() {
            *own = value.clone();
        }
    }
    set_scheduled(pod);
    Ok(())
}

/// The condition `PodScheduled` becomes true.
fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True",
        "lastProbeTime": null, "lastTransitionTime": now().to_string(),
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|have| have["type"] == "PodScheduled")
    {
        Some(have) if have["status"] == "True" => {}
        Some(have) => *have = condition,
        None => conditions.push(condition),
    }
}
