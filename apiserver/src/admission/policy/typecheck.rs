//! `status.typeChecking` of validating policies: what the schemas of the matched kinds say about the expressions.
//!
//! Only what is certain is said: fields that a kind does not have, and operators between types that never fit.

use serde_json::{Map, Value, json};

use crate::ApiServer;
use crate::error::StatusError;
use crate::resource::{Companion, Resource, Snapshot};
use crate::schema::Node;
use crate::schema::cel::{Expression, POLICY_NAMES, typecheck};
use crate::storage::Txn;

/// Kinds looked at for one policy.
const MAX_KINDS: usize = 10;

/// The companion of ValidatingAdmissionPolicies: the write of a policy brings its status along.
#[derive(Debug)]
pub(crate) struct TypeChecked;

impl Companion for TypeChecked {
    fn plan(
        &self,
        server: &ApiServer,
        _old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        if let Some(policy) = new {
            let warnings = check(&server.registry.snapshot(), &policy["spec"]);
            let mut checking = json!({});
            if !warnings.is_empty() {
                checking["expressionWarnings"] = warnings.into();
            }
            let generation = policy["metadata"]["generation"].clone();
            if !policy["status"].is_object() {
                policy["status"] = Map::new().into();
            }
            policy["status"]["observedGeneration"] = generation;
            policy["status"]["typeChecking"] = checking;
        }
        Ok(Txn::default())
    }
}

fn check(snapshot: &Snapshot, spec: &Value) -> Vec<Value> {
    let kinds = kinds(snapshot, spec);
    let variables = variables(spec);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, expression)| (name.clone(), expression.tree()))
        .collect();
    let mut warnings = Vec::new();
    let validations = spec["validations"].as_array().into_iter().flatten();
    for (index, validation) in validations.enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = validation[field].as_str().unwrap_or_default();
            let Ok(expression) = Expression::compile(source, POLICY_NAMES) else {
                continue;
            };
            let said: Vec<String> = kinds
                .iter()
                .filter_map(|kind| {
                    let faults =
                        typecheck::faults_with(&names(kind), &variables, expression.tree());
                    let what = format!("{}, Kind={}", kind.api_version(), kind.kind);
                    let first = faults.first()?;
                    Some(format!("{what}: ERROR: <input>: {first}\n | {source}"))
                })
                .collect();
            if !said.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": said.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// The policy's own variables in their order, as `variables.x`.
fn variables(spec: &Value) -> Vec<(String, Expression)> {
    let variables = spec["variables"].as_array().into_iter().flatten();
    let variables = variables.filter_map(|variable| {
        let name = variable["name"].as_str()?;
        let source = variable["expression"].as_str()?;
        let expression = Expression::compile(source, POLICY_NAMES).ok()?;
        Some((format!("variables.{name}"), expression))
    });
    variables.collect()
}

/// The values whose schema is known.
fn names(kind: &Resource) -> [(&'static str, &Node); 2] {
    ["object", "oldObject"].map(|name| (name, kind.schema().root()))
}

/// The kinds that the rules name one by one.
fn kinds(snapshot: &Snapshot, spec: &Value) -> Vec<std::sync::Arc<Resource>> {
    let rules = spec["matchConstraints"]["resourceRules"].as_array();
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let list = rule[key].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut found: Vec<std::sync::Arc<Resource>> = Vec::new();
    for rule in rules.into_iter().flatten() {
        for group in texts(rule, "apiGroups") {
            for version in texts(rule, "apiVersions") {
                for plural in texts(rule, "resources") {
                    let resource = snapshot.find(&group, &version, &plural);
                    found.extend(resource.filter(|_| found.len() < MAX_KINDS));
                }
            }
        }
    }
    found
}
