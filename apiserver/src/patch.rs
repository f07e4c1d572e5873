//! The three patch formats of Kubernetes: JSON patch, JSON merge patch, strategic merge patch.

mod json;
mod lists;
mod merge;
mod strategic;

use serde_json::Value;

use crate::schema::Schema;

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not well formed: 400 `BadRequest`.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object, such as a failed `test`: 422 `Invalid`.
    #[error("{0}")]
    Unprocessable(String),
    /// The outcome or the number of operations is over the limit: 413 `RequestEntityTooLarge`.
    #[error("{0}")]
    TooLarge(String),
}

/// Applies a JSON patch (RFC 6902) of at most 10,000 operations. As with the other formats, fields that the
/// patch names twice (or, here, that operations do not have) are added to `complaints`.
///
/// # Errors
/// The patch is malformed, does not fit, or copies or nests more than the limits allow.
pub fn json(
    current: &Value,
    patch: &[u8],
    complaints: &mut Vec<String>,
) -> Result<Value, PatchError> {
    json::apply(current, parse(patch, "JSON", complaints)?, complaints)
}

/// Applies a JSON merge patch (RFC 7396).
///
/// # Errors
/// The patch is not a JSON object.
pub fn merge(
    current: &Value,
    patch: &[u8],
    complaints: &mut Vec<String>,
) -> Result<Value, PatchError> {
    merge::apply(current, parse(patch, "merge", complaints)?)
}

/// Applies a strategic merge patch with the merge keys of `schema`.
///
/// # Errors
/// The patch is not a JSON object, or its directives contradict it or themselves.
pub fn strategic(
    schema: &Schema,
    current: &Value,
    patch: &[u8],
    complaints: &mut Vec<String>,
) -> Result<Value, PatchError> {
    let patch = parse(patch, "strategic merge", complaints)?;
    match (current.clone(), patch) {
        (Value::Object(current), Value::Object(patch)) => {
            let kind = strategic::Type(Some(schema.root()));
            Ok(Value::Object(strategic::merge_map(current, patch, kind)?))
        }
        _ => {
            let detail = "a strategic merge patch must be an object".to_owned();
            Err(PatchError::Malformed(detail))
        }
    }
}

fn parse(patch: &[u8], what: &str, complaints: &mut Vec<String>) -> Result<Value, PatchError> {
    let (value, found) = crate::schema::parse_open(patch)
        .map_err(|e| PatchError::Malformed(format!("error decoding {what} patch: {e}")))?;
    complaints.extend(found);
    Ok(value)
}

#[cfg(test)]
mod tests;
