//! Checks of probes and lifecycle handlers.

use serde_json::Value;

use crate::schema::{FieldError, Path};
use crate::strategy::access::Fields;
use crate::strategy::{Errors, names};

/// Checks a container's probes and lifecycle.
pub(in crate::strategy) fn check(container: &Value, at: &Path<'_>, out: &mut Errors) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !container.has(key) {
            continue;
        }
        let at = at.field(key);
        let probe = container.at(key);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &at, out);
        let successes = probe.int("successThreshold").unwrap_or(1);
        if key != "readinessProbe" && successes != 1 {
            out.push(FieldError::invalid(
                at.field("successThreshold"),
                successes,
                "must be 1",
            ));
        }
        if key == "readinessProbe" && probe.has("terminationGracePeriodSeconds") {
            let seconds = probe.at("terminationGracePeriodSeconds").clone();
            let detail = "must not be set for readinessProbes";
            out.push(FieldError::invalid(
                at.field("terminationGracePeriodSeconds"),
                seconds,
                detail,
            ));
        }
    }
    let at = at.field("lifecycle");
    for key in ["postStart", "preStop"] {
        let hook = container.at("lifecycle").at(key);
        if !hook.is_null() {
            handler(
                hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &at.field(key),
                out,
            );
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], at: &Path<'_>, out: &mut Errors) {
    match kinds.iter().filter(|k| handler.has(k)).count() {
        0 => out.push(FieldError::required(at, "must specify a handler type")),
        1 => {}
        _ => {
            let extra = kinds
                .iter()
                .filter(|k| handler.has(k))
                .nth(1)
                .copied()
                .unwrap_or_default();
            let detail = "may not specify more than 1 handler type";
            out.push(FieldError::forbidden(at.field(extra), detail));
        }
    }
    if handler.has("exec") && handler.at("exec").items("command").is_empty() {
        let at = at.field("exec");
        out.push(FieldError::required(at.field("command"), ""));
    }
    for key in ["httpGet", "tcpSocket"] {
        if handler.has(key) {
            let at = at.field(key);
            port(handler.at(key).at("port"), &at.field("port"), out);
        }
    }
}

/// Checks a port given by number or by name.
pub(in crate::strategy) fn port(port: &Value, at: &Path<'_>, out: &mut Errors) {
    let fault = match port {
        Value::String(name) => names::port_name(name),
        other => names::port_number(other.as_i64().unwrap_or(0)),
    };
    if let Some(fault) = fault {
        let shown = if port.is_null() {
            Value::from(0)
        } else {
            port.clone()
        };
        out.push(FieldError::invalid(at, shown, fault));
    }
}
