//! Fields that hold a number or a percentage.

use serde_json::Value;

use super::{Errors, names};
use crate::schema::{FieldError, Path};

/// Checks that a value is a number of at least zero or a percentage.
pub(super) fn not_negative(value: &Value, at: &Path<'_>, out: &mut Errors) {
    let fault = match value {
        Value::String(text) => names::percent(text),
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
            Some("must be greater than or equal to 0".into())
        }
        _ => None,
    };
    if let Some(fault) = fault {
        out.push(FieldError::invalid(at, value.clone(), fault));
    }
}

/// Checks that a percentage is at most 100.
pub(super) fn at_most_all(value: &Value, at: &Path<'_>, out: &mut Errors) {
    let percent = value
        .as_str()
        .and_then(|t| t.strip_suffix('%'))
        .and_then(|t| t.parse::<u64>().ok());
    if percent.is_some_and(|p| p > 100) {
        out.push(FieldError::invalid(
            at,
            value.clone(),
            "must not be greater than 100%",
        ));
    }
}

/// Whether the value is 0 or 0%.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim_end_matches('%').parse::<i64>() == Ok(0),
        other => other.as_i64().unwrap_or(0) == 0,
    }
}
