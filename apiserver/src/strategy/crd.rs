//! CustomResourceDefinitions.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::access::{Fields, default, ensure, object};
use super::webhook;
use super::{Context, Errors, immutable, names};
use crate::schema::{FieldError, Path, Schema};

/// Names that were left out follow from the kind.
pub(super) fn name_defaults(names: &mut Map<String, Value>) {
    let kind = names
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if kind.is_empty() {
        return;
    }
    default(names, "singular", kind.to_ascii_lowercase());
    default(names, "listKind", format!("{kind}List"));
}

fn storage_version(spec: &Value) -> Option<&str> {
    spec.items("versions")
        .iter()
        .find(|v| v.flag("storage"))
        .map(|v| v.text("name"))
}

/// A new definition has stored nothing yet but in its storage version.
pub(super) fn create(_: &Context<'_>, crd: &mut Value) {
    let stored: Vec<Value> = storage_version(crd.at("spec"))
        .map(Value::from)
        .into_iter()
        .collect();
    if let Some(root) = crd.as_object_mut() {
        root.insert(
            "status".to_owned(),
            json!({"conditions": [], "storedVersions": stored,
            "acceptedNames": {"kind": "", "plural": ""}}),
        );
    }
}

/// A new storage version joins those that objects may be stored in.
pub(super) fn prepare_update(context: &Context<'_>, new: &mut Value, _: &Value) {
    if !context.subresource.is_empty() {
        return;
    }
    let Some(version) = storage_version(new.at("spec")).map(str::to_owned) else {
        return;
    };
    let Some(root) = new.as_object_mut() else {
        return;
    };
    let stored = ensure(root, "status")
        .entry("storedVersions")
        .or_insert_with(|| json!([]));
    if let Some(stored) = stored.as_array_mut()
        && !stored.iter().any(|s| s == version.as_str())
    {
        stored.push(version.into());
    }
}

/// Checks a definition.
pub(super) fn check(_: &Context<'_>, crd: &Value, out: &mut Errors) {
    let spec = crd.at("spec");
    let at = Path::new("spec");
    let group = spec.text("group");
    let wanted = format!("{}.{group}", spec.at("names").text("plural"));
    let name = crd.at("metadata").text("name");
    if name != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        out.push(FieldError::invalid("metadata.name", name, detail));
    }
    if !group.is_empty() && !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        out.push(FieldError::invalid(at.field("group"), group, detail));
    }
    protected(crd, out);
    names_of(spec.at("names"), &at.field("names"), out);
    versions(spec, &at, out);
    conversion(spec, &at, out);
    if spec.flag("preserveUnknownFields") {
        let detail = "must be false in order to use defaults in the schema";
        out.push(FieldError::invalid(
            at.field("preserveUnknownFields"),
            true,
            detail,
        ));
    }
}

/// Groups of Kubernetes itself need an approval.
fn protected(crd: &Value, out: &mut Errors) {
    let group = crd.at("spec").text("group");
    let owned = |suffix: &str| {
        group == suffix || group.strip_suffix(suffix).is_some_and(|g| g.ends_with('.'))
    };
    let key = "api-approved.kubernetes.io";
    if (owned("k8s.io") || owned("kubernetes.io"))
        && crd.at("metadata").at("annotations").text(key).is_empty()
    {
        let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", \
                      see https://github.com/kubernetes/enhancements/pull/1111";
        out.push(FieldError::required(
            format!("metadata.annotations[{key}]"),
            detail,
        ));
    }
}

fn names_of(names: &Value, at: &Path<'_>, out: &mut Errors) {
    for key in ["plural", "kind"] {
        if names.text(key).is_empty() {
            out.push(FieldError::required(at.field(key), ""));
        }
    }
    for key in ["plural", "singular"] {
        let text = names.text(key);
        if !text.is_empty()
            && let Some(fault) = names::dns1035_label(text)
        {
            out.push(FieldError::invalid(at.field(key), text, fault));
        }
    }
    for key in ["kind", "listKind"] {
        let text = names.text(key);
        if !text.is_empty()
            && let Some(fault) = names::dns1035_label(&text.to_ascii_lowercase())
        {
            let detail = format!("may have mixed case, but should otherwise match: {fault}");
            out.push(FieldError::invalid(at.field(key), text, detail));
        }
    }
    if !names.text("kind").is_empty() && names.text("kind") == names.text("listKind") {
        let detail = "kind and listKind may not be the same";
        out.push(FieldError::invalid(
            at.field("listKind"),
            names.text("listKind"),
            detail,
        ));
    }
    for key in ["shortNames", "categories"] {
        let at = at.field(key);
        for (index, name) in names.items(key).iter().enumerate() {
            if let Some(fault) = names::dns1035_label(name.as_str().unwrap_or_default()) {
                out.push(FieldError::invalid(at.index(index), name.clone(), fault));
            }
        }
    }
}

