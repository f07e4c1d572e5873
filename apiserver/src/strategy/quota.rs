//! ResourceQuotas: names that can be bounded, and scopes that fit them.

use serde_json::Value;

use super::access::Fields;
use super::{Context, Errors, immutable, names, resources};
use crate::schema::{FieldError, Path};

/// Names without a domain that a quota can bound, beside huge pages.
const STANDARD: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// What a quota for pods of a scope can bound.
const OF_PODS: [&str; 7] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.memory",
];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const CONTRADICTIONS: [[&str; 2]; 2] = [
    ["BestEffort", "NotBestEffort"],
    ["Terminating", "NotTerminating"],
];

fn is_standard(name: &str) -> bool {
    let pages = name.strip_prefix("requests.").unwrap_or(name);
    STANDARD.contains(&name) || pages.starts_with("hugepages-")
}

/// Whether a quota with the scope can bound the resource.
fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => OF_CLAIMS.contains(&name),
        _ => SCOPES.contains(&scope) && OF_PODS.contains(&name),
    }
}

/// Checks a quota's spec.
pub(super) fn spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_hard = at.field("hard");
    for (name, amount) in spec.entries("hard") {
        let at = at_hard.key(name);
        bounded(name, &at, out);
        resources::amount(name, amount, &at, out);
    }
    let at_scopes = at.field("scopes");
    let scopes: Vec<&str> = spec
        .items("scopes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            out.push(FieldError::invalid(
                at_scopes,
                spec.at("scopes").clone(),
                "unsupported scope",
            ));
        }
    }
    suitable(spec, &scopes, &at_scopes, spec.at("scopes"), out);
    let expressions = spec.at("scopeSelector").items("matchExpressions");
    let at_expressions = at
        .field("scopeSelector")
        .field("matchExpressions")
        .to_string();
    for expression in expressions {
        requirement(expression, &at_expressions, out);
    }
    let scopes: Vec<&str> = expressions.iter().map(|e| e.text("scopeName")).collect();
    suitable(
        spec,
        &scopes,
        &at_expressions,
        spec.at("scopeSelector"),
        out,
    );
}

fn bounded(name: &str, at: &Path<'_>, out: &mut Errors) {
    let mut refuse = |why: &str| out.push(FieldError::invalid(at, name, why));
    if let Some(fault) = names::qualified_name(name) {
        refuse(&fault);
    }
    if !name.contains('/') && !is_standard(name) {
        if name != "storage" {
            refuse("must be a standard resource type or fully qualified");
        }
        refuse("must be a standard resource for quota");
    }
}

/// Scopes must fit every bound and one another.
fn suitable(spec: &Value, scopes: &[&str], at: &impl ToString, value: &Value, out: &mut Errors) {
    let bounds = || spec.entries("hard").filter(|(name, _)| is_standard(name));
    for scope in scopes {
        for _ in bounds().filter(|(name, _)| !fits(scope, name)) {
            let why = "unsupported scope applied to resource";
            out.push(FieldError::invalid(at.to_string(), value.clone(), why));
        }
    }
    for pair in CONTRADICTIONS {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            out.push(FieldError::invalid(
                at.to_string(),
                value.clone(),
                "conflicting scopes",
            ));
        }
    }
}

fn requirement(expression: &Value, at: &str, out: &mut Errors) {
    let (scope, operator) = (expression.text("scopeName"), expression.text("operator"));
    let values = expression.items("values");
    if !SCOPES.contains(&scope) {
        out.push(FieldError::invalid(
            format!("{at}.scopeName"),
            scope,
            "unsupported scope",
        ));
    }
    let selects = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if SCOPES.contains(&scope) && !selects && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                   ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        out.push(FieldError::invalid(format!("{at}.operator"), operator, why));
    }
    let at_values = format!("{at}.values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let why =
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            out.push(FieldError::required(at_values, why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why =
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            out.push(FieldError::invalid(at_values, values.to_vec(), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => {
            let why = "not a valid selector operator";
            out.push(FieldError::invalid(format!("{at}.operator"), operator, why));
        }
    }
}

/// The scopes of a quota stay.
pub(super) fn update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if context.subresource.is_empty() {
        let (new, old) = (new.at("spec"), old.at("spec"));
        immutable(new, old, "scopes", &Path::new("spec"), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quotas_are_refused_with_kubernetes_words() {
        let hard = |name: &str| json!({"hard": {name: "1"}});
        let scoped = |name: &str, scopes: Value| json!({"hard": {name: "1"}, "scopes": scopes});
        let selected = |scope: &str, operator: &str, values: Value| {
            let expression = json!({"scopeName": scope, "operator": operator, "values": values});
            json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [expression]}})
        };
        let cases: [(Value, &[&str]); 17] = [
            (hard("pods"), &[]),
            (hard("requests.hugepages-2Mi"), &[]),
            (hard("count/deployments.apps"), &[]),
            (
                hard("gold.storageclass.storage.k8s.io/requests.storage"),
                &[],
            ),
            (
                hard("limit.cpu"),
                &[
                    "spec.hard[limit.cpu]: Invalid value: \"limit.cpu\": must be a standard resource type or fully qualified",
                    "spec.hard[limit.cpu]: Invalid value: \"limit.cpu\": must be a standard resource for quota",
                ],
            ),
            (
                json!({"hard": {"pods": "-1"}}),
                &["must be greater than or equal to 0"],
            ),
            (json!({"hard": {"pods": "1500m"}}), &["must be an integer"]),
            (scoped("pods", json!(["BestEffort"])), &[]),
            (
                scoped("cpu", json!(["BestEffort"])),
                &["unsupported scope applied to resource"],
            ),
            (
                scoped("requests.storage", json!(["VolumeAttributesClass"])),
                &[],
            ),
            (
                scoped("secrets", json!(["Terminating"])),
                &["unsupported scope applied to resource"],
            ),
            (
                scoped("example.com/x", json!(["Odd"])),
                &["unsupported scope"],
            ),
            (
                scoped("pods", json!(["Terminating", "NotTerminating"])),
                &["conflicting scopes"],
            ),
            (selected("PriorityClass", "In", json!(["high"])), &[]),
            (
                selected("PriorityClass", "In", json!([])),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value",
                ],
            ),
            (
                selected("Terminating", "In", json!(["x"])),
                &["must be 'Exist' when scope is any of"],
            ),
            (
                selected("PriorityClass", "Exists", json!(["x"])),
                &["must be no value when `operator` is 'Exist' or 'DoesNotExist'"],
            ),
        ];
        for (object, expected) in cases {
            let mut errors = Errors::new();
            spec(&object, &Path::new("spec"), &mut errors);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts.len(), expected.len(), "{object} {texts:?}");
            for (text, expected) in texts.iter().zip(expected) {
                assert!(text.contains(expected), "{text}");
            }
        }
    }
}
