//! Horizontal pod autoscalers and disruption budgets.

use serde_json::{Map, Value, json};

use super::access::{Fields, default, default_absent, ensure};
use super::{Errors, intstr};
use crate::schema::{FieldError, Path};

/// The older API's target.
pub(super) fn v1_defaults(spec: &mut Map<String, Value>) {
    default_absent(spec, "targetCPUUtilizationPercentage", 80);
}

/// Without metrics, 80 % of the requested cpu.
pub(super) fn v2_defaults(spec: &mut Map<String, Value>) {
    let none = spec
        .get("metrics")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if none {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    if spec.get("behavior").is_some_and(Value::is_object) {
        behavior_defaults(ensure(spec, "behavior"));
    }
}

fn behavior_defaults(behavior: &mut Map<String, Value>) {
    let up = ensure(behavior, "scaleUp");
    default_absent(up, "stabilizationWindowSeconds", 0);
    default_absent(up, "selectPolicy", "Max");
    default(
        up,
        "policies",
        json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]),
    );
    let down = ensure(behavior, "scaleDown");
    default_absent(down, "selectPolicy", "Max");
    default(
        down,
        "policies",
        json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
    );
}

/// Checks the bounds and the metrics of an autoscaler's spec.
pub(super) fn spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let most = spec.int("maxReplicas").unwrap_or(0);
    if spec.int("minReplicas").is_some_and(|least| least > most) {
        let detail = "must be greater than or equal to `minReplicas`";
        out.push(FieldError::invalid(at.field("maxReplicas"), most, detail));
    }
    let at_metrics = at.field("metrics");
    for (index, metric) in spec.items("metrics").iter().enumerate() {
        let at = at_metrics.index(index);
        let key = match metric.text("type") {
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            "Pods" => "pods",
            "Object" => "object",
            "External" => "external",
            _ => continue,
        };
        if !metric.has(key) {
            let detail = "must populate information for the given metric source";
            out.push(FieldError::required(at.field(key), detail));
            continue;
        }
        let target = metric.at(key).at("target");
        let wanted = match target.text("type") {
            "Utilization" => "averageUtilization",
            "AverageValue" => "averageValue",
            "Value" => "value",
            _ => continue,
        };
        if !target.has(wanted) {
            let at = at.field(key);
            let at = at.field("target");
            out.push(FieldError::required(
                at.field(wanted),
                "must specify a positive target",
            ));
        }
    }
}

/// Checks a disruption budget's spec.
pub(super) fn budget_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        out.push(FieldError::invalid(at, spec.clone(), detail));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        intstr::not_negative(spec.at(key), &at.field(key), out);
        intstr::at_most_all(spec.at(key), &at.field(key), out);
    }
}
