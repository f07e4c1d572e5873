//! Checks of environment variables and their sources.

use serde_json::Value;

use crate::schema::{FieldError, Path};
use crate::strategy::access::Fields;
use crate::strategy::{Errors, names};

/// Fields of a pod that a variable may be taken from.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may be taken from.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Resources of a container that can be taken.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks one variable.
pub(in crate::strategy) fn variable(variable: &Value, at: &Path<'_>, out: &mut Errors) {
    if !variable.has("valueFrom") {
        return;
    }
    let at = at.field("valueFrom");
    let source = variable.at("valueFrom");
    if !variable.text("value").is_empty() {
        let detail = "may not be specified when `value` is not empty";
        out.push(FieldError::invalid(at, "", detail));
    }
    let kinds = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    match kinds.iter().filter(|k| source.has(k)).count() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, \
                          `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            out.push(FieldError::invalid(at, "", detail));
        }
        1 => {}
        _ => {
            let detail = "may not have more than one field specified at a time";
            out.push(FieldError::invalid(at, "", detail));
        }
    }
    if source.has("fieldRef") {
        field_reference(
            source.at("fieldRef"),
            &ENV_FIELDS,
            &at.field("fieldRef"),
            out,
        );
    }
    if source.has("resourceFieldRef") {
        resource_reference(
            source.at("resourceFieldRef"),
            &at.field("resourceFieldRef"),
            out,
        );
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if source.has(key) && source.at(key).text("name").is_empty() {
            let at = at.field(key);
            out.push(FieldError::required(at.field("name"), ""));
        }
    }
}

/// Checks a downward API file's field.
pub(super) fn file_field(reference: &Value, at: &Path<'_>, out: &mut Errors) {
    field_reference(reference, &FILE_FIELDS, at, out);
}

fn field_reference(reference: &Value, known: &[&str], at: &Path<'_>, out: &mut Errors) {
    let path = reference.text("fieldPath");
    let at = at.field("fieldPath");
    if path.is_empty() {
        return;
    }
    if let Some((field, key)) = subscript(path) {
        let fault = match field {
            "metadata.annotations" => names::qualified_name(&key.to_ascii_lowercase()),
            "metadata.labels" => names::qualified_name(key),
            _ => Some(format!("field label does not support subscript: {path:?}").into()),
        };
        if let Some(fault) = fault {
            out.push(FieldError::invalid(at, path, fault));
        }
    } else if !known.contains(&path) {
        out.push(FieldError::not_supported(at, path, known));
    }
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// Checks a reference to a container's resource.
pub(super) fn resource_reference(reference: &Value, at: &Path<'_>, out: &mut Errors) {
    let resource = reference.text("resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"];
    let known = RESOURCES.contains(&resource) || huge.iter().any(|h| resource.starts_with(h));
    if !resource.is_empty() && !known {
        out.push(FieldError::not_supported(
            at.field("resource"),
            resource,
            &RESOURCES,
        ));
        return;
    }
    let divisor = reference.text("divisor");
    let allowed: &[&str] = match resource.split_once('.').map(|(_, r)| r) {
        Some("cpu") => &["0", "1m", "1"],
        _ => &[
            "0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
        ],
    };
    if !divisor.is_empty() && !allowed.contains(&divisor) {
        let detail = match resource.ends_with("cpu") {
            true => "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
            false => format!(
                "only divisor's values {} are supported with the {resource} resource",
                allowed.get(1..).unwrap_or_default().join(", ")
            ),
        };
        out.push(FieldError::invalid(at.field("divisor"), divisor, detail));
    }
}

/// Checks one source of many variables.
pub(in crate::strategy) fn source(source: &Value, at: &Path<'_>, out: &mut Errors) {
    let prefix = source.text("prefix");
    if !prefix.is_empty()
        && let Some(fault) = names::environment(prefix)
    {
        out.push(FieldError::invalid(at.field("prefix"), prefix, fault));
    }
    let kinds = ["configMapRef", "secretRef"];
    match kinds.iter().filter(|k| source.has(k)).count() {
        0 => {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            out.push(FieldError::invalid(at, "", detail));
        }
        1 => {}
        _ => {
            let detail = "may not have more than one field specified at a time";
            out.push(FieldError::invalid(at, "", detail));
        }
    }
    for kind in kinds {
        if source.has(kind) && source.at(kind).text("name").is_empty() {
            let at = at.field(kind);
            out.push(FieldError::required(at.field("name"), ""));
        }
    }
}
