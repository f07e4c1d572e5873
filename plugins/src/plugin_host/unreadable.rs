//! `Plugin` objects that the API server took and that are none: what is wrong with them, as a status.

use super::status::{Outcome, status};
use crate::engine::LoadError;
use crate::grants::InvalidGrant;
use davit_api::{Grants, Plugin, PluginSpec, PluginStatus};
use serde_json::{Value, json};

/// The status of an object that cannot be read as a `Plugin`, with this node's part brought up to date.
#[must_use]
pub fn status_of_unreadable(object: &Value, node: &str, error: &str) -> PluginStatus {
    let mut plugin = Plugin::new("", PluginSpec::default());
    plugin.metadata.generation = object["metadata"]["generation"].as_i64();
    plugin.status = serde_json::from_value(object["status"].clone()).ok();
    let grants = &object["spec"]["grants"];
    let error = match culprit(grants, &mut Vec::new()) {
        Some((field, value, reason)) => LoadError::Grant(InvalidGrant {
            field,
            value,
            reason,
        }),
        None => LoadError::Spec(error.to_owned()),
    };
    let outcome = Outcome::Failed {
        error,
        missing: None,
        service: None,
    };
    status(&plugin, node, outcome)
}

/// The first value in grants that cannot be one, with its field and what is wrong.
fn culprit(value: &Value, path: &mut Vec<String>) -> Option<(String, String, String)> {
    let alone = path
        .iter()
        .rev()
        .fold(value.clone(), |inner, field| json!({ field: inner }));
    let error = serde_json::from_value::<Grants>(alone).err()?;
    if let Value::Object(fields) = value {
        for (field, value) in fields {
            path.push(field.clone());
            let found = culprit(value, path);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
    }
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    Some((path.join("."), text, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_is_wrong_is_named() {
        for (grants, field) in [
            (
                json!({"limits": {"memory": "lots"}}),
                "spec.grants.limits.memory: \"lots\"",
            ),
            (
                json!({"limits": {"cpu": "2s", "timeout": {"attach": "soon"}}}),
                "spec.grants.limits.timeout.attach: \"soon\"",
            ),
            (
                json!({"limits": {"concurrency": -1}}),
                "spec.grants.limits.concurrency: \"-1\"",
            ),
            (
                json!({"addresses": "10.0.0.0/8"}),
                "spec.grants.addresses: \"10.0.0.0/8\"",
            ),
            (
                json!({"links": {"kinds": ["tunnel"]}}),
                "spec.grants.links.kinds: \"[\\\"tunnel\\\"]\"",
            ),
            (json!("all"), "spec.grants.: \"all\""),
            (json!({}), "the spec cannot be read: why"),
        ] {
            let object = json!({"metadata": {"generation": 4}, "spec": {"grants": grants}});
            // As the API gives it back: times in whole seconds.
            let status = json!(status_of_unreadable(&object, "a", "why"));
            let status: PluginStatus = serde_json::from_value(status).unwrap();
            assert_eq!(status.observed_generation, Some(4));
            let node = &status.nodes[0];
            assert!(!node.ready && node.message.starts_with(field), "{node:?}");
            let again = json!({"metadata": {"generation": 4}, "spec": {"grants": grants}, "status": status});
            assert_eq!(status_of_unreadable(&again, "a", "why"), status);
        }
    }
}
