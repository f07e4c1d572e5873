//! `x-kubernetes-validations`: CEL rules of custom schemas.

use serde_json::{Map, Value};

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) source: Box<str>,
}

/// The rules of one schema node.
pub(crate) fn rules(schema: &Map<String, Value>) -> Vec<Rule> {
    let rules = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    let sources = rules
        .into_iter()
        .flatten()
        .filter_map(|r| r.get("rule")?.as_str());
    sources
        .map(|source| Rule {
            source: source.into(),
        })
        .collect()
}
