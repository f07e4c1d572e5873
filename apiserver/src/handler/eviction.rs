//! Evicting a pod: a deletion that its disruption budgets must allow.

use axum::body::Body;
use bytes::Bytes;
use davit_api::LabelSelector;
use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::delete::{DeleteOptions, delete_named};
use super::write::{self, Current, Outcome};
use super::{Answer, Call, admit, answer, body, metadata};
use crate::admission::Operation;
use crate::error::StatusError;
use crate::selection::Selection;

pub(super) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let mut eviction = body::decode_other(call, &body, "policy", "v1", "Eviction")?;
    let request = call.admission(Operation::Create, &call.path.name, None);
    admit::all(call, &request, &mut eviction).await?;
    let name = call.path.name.clone();
    let mut path = call.path.clone();
    path.subresource.clear();
    let call = &call.derived(path, call.options.clone());
    let mut options = DeleteOptions {
        dry_run: call.options.dry_run,
        ..DeleteOptions::default()
    };
    options.merge(&eviction["deleteOptions"])?;
    let current = write::current(call, &name)
        .await?
        .ok_or_else(|| call.not_found(&name))?;
    if !needs_no_budget(&current.object) {
        take_from_budget(call, &name, &current.object, options.dry_run).await?;
    }
    delete_named(call, &name, &options).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    let answer = Answer::document(call.accept, StatusCode::CREATED, status)?;
    Ok(answer.into_response())
}

/// Pods that are over, not started, or going away already disrupt nothing.
fn needs_no_budget(pod: &Value) -> bool {
    let phase = pod
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || metadata::is_deleting(pod)
}

async fn take_from_budget(
    call: &Call,
    name: &str,
    pod: &Value,
    dry_run: bool,
) -> Result<(), StatusError> {
    let resource = call
        .server
        .registry
        .snapshot()
        .find("policy", "v1", "poddisruptionbudgets");
    let Some(resource) = resource else {
        return Ok(());
    };
    let mut path = call.path.clone();
    path.subresource = "status".to_owned();
    let mut options = call.options.clone();
    options.dry_run = dry_run;
    let mut call = call.derived(path, options);
    call.resource = resource;
    for _ in 0..write::TRIES {
        let mut matching = budgets(&call, pod)?;
        if matching.len() > 1 {
            return Err(StatusError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                 does not support.",
            ));
        }
        let Some(current) = matching.pop() else {
            return Ok(());
        };
        let budget = allow(&call, name, &current.object)?;
        match write::replace(&call, &current, budget).await? {
            Outcome::Raced => {}
            _ => return Ok(()),
        }
    }
    Err(StatusError::too_many_requests(
        "couldn't update PodDisruptionBudget due to conflicts",
        10,
    ))
}

/// The budgets of the namespace that select the pod.
fn budgets(call: &Call, pod: &Value) -> Result<Vec<Current>, StatusError> {
    call.server.cache.catch_up();
    let selection = Selection::all(&call.resource, &call.path.namespace);
    let page = call.kind().page(&selection, None, 0, 0);
    let labels = pod.pointer("/metadata/labels");
    let label = |key: &str| labels.and_then(|labels| labels[key].as_str());
    let mut found = Vec::new();
    for object in page.objects {
        let value = answer::parse(&object.bytes)?;
        let selector = meta::LabelSelector::deserialize(&value["spec"]["selector"]).ok();
        let selector = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
        if selector.is_some_and(|selector| selector.matches_with(label)) {
            let kv = crate::storage::KeyValue {
                key: object.key,
                value: object.bytes,
                create_revision: 0,
                mod_revision: object.revision,
                version: 0,
            };
            found.push(Current { kv, object: value });
        }
    }
    Ok(found)
}

/// The budget with one disruption less, or 429.
fn allow(call: &Call, pod: &str, budget: &Value) -> Result<Value, StatusError> {
    let name = metadata::text(budget, "name");
    let status = &budget["status"];
    let generation = metadata::of(budget)
        .get("generation")
        .and_then(Value::as_i64);
    let wait = |message: String, cause: String| {
        Err(StatusError::too_many_requests(message, 10).with_cause("DisruptionBudget", "", cause))
    };
    if status["observedGeneration"].as_i64() < generation {
        return wait(
            "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
            format!("The disruption budget {name} is still being processed by the server."),
        );
    }
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or_default();
    if allowed <= 0 {
        return wait(
            "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
            format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status["desiredHealthy"].as_i64().unwrap_or_default(),
                status["currentHealthy"].as_i64().unwrap_or_default(),
            ),
        );
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (allowed - 1).into();
    new["status"]["disruptedPods"][pod] = call.context().now.to_string().into();
    Ok(new)
}
