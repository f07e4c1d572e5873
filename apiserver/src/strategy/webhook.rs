//! Admission webhooks and policies, and API services.

use std::collections::HashSet;

use serde_json::Value;

use super::access::{Fields, same};
use super::{Context, Errors, names};
use crate::schema::cel::{Expression, POLICY_NAMES, WEBHOOK_NAMES};
use crate::schema::{FieldError, Path};

/// Checks the webhooks of a configuration.
pub(super) fn configuration(_: &Context<'_>, configuration: &Value, out: &mut Errors) {
    let at_hooks = Path::new("webhooks");
    let mut seen = HashSet::new();
    for (index, hook) in configuration.items("webhooks").iter().enumerate() {
        let at = at_hooks.index(index);
        let name = hook.text("name");
        if !name.is_empty() {
            qualified_domain(name, &at.field("name"), out);
            if !seen.insert(name) {
                out.push(FieldError::duplicate(at.field("name"), name));
            }
        }
        client(hook.at("clientConfig"), &at.field("clientConfig"), out);
        let versions = hook.items("admissionReviewVersions");
        let known = |v: &Value| matches!(v.as_str(), Some("v1" | "v1beta1"));
        if !versions.is_empty() && !versions.iter().any(known) {
            let detail = "must include at least one of v1, v1beta1";
            let at = at.field("admissionReviewVersions");
            out.push(FieldError::invalid(at, Value::from(versions), detail));
        }
        let at_conditions = at.field("matchConditions");
        for (index, condition) in hook.items("matchConditions").iter().enumerate() {
            let at = at_conditions.index(index);
            let source = condition.text("expression");
            expression(source, WEBHOOK_NAMES, &at.field("expression"), out);
        }
        let at_rules = at.field("rules");
        for (index, rule) in hook.items("rules").iter().enumerate() {
            rule_with_operations(rule, &at_rules.index(index), out);
        }
    }
}

fn qualified_domain(name: &str, at: &Path<'_>, out: &mut Errors) {
    if let Some(fault) = names::dns_subdomain(name) {
        out.push(FieldError::invalid(at, name, fault));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        out.push(FieldError::invalid(at, name, detail));
    }
}

/// Checks how a webhook is reached.
pub(super) fn client(client: &Value, at: &Path<'_>, out: &mut Errors) {
    match (client.has("url"), client.has("service")) {
        (true, false) => url(client.text("url"), &at.field("url"), out),
        (false, true) => {
            let path = client.at("service").text("path");
            if !path.is_empty() && !path.starts_with('/') {
                let at = at.field("service");
                out.push(FieldError::invalid(
                    at.field("path"),
                    path,
                    "must start with a '/'",
                ));
            }
        }
        _ => out.push(FieldError::required(
            at,
            "exactly one of url or service is required",
        )),
    }
}

fn url(text: &str, at: &Path<'_>, out: &mut Errors) {
    let form = "; desired format: https://host[/path]";
    let fault = match text.parse::<http::Uri>() {
        Err(_) => Some(format!("url must be a valid URL{form}")),
        Ok(uri) => match () {
            () if uri.scheme_str() != Some("https") => {
                Some(format!("'https' is the only allowed URL scheme{form}"))
            }
            () if uri.host().is_none_or(str::is_empty) => {
                Some(format!("host must be specified{form}"))
            }
            () if uri.authority().is_some_and(|a| a.as_str().contains('@')) => {
                Some("user information is not permitted in the URL".to_owned())
            }
            () if uri.query().is_some() => {
                Some("query parameters are not permitted in the URL".to_owned())
            }
            () => None,
        },
    };
    if let Some(fault) = fault {
        out.push(FieldError::invalid(at, text, fault));
    }
}

fn rule_with_operations(rule: &Value, at: &Path<'_>, out: &mut Errors) {
    let operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let at_operations = at.field("operations");
    if rule.items("operations").is_empty() {
        out.push(FieldError::required(at_operations, ""));
    }
    for (index, operation) in rule.items("operations").iter().enumerate() {
        if !operations.contains(&operation.as_str().unwrap_or_default()) {
            let at = at_operations.index(index);
            out.push(FieldError::not_supported(
                at,
                operation.clone(),
                &operations,
            ));
        }
    }
    for key in ["apiGroups", "apiVersions", "resources"] {
        let items = rule.items(key);
        if items.is_empty() {
            out.push(FieldError::required(at.field(key), ""));
        }
        if key != "resources" && items.len() > 1 && items.iter().any(|i| i == "*") {
            let detail = "if '*' is present, must not specify other values";
            out.push(FieldError::invalid(
                at.field(key),
                Value::from(items),
                detail,
            ));
        }
    }
    let scope = rule.text("scope");
    if !matches!(scope, "" | "*" | "Cluster" | "Namespaced") {
        let known = ["*", "Cluster", "Namespaced"];
        out.push(FieldError::not_supported(at.field("scope"), scope, &known));
    }
}

