//! Validation of `metadata`, the same for every kind.

use serde_json::Value;

use super::access::{Fields, same};
use super::names;
use crate::schema::field::{FieldError, Path};

/// Annotations may take this many bytes in all.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Finalizers that need no domain.
const FINALIZERS: [&str; 4] = [
    "kubernetes",
    "orphan",
    "foregroundDeletion",
    "customresourcecleanup.apiextensions.k8s.io",
];

/// What makes a good name for a kind.
pub(crate) type NameRule = fn(&str) -> Option<std::borrow::Cow<'static, str>>;

/// Checks the metadata of a new object.
pub(crate) fn validate(
    meta: &Value,
    namespaced: bool,
    rule: NameRule,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    name(meta, rule, at, out);
    match (namespaced, meta.text("namespace")) {
        (true, "") => out.push(FieldError::required(at.field("namespace"), "")),
        (true, namespace) => {
            if let Some(fault) = names::dns_label(namespace) {
                out.push(FieldError::invalid(at.field("namespace"), namespace, fault));
            }
        }
        (false, "") => {}
        (false, _) => {
            out.push(FieldError::forbidden(
                at.field("namespace"),
                "not allowed on this type",
            ));
        }
    }
    if meta.int("generation").is_some_and(|g| g < 0) {
        let detail = "must be greater than or equal to 0";
        out.push(FieldError::invalid(
            at.field("generation"),
            meta.at("generation").clone(),
            detail,
        ));
    }
    labels(meta.at("labels"), &at.field("labels"), out);
    annotations(meta, &at.field("annotations"), out);
    owners(
        meta.items("ownerReferences"),
        &at.field("ownerReferences"),
        out,
    );
    finalizers(meta.items("finalizers"), &at.field("finalizers"), out);
    managed_fields(meta.items("managedFields"), &at.field("managedFields"), out);
}

fn name(meta: &Value, rule: NameRule, at: &Path<'_>, out: &mut Vec<FieldError>) {
    let prefix = meta.text("generateName");
    if !prefix.is_empty() {
        // What will be appended starts with a letter or digit, so a trailing dash is fine.
        let masked = match prefix.strip_suffix('-') {
            Some(stem) => format!("{stem}a"),
            None => prefix.to_owned(),
        };
        if let Some(fault) = rule(&masked) {
            out.push(FieldError::invalid(at.field("generateName"), prefix, fault));
        }
    }
    match meta.text("name") {
        "" => {
            out.push(FieldError::required(
                at.field("name"),
                "name or generateName is required",
            ));
        }
        name => {
            if let Some(fault) = rule(name) {
                out.push(FieldError::invalid(at.field("name"), name, fault));
            }
        }
    }
}

/// Checks the keys and values of labels.
pub(crate) fn labels(labels: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(fault) = names::qualified_name(key) {
            out.push(FieldError::invalid(at, key.as_str(), fault));
        }
        if let Some(fault) = names::label_value(value.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid(at, value.clone(), fault));
        }
    }
}

/// Checks the keys of annotations and their size in all.
pub(crate) fn annotations(meta: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in meta.entries("annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let lower = key.to_ascii_lowercase();
        if let Some(fault) = names::qualified_name(&lower) {
            out.push(FieldError::invalid(at, key, fault));
        }
    }
    if size > MAX_ANNOTATIONS {
        out.push(FieldError::too_long(at, MAX_ANNOTATIONS));
    }
}

fn owners(owners: &[Value], at: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut controller: Option<&Value> = None;
    for (index, owner) in owners.iter().enumerate() {
        let at_owner = at.index(index);
        let version = owner.text("apiVersion");
        if version.is_empty() || version.ends_with('/') {
            let detail = "version must not be empty";
            out.push(FieldError::invalid(
                at_owner.field("apiVersion"),
                version,
                detail,
            ));
        }
        for key in ["kind", "name", "uid"] {
            if owner.text(key).is_empty() {
                out.push(FieldError::invalid(
                    at_owner.field(key),
                    "",
                    "must not be empty",
                ));
            }
        }
        if owner.text("kind") == "Event" && matches!(version, "v1" | "events.k8s.io/v1") {
            let detail = format!("{version}, Kind=Event is disallowed from being an owner");
            out.push(FieldError::invalid(at_owner, owner.clone(), detail));
        }
        if owner.flag("controller") {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {}/{} and {}/{}",
                    first.text("kind"),
                    first.text("name"),
                    owner.text("kind"),
                    owner.text("name")
                );
                out.push(FieldError::invalid(at, Value::from(owners), detail));
            }
            controller = Some(owner);
        }
    }
}

