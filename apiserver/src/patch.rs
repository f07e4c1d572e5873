//! The three patch formats of Kubernetes: JSON patch, JSON merge patch, strategic merge patch.

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

/// Applies a JSON patch (RFC 6902) of at most 10,000 operations.
pub fn json(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let _ = (current, patch);
    Err(PatchError::Malformed(
        "JSON patch is not supported yet".to_owned(),
    ))
}

/// Applies a JSON merge patch (RFC 7396).
pub fn merge(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let _ = (current, patch);
    Err(PatchError::Malformed(
        "merge patch is not supported yet".to_owned(),
    ))
}

/// Applies a strategic merge patch with the merge keys of `schema`.
pub fn strategic(schema: &Schema, current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let _ = (schema, current, patch);
    Err(PatchError::Malformed(
        "strategic merge patch is not supported yet".to_owned(),
    ))
}