fn versions(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_versions = at.field("versions");
    let versions = spec.items("versions");
    let stored = versions.iter().filter(|v| v.flag("storage")).count();
    if stored != 1 && !versions.is_empty() {
        let names: Vec<&str> = versions.iter().map(|v| v.text("name")).collect();
        let detail = "must have exactly one version marked as storage version";
        out.push(FieldError::invalid(at_versions, json!(names), detail));
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = at_versions.index(index);
        if !seen.insert(version.text("name")) {
            let detail = "must contain unique version names";
            out.push(FieldError::invalid(
                at_versions,
                version.text("name"),
                detail,
            ));
        }
        let at_schema = at.field("schema");
        let at_open = at_schema.field("openAPIV3Schema");
        let schema = version.at("schema").at("openAPIV3Schema");
        if schema.is_null() {
            out.push(FieldError::required(at_open, "schemas are required"));
        } else {
            let (group, version) = (spec.text("group"), version.text("name"));
            let read = Schema::from_crd(group, version, "", schema, &at_open);
            out.extend(read.err().into_iter().flatten());
        }
        scale(
            version.at("subresources").at("scale"),
            &at.field("subresources"),
            out,
        );
        columns(version.items("additionalPrinterColumns"), &at, out);
    }
}

/// The rules of the schemas. Those of a definition that is there already were taken when it was written, perhaps by another
/// version of davit: only what is new is looked at.
pub(super) fn rules(_: &Context<'_>, crd: &Value, old: Option<&Value>, out: &mut Errors) {
    let open = |version: &Value| version.at("schema").at("openAPIV3Schema").clone();
    let before = old.map(|old| old.at("spec").items("versions"));
    let before = before.unwrap_or_default();
    let mut known = HashSet::new();
    before
        .iter()
        .for_each(|version| collect(&open(version), &mut known));
    let at = Path::new("spec");
    let at_versions = at.field("versions");
    let spec = crd.at("spec");
    for (index, version) in spec.items("versions").iter().enumerate() {
        let (name, schema) = (version.text("name"), open(version));
        let unchanged = |before: &Value| before.text("name") == name && open(before) == schema;
        if schema.is_null() || before.iter().any(unchanged) {
            continue;
        }
        let at = at_versions.index(index);
        let at_schema = at.field("schema");
        let at_open = at_schema.field("openAPIV3Schema");
        if let Ok(schema) = Schema::from_crd(spec.text("group"), name, "", &schema, &at_open) {
            out.extend(schema.rule_faults(&known, &at_open));
        }
    }
}

/// The expressions of all rules in a schema.
fn collect(schema: &Value, expressions: &mut HashSet<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| collect(item, expressions)),
        Value::Object(fields) => {
            for rule in schema.items("x-kubernetes-validations") {
                for key in ["rule", "messageExpression"] {
                    expressions.insert(rule.text(key).to_owned());
                }
            }
            fields
                .values()
                .for_each(|value| collect(value, expressions));
        }
        _ => {}
    }
}

fn scale(scale: &Value, at: &Path<'_>, out: &mut Errors) {
    if scale.is_null() {
        return;
    }
    let at = at.field("scale");
    for (key, root, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", "", false),
    ] {
        let path = scale.text(key);
        if path.is_empty() {
            if required {
                out.push(FieldError::required(at.field(key), ""));
            }
            continue;
        }
        let plain = path.starts_with('.')
            && path
                .split('.')
                .skip(1)
                .all(|s| !s.is_empty() && !s.contains(['[', ']', '*', '@']));
        if !plain {
            let detail = "should be a json path without array notation";
            out.push(FieldError::invalid(at.field(key), path, detail));
        } else if !path.starts_with(root) {
            let detail = format!("should be a json path under {root}");
            out.push(FieldError::invalid(at.field(key), path, detail));
        } else if !required && !path.starts_with(".spec.") && !path.starts_with(".status.") {
            let detail = "should be a json path under either .spec. or .status.";
            out.push(FieldError::invalid(at.field(key), path, detail));
        }
    }
}

