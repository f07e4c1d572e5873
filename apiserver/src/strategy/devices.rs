//! Dynamic resource allocation and flow control.

use serde_json::{Map, Value};

use super::access::{Fields, default, default_absent, same};
use super::{Context, Errors};
use crate::schema::{FieldError, Path};

/// A request for an exact number of devices asks for one.
pub(super) fn request_defaults(request: &mut Map<String, Value>) {
    if request.get("allocationMode").and_then(Value::as_str) == Some("ExactCount") {
        default(request, "count", 1);
    }
}

/// Checks one request for devices.
pub(super) fn request(request: &Value, at: &Path<'_>, out: &mut Errors) {
    match (
        request.has("exactly"),
        request.items("firstAvailable").is_empty(),
    ) {
        (true, true) | (false, false) => {}
        _ => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            out.push(FieldError::required(at, detail));
        }
    }
}

/// The spec of a claim stays.
pub(super) fn claim_update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if context.subresource.is_empty() && !same(new.at("spec"), old.at("spec")) {
        let value = new.at("spec").clone();
        out.push(FieldError::invalid("spec", value, "field is immutable"));
    }
}

/// Shares of a limited priority level are queued or refused.
pub(super) fn level_defaults(spec: &mut Map<String, Value>) {
    match spec.get("type").and_then(Value::as_str) {
        Some("Limited") => {
            default_absent(spec, "limited", Value::Object(Map::new()));
        }
        Some("Exempt") => {
            let exempt = super::access::ensure(spec, "exempt");
            default_absent(exempt, "nominalConcurrencyShares", 0);
            default_absent(exempt, "lendablePercent", 0);
        }
        _ => {}
    }
}

/// Checks a priority level's spec.
pub(super) fn level(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    match spec.text("type") {
        "Exempt" if spec.has("limited") => {
            let detail = "must be nil if the type is not Limited";
            out.push(FieldError::forbidden(at.field("limited"), detail));
        }
        "Limited" if !spec.has("limited") => {
            let detail = "must not be empty when type is Limited";
            out.push(FieldError::required(at.field("limited"), detail));
        }
        _ => {}
    }
}