pub(super) fn finalizers(finalizers: &[Value], at: &Path<'_>, out: &mut Vec<FieldError>) {
    let texts = || finalizers.iter().map(|f| f.as_str().unwrap_or_default());
    for (index, finalizer) in texts().enumerate() {
        if let Some(fault) = names::qualified_name(finalizer) {
            out.push(FieldError::invalid(at.index(index), finalizer, fault));
        }
    }
    if texts().any(|f| f == "orphan") && texts().any(|f| f == "foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        out.push(FieldError::invalid(at, Value::from(finalizers), detail));
    }
}

/// Checks that finalizers belong to Kubernetes or say whose they are. Built-in kinds demand it; for custom ones
/// it is good manners only.
pub(super) fn known_finalizers(finalizers: &[Value], at: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, finalizer) in finalizers.iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        if !is_known(name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            out.push(FieldError::invalid(at.index(index), name, detail));
        }
    }
}

/// Warnings about finalizers of a custom object that were not there before and do not say whose they are.
pub(super) fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map_or(&[][..], |old| old.at("metadata").items("finalizers"));
    let fresh = new.at("metadata").items("finalizers").iter();
    fresh
        .filter(|finalizer| !before.contains(finalizer))
        .filter_map(Value::as_str)
        .filter(|name| !is_known(name))
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name including a path (/) \
                 to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

fn is_known(finalizer: &str) -> bool {
    finalizer.contains('/') || FINALIZERS.contains(&finalizer)
}

fn managed_fields(entries: &[Value], at: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, entry) in entries.iter().enumerate() {
        let at = at.index(index);
        let operation = entry.text("operation");
        if !matches!(operation, "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            out.push(FieldError::invalid(
                at.field("operation"),
                operation,
                detail,
            ));
        }
        let fields_type = entry.text("fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            out.push(FieldError::invalid(
                at.field("fieldsType"),
                fields_type,
                detail,
            ));
        }
        let manager = entry.text("manager");
        if manager.len() > 128 {
            out.push(FieldError::too_long(at.field("manager"), 128));
        }
        if manager.chars().any(char::is_control) {
            out.push(FieldError::invalid(
                at.field("manager"),
                manager,
                "should not contain control characters",
            ));
        }
    }
}

/// Checks what may not change in metadata. Fields left empty were filled from the old object.
pub(crate) fn validate_update(new: &Value, old: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
    ] {
        if !same(new.at(key), old.at(key)) {
            let detail = "field is immutable";
            out.push(FieldError::invalid(
                at.field(key),
                new.at(key).clone(),
                detail,
            ));
        }
    }
    if new.has("deletionGracePeriodSeconds")
        && new.at("deletionGracePeriodSeconds") != old.at("deletionGracePeriodSeconds")
    {
        let value = new.at("deletionGracePeriodSeconds").clone();
        let at = at.field("deletionGracePeriodSeconds");
        out.push(FieldError::invalid(at, value, "field is immutable"));
    }
    if new.int("generation") < old.int("generation") {
        let value = new.at("generation").clone();
        out.push(FieldError::invalid(
            at.field("generation"),
            value,
            "must not be decremented",
        ));
    }
    if old.has("deletionTimestamp") {
        let before = old.items("finalizers");
        let added: Vec<String> = new
            .items("finalizers")
            .iter()
            .filter(|f| !before.contains(f))
            .map(|f| f.to_string())
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{}}}",
                added.join(", ")
            );
            out.push(FieldError::forbidden(at.field("finalizers"), detail));
        }
    }
}
