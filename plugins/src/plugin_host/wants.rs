//! What a driver cannot do without, against what its `Plugin` grants.

use crate::engine::{LoadError, Want};
use davit_api::Grants;
use serde_json::{Map, Value};

/// Grants that are missing, and the text to paste.
pub(super) struct Missing {
    pub(super) error: LoadError,
    pub(super) snippet: String,
}

/// The required wants that are not granted, if there are any.
pub(super) fn missing(wants: &[Want], grants: &Grants) -> Option<Missing> {
    let granted = serde_json::to_value(grants).unwrap_or_default();
    let lacking: Vec<&Want> = wants
        .iter()
        .filter(|want| want.required && !is_granted(want, &granted))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    let reason = |want: &&Want| format!("{}: {} ({})", want.capability, want.value, want.why);
    let reasons: Vec<String> = lacking.iter().map(reason).collect();
    let mut wanted = Map::new();
    for want in &lacking {
        add(&mut wanted, &want.capability, &want.value);
    }
    let snippet = format!("spec: {{\"grants\": {}}}", Value::Object(wanted));
    Some(Missing {
        error: LoadError::Wants(reasons.join("; ")),
        snippet,
    })
}

/// Whether a field of the grants has the value: itself, or among its list.
fn is_granted(want: &Want, granted: &Value) -> bool {
    let field = want
        .capability
        .split('.')
        .try_fold(granted, |value, name| value.get(name));
    let named =
        |value: &Value| value.as_str().or_else(|| value["name"].as_str()) == Some(&want.value);
    match field {
        Some(Value::Array(list)) => list.iter().any(named),
        Some(Value::Bool(given)) => given.to_string() == want.value,
        Some(value) => named(value),
        None => false,
    }
}

/// Adds a value to the list at a dotted path.
fn add(map: &mut Map<String, Value>, path: &str, value: &str) {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    match rest {
        Some(rest) => {
            let inner = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                add(inner, rest, value);
            }
        }
        None => {
            let item = match name {
                "hostPaths" => serde_json::json!({"name": value, "path": "/…", "access": "rw"}),
                _ => Value::from(value),
            };
            let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_api::{HostPath, Interface};

    fn want(capability: &str, value: &str, required: bool) -> Want {
        Want {
            capability: capability.into(),
            value: value.into(),
            required,
            why: "reason".into(),
        }
    }

    #[test]
    fn only_required_and_missing_ones_count() {
        let mut grants = Grants {
            interfaces: vec![Interface::NetworkIpam],
            ..Grants::default()
        };
        grants.links.create = vec!["lan-*".into()];
        grants.host_paths = vec![HostPath {
            name: "pool".into(),
            ..HostPath::default()
        }];
        let wants = [
            want("interfaces", "network.ipam", true),
            want("links.create", "lan-*", true),
            want("hostPaths", "pool", true),
            want("nft.filter", "true", false),
        ];
        assert!(missing(&wants, &grants).is_none());
        let more = [
            want("links.create", "dv*", true),
            want("hostPaths", "disk", true),
        ];
        let missing = missing(&more, &grants).unwrap();
        assert_eq!(
            missing.snippet,
            r#"spec: {"grants": {"hostPaths":[{"access":"rw","name":"disk","path":"/…"}],"links":{"create":["dv*"]}}}"#
        );
        assert_eq!(missing.error.reason(), "GrantsMissing");
        assert!(
            missing
                .error
                .to_string()
                .contains("links.create: dv* (reason)")
        );
    }
}
