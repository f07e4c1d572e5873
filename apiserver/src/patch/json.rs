//! JSON patch (RFC 6902) with limits on operations, copies and depth.

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Operations in one patch.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of a patch may copy.
const MAX_COPIED: usize = 30 * 1024 * 1024;
/// Levels of nesting that an object may reach.
const MAX_DEPTH: usize = 200;

/// Applies a JSON patch.
pub(super) fn apply(
    current: &Value,
    patch: Value,
    complaints: &mut Vec<String>,
) -> Result<Value, PatchError> {
    complain(&patch, complaints);
    let Patch(operations) = serde_json::from_value(patch)
        .map_err(|e| PatchError::Malformed(format!("error decoding JSON patch: {e}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut document = current.clone();
    let mut copied = 0;
    for operation in &operations {
        limit(&document, operation, &mut copied)?;
        json_patch::patch(&mut document, std::slice::from_ref(operation))
            .map_err(|e| PatchError::Unprocessable(describe(operation, &e.kind)))?;
    }
    Ok(document)
}

/// Says of complaints that they are about the patch, and adds the fields that no operation has.
fn complain(patch: &Value, complaints: &mut Vec<String>) {
    for complaint in complaints.iter_mut() {
        complaint.insert_str(0, "json patch ");
    }
    for (index, operation) in patch.as_array().into_iter().flatten().enumerate() {
        let fields = operation.as_object().into_iter().flatten();
        let unknown = fields
            .map(|(field, _)| field)
            .filter(|field| !matches!(field.as_str(), "op" | "path" | "from" | "value"));
        complaints
            .extend(unknown.map(|field| format!("json patch unknown field \"[{index}].{field}\"")));
    }
}

fn describe(operation: &PatchOperation, kind: &json_patch::PatchErrorKind) -> String {
    let path = operation.path();
    match kind {
        json_patch::PatchErrorKind::TestFailed => {
            format!("testing value {path} failed: test failed")
        }
        other => format!("the patch cannot be applied at {path:?}: {other}"),
    }
}

/// Refuses an operation that would make the document too deep, or copy too much.
fn limit(
    document: &Value,
    operation: &PatchOperation,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let levels = |pointer: &Pointer| pointer.tokens().count();
    let source = |from: &Pointer| from.resolve(document).ok();
    let depth = match operation {
        PatchOperation::Add(add) => levels(&add.path) + depth(&add.value),
        PatchOperation::Replace(replace) => levels(&replace.path) + depth(&replace.value),
        PatchOperation::Move(step) => levels(&step.path) + source(&step.from).map_or(0, depth),
        PatchOperation::Copy(copy) => {
            let value = source(&copy.from);
            *copied += value.map_or(0, size);
            if *copied > MAX_COPIED {
                return Err(PatchError::TooLarge(format!(
                    "the copy operations of the JSON patch copy more than {MAX_COPIED} bytes"
                )));
            }
            levels(&copy.path) + value.map_or(0, depth)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
    };
    if depth > MAX_DEPTH {
        let detail = format!("the JSON patch would nest the object deeper than {MAX_DEPTH} levels");
        return Err(PatchError::TooLarge(detail));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// About the bytes that a value takes as text.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|i| size(i) + 1).sum::<usize>(),
        Value::Object(map) => {
            2 + map
                .iter()
                .map(|(k, v)| k.len() + 4 + size(v))
                .sum::<usize>()
        }
    }
}
