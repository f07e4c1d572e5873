//! Keeps the table current, and the schemas' condition `Dangling` true to the levels there are.

use std::sync::Arc;

use http::Method;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::{Value, json};

use super::{FLOW_SCHEMAS, GROUP, PRIORITY_LEVELS};
use crate::ApiServer;
use crate::auth::ObjectSource;
use crate::handler::now;

/// Follows schemas and levels until the server stops.
pub(crate) async fn maintain(server: Arc<ApiServer>) {
    loop {
        let cache = &*server.cache;
        let seen = (cache.version(FLOW_SCHEMAS), cache.version(PRIORITY_LEVELS));
        settle(&server).await;
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = cache.changed(FLOW_SCHEMAS, seen.0) => {}
            () = cache.changed(PRIORITY_LEVELS, seen.1) => {}
        }
    }
}

/// Takes over the schemas and levels of now, and writes the conditions that are not true any more.
pub(crate) async fn settle(server: &Arc<ApiServer>) {
    server.fairness.refresh(&*server.cache);
    let writes = due(&*server.cache).into_iter();
    let writes = writes.map(async |(name, patch)| {
        let path = format!("/apis/{GROUP}/v1/flowschemas/{name}/status");
        let (code, answer) = server.request(Method::PATCH, &path, Some(&patch)).await;
        if !code.is_success() {
            tracing::debug!(name, %code, %answer, "a flow schema's status was not written");
        }
    });
    futures::future::join_all(writes).await;
}

/// The schemas whose condition says something else than what is the case, each with the patch that makes it right. A patch holds
/// for the revision it was made of, so that it loses no condition of somebody else; a newer revision is looked at by itself.
fn due(source: &dyn ObjectSource) -> Vec<(String, Value)> {
    let schemas = source.list(FLOW_SCHEMAS, "").into_iter();
    let schemas = schemas.filter_map(|bytes| serde_json::from_slice::<FlowSchema>(&bytes).ok());
    let due = schemas.filter_map(|schema| {
        let name = schema.metadata.name?;
        let level = schema.spec.priority_level_configuration.name;
        let found = source.get(PRIORITY_LEVELS, "", &level).is_some();
        let status = if found { "False" } else { "True" };
        let conditions = schema.status.and_then(|status| status.conditions);
        let (own, others): (Vec<_>, Vec<_>) = conditions
            .into_iter()
            .flatten()
            .partition(|condition| condition.type_ == "Dangling");
        let right = own.iter().any(|condition| {
            condition.status.as_deref() == Some(status)
                && condition.message.as_deref() == Some(&message(&level, found))
        });
        let mut conditions: Vec<_> = others.iter().map(|other| json!(other)).collect();
        conditions.push(condition(&level, found));
        let patch = json!({
            "metadata": {"resourceVersion": schema.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        (!right).then_some((name, patch))
    });
    due.collect()
}

fn message(level: &str, found: bool) -> String {
    let end = if found {
        "and it exists"
    } else {
        "but there is no such object"
    };
    format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}"
    )
}

fn condition(level: &str, found: bool) -> Value {
    let (status, reason) = if found {
        ("False", "Found")
    } else {
        ("True", "NotFound")
    };
    json!({
        "type": "Dangling", "status": status, "reason": reason,
        "lastTransitionTime": now().to_string(), "message": message(level, found),
    })
}
