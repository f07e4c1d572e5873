//! Checks and defaults of pod volumes.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::env;
use crate::schema::{FieldError, Path};
use crate::strategy::Errors;
use crate::strategy::access::Fields;
use crate::strategy::resources;

/// A volume that says nothing of its source is an empty directory.
pub(in crate::strategy) fn defaults(volume: &mut Map<String, Value>) {
    if !volume.keys().any(|k| k != "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

/// Checks a volume: one source, and what that source needs beyond its single fields.
pub(in crate::strategy) fn check(volume: &Value, at: &Path<'_>, out: &mut Errors) {
    let sources: Vec<&str> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| *k != "name" && !v.is_null())
        .map(|(k, _)| k.as_str())
        .collect();
    match sources.as_slice() {
        [] => out.push(FieldError::required(at, "must specify a volume type")),
        [_] => {}
        [_, extra, ..] => {
            let detail = "may not specify more than 1 volume type";
            out.push(FieldError::forbidden(at.field(extra), detail));
        }
    }
    for source in sources {
        let at = at.field(source);
        let value = volume.at(source);
        match source {
            "emptyDir" => empty_dir(value, &at, out),
            "configMap" => {
                mode(value, &at, out);
                if value.text("name").is_empty() {
                    out.push(FieldError::required(at.field("name"), ""));
                }
            }
            "secret" | "downwardAPI" => mode(value, &at, out),
            "projected" => projected(value, &at, out),
            "ephemeral" if !value.has("volumeClaimTemplate") => {
                out.push(FieldError::required(at.field("volumeClaimTemplate"), ""));
            }
            "image" if value.text("reference").is_empty() => {
                out.push(FieldError::required(at.field("reference"), ""));
            }
            _ => {}
        }
    }
}

fn empty_dir(source: &Value, at: &Path<'_>, out: &mut Errors) {
    if resources::parse(source.at("sizeLimit")).is_some_and(|q| q.is_negative()) {
        let detail = "SizeLimit field must be a valid resource quantity";
        out.push(FieldError::forbidden(at.field("sizeLimit"), detail));
    }
    let medium = source.text("medium");
    if !matches!(medium, "" | "Memory" | "HugePages") && !medium.starts_with("HugePages-") {
        out.push(FieldError::not_supported(
            at.field("medium"),
            medium,
            &["", "HugePages", "Memory"],
        ));
    }
}

fn mode(source: &Value, at: &Path<'_>, out: &mut Errors) {
    if let Some(mode) = source
        .int("defaultMode")
        .filter(|m| !(0..=0o777).contains(m))
    {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        out.push(FieldError::invalid(at.field("defaultMode"), mode, detail));
    }
}

fn projected(source: &Value, at: &Path<'_>, out: &mut Errors) {
    mode(source, at, out);
    let kinds = [
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    let at_sources = at.field("sources");
    let mut paths = HashSet::new();
    for (index, source) in source.items("sources").iter().enumerate() {
        let at = at_sources.index(index);
        if kinds.iter().filter(|k| source.has(k)).count() > 1 {
            let detail = "may not specify more than 1 volume type per source";
            out.push(FieldError::forbidden(at, detail));
        }
        for kind in ["secret", "configMap"] {
            if source.has(kind) && source.at(kind).text("name").is_empty() {
                let at = at.field(kind);
                out.push(FieldError::required(at.field("name"), ""));
            }
        }
        for kind in kinds {
            let own = source.at(kind).text("path");
            let items = source
                .at(kind)
                .items("items")
                .iter()
                .map(|i| i.text("path"));
            for path in items.chain([own]).filter(|p| !p.is_empty()) {
                if !paths.insert(path) {
                    let detail = format!("conflicting duplicate paths: {path}");
                    out.push(FieldError::invalid(at.field(kind), path, detail));
                }
            }
        }
    }
}

/// Checks a file of the downward API.
pub(in crate::strategy) fn downward_file(file: &Value, at: &Path<'_>, out: &mut Errors) {
    match (file.has("fieldRef"), file.has("resourceFieldRef")) {
        (true, true) => {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            out.push(FieldError::invalid(at, "resource", detail));
        }
        (true, false) => env::file_field(file.at("fieldRef"), &at.field("fieldRef"), out),
        (false, true) => {
            let reference = file.at("resourceFieldRef");
            let at = at.field("resourceFieldRef");
            if reference.text("containerName").is_empty() {
                out.push(FieldError::required(at.field("containerName"), ""));
            }
            env::resource_reference(reference, &at, out);
        }
        (false, false) => {
            out.push(FieldError::required(
                at,
                "one of fieldRef and resourceFieldRef is required",
            ));
        }
    }
    if let Some(mode) = file.int("mode").filter(|m| !(0..=0o777).contains(m)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        out.push(FieldError::invalid(at.field("mode"), mode, detail));
    }
}