/// Checks a validating policy's spec.
pub(super) fn policy_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    if spec.items("validations").is_empty() && spec.items("auditAnnotations").is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        out.push(FieldError::required(at.field("validations"), detail));
    }
    if !spec.has("matchConstraints") {
        out.push(FieldError::required(at.field("matchConstraints"), ""));
    } else if spec
        .at("matchConstraints")
        .items("resourceRules")
        .is_empty()
    {
        let at = at.field("matchConstraints");
        out.push(FieldError::required(at.field("resourceRules"), ""));
    }
    let at_validations = at.field("validations");
    for (index, validation) in spec.items("validations").iter().enumerate() {
        let at = at_validations.index(index);
        let source = validation.text("expression");
        expression(source, POLICY_NAMES, &at.field("expression"), out);
        let message = validation.text("messageExpression");
        if !message.is_empty() {
            expression(message, POLICY_NAMES, &at.field("messageExpression"), out);
        }
    }
    let at_annotations = at.field("auditAnnotations");
    for (index, annotation) in spec.items("auditAnnotations").iter().enumerate() {
        let at = at_annotations.index(index);
        let source = annotation.text("valueExpression");
        expression(source, POLICY_NAMES, &at.field("valueExpression"), out);
    }
    shared_expressions(spec, at, out);
}

/// Checks a mutating policy's spec.
pub(super) fn mutating_policy_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_mutations = at.field("mutations");
    if spec.items("mutations").is_empty() {
        out.push(FieldError::required(
            at_mutations,
            "mutations must contain at least one item",
        ));
    }
    for (index, mutation) in spec.items("mutations").iter().enumerate() {
        let at = at_mutations.index(index);
        let field = match mutation.text("patchType") {
            "JSONPatch" => "jsonPatch",
            "ApplyConfiguration" => "applyConfiguration",
            other => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                out.push(FieldError::not_supported(
                    at.field("patchType"),
                    other,
                    &known,
                ));
                continue;
            }
        };
        let source = mutation.at(field).text("expression");
        expression(
            source,
            POLICY_NAMES,
            &at.field(field).field("expression"),
            out,
        );
    }
    if !spec.has("matchConstraints") {
        out.push(FieldError::required(at.field("matchConstraints"), ""));
    }
    shared_expressions(spec, at, out);
}

fn shared_expressions(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    for list in ["variables", "matchConditions"] {
        let at = at.field(list);
        for (index, item) in spec.items(list).iter().enumerate() {
            let at = at.index(index);
            expression(
                item.text("expression"),
                POLICY_NAMES,
                &at.field("expression"),
                out,
            );
        }
    }
}

fn expression(source: &str, names: &[&str], at: &Path<'_>, out: &mut Errors) {
    if source.trim().is_empty() {
        out.push(FieldError::required(at, "expression is not specified"));
    } else if let Err(why) = Expression::compile(source, names) {
        let detail = format!("compilation failed: {why}");
        out.push(FieldError::invalid(at, source, detail));
    }
}

/// Checks what a policy binding does when a validation fails.
pub(super) fn binding_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let known = ["Audit", "Deny", "Warn"];
    let at = at.field("validationActions");
    let actions = spec.items("validationActions");
    for (index, action) in actions.iter().enumerate() {
        if !known.contains(&action.as_str().unwrap_or_default()) {
            out.push(FieldError::not_supported(
                at.index(index),
                action.clone(),
                &known,
            ));
        }
    }
    let has = |action: &str| actions.iter().any(|a| a == action);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure \
                      information in the API response and headers serves no purpose)";
        out.push(FieldError::invalid(at, Value::from(actions), detail));
    }
}

/// An API service is named after what it serves.
pub(super) fn api_service(_: &Context<'_>, service: &Value, out: &mut Errors) {
    let spec = service.at("spec");
    let wanted = format!("{}.{}", spec.text("version"), spec.text("group"));
    let name = service.at("metadata").text("name");
    if name != wanted.trim_end_matches('.') && name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        out.push(FieldError::invalid("metadata.name", name, detail));
    }
    let reference = spec.at("service");
    if reference.is_null() {
        return;
    }
    for key in ["namespace", "name"] {
        if reference.text(key).is_empty() {
            out.push(FieldError::required(format!("spec.service.{key}"), ""));
        }
    }
    if spec.flag("insecureSkipTLSVerify") && spec.has("caBundle") {
        let detail = "may not be true if caBundle is present";
        out.push(FieldError::invalid(
            "spec.insecureSkipTLSVerify",
            true,
            detail,
        ));
    }
}

/// A request for a certificate stays as it was signed.
pub(super) fn request_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !same(new.at("spec"), old.at("spec")) {
        let value = new.at("spec").clone();
        out.push(FieldError::invalid("spec", value, "field is immutable"));
    }
}
