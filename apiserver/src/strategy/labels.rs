//! Checks of label selectors.

use serde_json::Value;

use super::access::Fields;
use super::{Errors, meta, names};
use crate::schema::{FieldError, Path};

/// Checks a label selector.
pub(super) fn selector(selector: &Value, at: &Path<'_>, out: &mut Errors) {
    meta::labels(selector.at("matchLabels"), &at.field("matchLabels"), out);
    let at = at.field("matchExpressions");
    for (index, requirement) in selector.items("matchExpressions").iter().enumerate() {
        expression(requirement, &at.index(index), out);
    }
}

fn expression(requirement: &Value, at: &Path<'_>, out: &mut Errors) {
    let values = requirement.items("values");
    let at_values = at.field("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                out.push(FieldError::required(at_values, detail));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(FieldError::forbidden(at_values, detail));
            }
        }
        other => {
            let detail = "not a valid selector operator";
            out.push(FieldError::invalid(at.field("operator"), other, detail));
        }
    }
    let key = requirement.text("key");
    if let Some(fault) = names::qualified_name(key) {
        out.push(FieldError::invalid(at.field("key"), key, fault));
    }
    for (index, value) in values.iter().enumerate() {
        if let Some(fault) = names::label_value(value.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid(
                at_values.index(index),
                value.clone(),
                fault,
            ));
        }
    }
}

/// Whether a selector (as JSON) matches labels. An empty selector matches everything.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let all = selector
        .entries("matchLabels")
        .all(|(k, v)| labels.get(k) == Some(v));
    all && selector
        .items("matchExpressions")
        .iter()
        .all(|requirement| {
            let value = labels.get(requirement.text("key"));
            let among = || value.is_some_and(|v| requirement.items("values").contains(v));
            match requirement.text("operator") {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector has no requirement.
pub(super) fn is_empty(selector: &Value) -> bool {
    selector.entries("matchLabels").next().is_none()
        && selector.items("matchExpressions").is_empty()
}