fn columns(columns: &[Value], at: &Path<'_>, out: &mut Errors) {
    let at = at.field("additionalPrinterColumns");
    for (index, column) in columns.iter().enumerate() {
        let path = column.text("jsonPath");
        if !path.is_empty() && !path.starts_with('.') {
            let at = at.index(index);
            let detail = "must be a simple json path starting with .";
            out.push(FieldError::invalid(at.field("jsonPath"), path, detail));
        }
    }
}

fn conversion(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let conversion = spec.at("conversion");
    let at = at.field("conversion");
    let hook = conversion.at("webhook");
    match conversion.text("strategy") {
        "Webhook" if !hook.has("clientConfig") => {
            let detail = "required when strategy is set to Webhook";
            let at = at.field("webhook");
            out.push(FieldError::required(at.field("clientConfig"), detail));
        }
        "Webhook" => {
            let at = at.field("webhook");
            webhook::client(hook.at("clientConfig"), &at.field("clientConfig"), out);
            let versions = hook.items("conversionReviewVersions");
            if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
                let detail = "must include at least one of v1, v1beta1";
                let at = at.field("conversionReviewVersions");
                out.push(FieldError::invalid(at, Value::from(versions), detail));
            }
        }
        _ if !hook.is_null() => {
            let detail = "should not be set when strategy is not set to Webhook";
            out.push(FieldError::forbidden(at.field("webhook"), detail));
        }
        _ => {}
    }
}

/// What names the resources of a definition stays.
pub(super) fn update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !context.subresource.is_empty() {
        return;
    }
    let at = Path::new("spec");
    for key in ["group", "scope"] {
        immutable(new.at("spec"), old.at("spec"), key, &at, out);
    }
    let at_names = at.field("names");
    let (new_names, old_names) = (new.at("spec").at("names"), old.at("spec").at("names"));
    for key in ["plural", "kind"] {
        immutable(new_names, old_names, key, &at_names, out);
    }
    let names: Vec<&str> = new
        .at("spec")
        .items("versions")
        .iter()
        .map(|v| v.text("name"))
        .collect();
    for stored in old.at("status").items("storedVersions") {
        let stored = stored.as_str().unwrap_or_default();
        if !names.contains(&stored) {
            let detail = format!("must appear in spec.versions: {stored:?} may still be stored");
            out.push(FieldError::invalid("status.storedVersions", stored, detail));
        }
    }
}

/// Drops the old spelling of a definition's pruning switch when it says what is the rule anyway.
pub(super) fn defaults(crd: &mut Map<String, Value>) {
    if let Some(spec) = object(crd, "spec")
        && spec.get("preserveUnknownFields") == Some(&Value::Bool(false))
    {
        spec.remove("preserveUnknownFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(crd: &Value, old: Option<&Value>) -> Vec<String> {
        let context = Context {
            subresource: "",
            namespace: "",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let mut out = Errors::new();
        rules(&context, crd, old, &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_that_were_there_before_are_not_looked_at_again() {
        let crd = |version: &str, rules: &[&str]| {
            let rules: Vec<Value> = rules.iter().map(|rule| json!({ "rule": rule })).collect();
            json!({"spec": {"group": "x.example", "versions": [{"name": version, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"}}},
                    "x-kubernetes-validations": rules,
                }}},
            }}]}})
        };
        let dear = "self.list.all(x, self.list.all(y, x == y))";
        let wrong = "self.list == 1 || self.none == 2";
        assert_eq!(faults(&crd("v1", &[dear, wrong]), None).len(), 3);
        let old = crd("v1", &[dear]);
        assert_eq!(faults(&old, Some(&old)), Vec::<String>::new());
        // In another version, and beside a new rule that is sound.
        let moved = crd("v2", &["self.list.size() < 9", dear]);
        assert_eq!(faults(&moved, Some(&old)), Vec::<String>::new());
        let worse = faults(&crd("v1", &[dear, wrong]), Some(&old));
        assert_eq!(worse.len(), 1, "{worse:?}");
        assert!(worse[0].contains("undefined field 'none'"), "{worse:?}");
    }
}
