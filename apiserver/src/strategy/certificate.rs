//! Requests for certificates: what may be asked, and which part of the status belongs to whom.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::access::{Fields, ensure, same};
use super::{Context, Errors, names};
use crate::pki::CertificateRequest;
use crate::schema::{FieldError, Path};

/// Certificates without a purpose; only the beta API could ask for them.
const LEGACY: &str = "kubernetes.io/legacy-unknown";
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Approval changes the conditions and nothing else, the status everything but the decisions.
pub(super) fn prepare_update(context: &Context<'_>, new: &mut Value, old: &Value) {
    let wanted = new.at("status").items("conditions").to_vec();
    let before = old.at("status").items("conditions");
    let is_decision = |c: &Value| DECISIONS.contains(&c.text("type"));
    let conditions: Vec<Value> = match context.subresource {
        "approval" => wanted,
        "status" => {
            let decided = before.iter().filter(|c| is_decision(c)).cloned();
            let others = wanted.into_iter().filter(|c| !is_decision(c));
            decided.chain(others).collect()
        }
        _ => return,
    };
    let Some(root) = new.as_object_mut() else {
        return;
    };
    if context.subresource == "approval" {
        let status = old.get("status").cloned();
        let status = status.unwrap_or_else(|| Map::new().into());
        root.insert("status".to_owned(), status);
    }
    let status = ensure(root, "status");
    status.remove("conditions");
    if !conditions.is_empty() {
        let timed = conditions
            .into_iter()
            .map(|c| with_times(context, c, before));
        status.insert("conditions".to_owned(), timed.collect::<Vec<_>>().into());
    }
}

/// A condition without times was changed now; without a status it is true.
fn with_times(context: &Context<'_>, mut condition: Value, before: &[Value]) -> Value {
    let old = before
        .iter()
        .find(|c| c.text("type") == condition.text("type"));
    let unchanged = old.is_some_and(|old| *old == condition);
    let Some(fields) = condition.as_object_mut().filter(|_| !unchanged) else {
        return condition;
    };
    let now = Value::from(context.now.to_string());
    for (key, value) in [
        ("status", Value::from("True")),
        ("lastUpdateTime", now.clone()),
        ("lastTransitionTime", now),
    ] {
        if fields.get(key).is_none_or(Value::is_null) {
            fields.insert(key.to_owned(), value);
        }
    }
    condition
}

/// A request stays as it was made, a decision as it was taken, a certificate as it was issued.
pub(super) fn check_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !same(new.at("spec"), old.at("spec")) {
        let value = new.at("spec").clone();
        out.push(FieldError::invalid("spec", value, "field is immutable"));
    }
    let has = |object: &Value, kind: &str| {
        let conditions = object.at("status").items("conditions");
        conditions.iter().any(|c| c.text("type") == kind)
    };
    let at = "status.conditions";
    if DECISIONS.iter().all(|kind| has(new, kind)) {
        let value = new.at("status").at("conditions").clone();
        let detail = "Approved and Denied conditions are mutually exclusive";
        out.push(FieldError::invalid(at, value, detail));
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if has(old, kind) && !has(new, kind) {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            out.push(FieldError::forbidden(at, detail));
        }
    }
    let issued = |object: &Value| object.at("status").text("certificate").to_owned();
    if !issued(old).is_empty() && issued(new) != issued(old) {
        let detail = "updates may not set certificate content to a different value";
        out.push(FieldError::forbidden("status.certificate", detail));
    }
}

/// Checks a certificate request's spec.
pub(super) fn spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let signer = spec.text("signerName");
    if !signer.is_empty() {
        let good = signer.split_once('/').is_some_and(|(domain, path)| {
            names::dns_subdomain(domain).is_none() && !path.is_empty() && !path.contains('/')
        });
        if !good {
            let detail = "must be a fully qualified domain and path of the form \
                          'example.com/signer-name'";
            out.push(FieldError::invalid(at.field("signerName"), signer, detail));
        }
    }
    if let Some(seconds) = spec.int("expirationSeconds").filter(|s| *s < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        out.push(FieldError::invalid(
            at.field("expirationSeconds"),
            seconds,
            detail,
        ));
    }
    if signer == LEGACY {
        let detail = "the legacy signerName is not allowed via this API version";
        out.push(FieldError::invalid(at.field("signerName"), signer, detail));
    }
    let pem = STANDARD.decode(spec.text("request")).unwrap_or_default();
    if let Err(error) = CertificateRequest::parse(&pem) {
        let value = spec.at("request").clone();
        out.push(FieldError::invalid(at.field("request"), value, error));
    }
    if spec.items("usages").is_empty() {
        let detail = "usages must be provided";
        out.push(FieldError::required(at.field("usages"), detail));
    }
    let usages = spec.items("usages");
    for (index, usage) in usages.iter().enumerate() {
        let at = at.field("usages");
        if usages.iter().take(index).any(|earlier| earlier == usage) {
            out.push(FieldError::duplicate(at.index(index), usage.clone()));
        }
    }
}
