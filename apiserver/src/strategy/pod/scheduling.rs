//! Checks of tolerations, node selectors and affinity terms.

use serde_json::Value;

use crate::schema::{FieldError, Path};
use crate::strategy::access::Fields;
use crate::strategy::{Errors, names};

/// Checks one toleration.
pub(in crate::strategy) fn toleration(toleration: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_operator = at.field("operator");
    let operator = toleration.text("operator");
    if toleration.text("key").is_empty() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all \
                      values and all keys\"";
        out.push(FieldError::invalid(at_operator, operator, detail));
    }
    if toleration.has("tolerationSeconds") && toleration.text("effect") != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        out.push(FieldError::invalid(
            at.field("effect"),
            toleration.text("effect"),
            detail,
        ));
    }
    let value = toleration.text("value");
    match operator {
        "" | "Equal" => {
            if let Some(fault) = names::label_value(value) {
                out.push(FieldError::invalid(at_operator, value, fault));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                out.push(FieldError::invalid(at_operator, toleration.clone(), detail));
            }
        }
        "Gt" | "Lt" if value.parse::<i64>().is_ok() => {}
        "Gt" | "Lt" => {
            let detail = "value must be a valid integer when `operator` is 'Gt' or 'Lt'";
            out.push(FieldError::invalid(at.field("value"), value, detail));
        }
        other => out.push(FieldError::not_supported(
            at_operator,
            other,
            &["Equal", "Exists"],
        )),
    }
}

/// Checks the required node selector of an affinity or a volume.
pub(in crate::strategy) fn node_selector(selector: &Value, at: &Path<'_>, out: &mut Errors) {
    if selector.items("nodeSelectorTerms").is_empty() {
        let detail = "must have at least one node selector term";
        out.push(FieldError::required(at.field("nodeSelectorTerms"), detail));
    }
}

/// Checks one requirement on a node's labels or fields.
pub(in crate::strategy) fn node_requirement(requirement: &Value, at: &Path<'_>, out: &mut Errors) {
    let values = requirement.items("values");
    let at_values = at.field("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            out.push(FieldError::required(at_values, detail));
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(FieldError::forbidden(at_values, detail));
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                out.push(FieldError::required(at_values, detail));
            }
        }
        other => {
            let detail = "not a valid selector operator";
            out.push(FieldError::invalid(at.field("operator"), other, detail));
        }
    }
}

/// Checks one term of pod affinity or anti-affinity.
pub(in crate::strategy) fn pod_term(term: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("namespaces");
    for (index, namespace) in term.items("namespaces").iter().enumerate() {
        if let Some(fault) = names::dns_label(namespace.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid(
                at.index(index),
                namespace.clone(),
                fault,
            ));
        }
    }
}
