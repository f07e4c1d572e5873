//! `autoscaling/v1` HorizontalPodAutoscaler: the CPU target of the v2 object, the rest in annotations.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Conversion, Mapping, shared};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

#[derive(Debug)]
struct AutoscalerV1;

pub(crate) fn autoscaler_v1() -> Arc<dyn Conversion> {
    shared(AutoscalerV1)
}

impl Mapping for AutoscalerV1 {
    fn to_stored(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = "autoscaling/v2".into();
        let mut metrics = take_annotation(&mut object, METRICS)?
            .and_then(|value| value.as_array().cloned())
            .unwrap_or_default();
        if let Some(target) = remove(&mut object, "spec", "targetCPUUtilizationPercentage") {
            metrics.insert(
                0,
                cpu(
                    json!({"type": "Utilization", "averageUtilization": target}),
                    "target",
                ),
            );
        }
        if !metrics.is_empty() {
            object["spec"]["metrics"] = metrics.into();
        }
        if let Some(behavior) = take_annotation(&mut object, BEHAVIOR)? {
            object["spec"]["behavior"] = behavior;
        }
        let mut current = take_annotation(&mut object, CURRENT_METRICS)?
            .and_then(|value| value.as_array().cloned())
            .unwrap_or_default();
        if let Some(now) = remove(&mut object, "status", "currentCPUUtilizationPercentage") {
            current.insert(0, cpu(json!({ "averageUtilization": now }), "current"));
        }
        if !current.is_empty() {
            object["status"]["currentMetrics"] = current.into();
        }
        if let Some(conditions) = take_annotation(&mut object, CONDITIONS)? {
            object["status"]["conditions"] = conditions;
        }
        Ok(object)
    }

    fn to_served(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = "autoscaling/v1".into();
        let metrics = remove(&mut object, "spec", "metrics");
        let (target, others) = split(metrics, "target");
        if let Some(target) = target {
            object["spec"]["targetCPUUtilizationPercentage"] = target;
        }
        annotate(&mut object, METRICS, others);
        let behavior = remove(&mut object, "spec", "behavior");
        annotate(&mut object, BEHAVIOR, behavior);
        let current = remove(&mut object, "status", "currentMetrics");
        let (now, others) = split(current, "current");
        if let Some(now) = now {
            object["status"]["currentCPUUtilizationPercentage"] = now;
        }
        annotate(&mut object, CURRENT_METRICS, others);
        let conditions = remove(&mut object, "status", "conditions");
        annotate(&mut object, CONDITIONS, conditions);
        Ok(object)
    }
}

fn cpu(value: Value, field: &str) -> Value {
    let mut resource = Map::new();
    resource.insert("name".into(), "cpu".into());
    resource.insert(field.into(), value);
    json!({"type": "Resource", "resource": resource})
}

/// The first CPU utilization metric's value, and all other metrics.
fn split(metrics: Option<Value>, field: &str) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(metrics)) = metrics else {
        return (None, None);
    };
    let mut found = None;
    let mut others = Vec::new();
    for metric in metrics {
        let utilization = &metric["resource"][field]["averageUtilization"];
        if found.is_none() && metric["resource"]["name"] == "cpu" && utilization.is_number() {
            found = Some(utilization.clone());
        } else {
            others.push(metric);
        }
    }
    (found, (!others.is_empty()).then(|| others.into()))
}

fn remove(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.remove(field)
}

fn take_annotation(object: &mut Value, name: &str) -> Result<Option<Value>, String> {
    let annotations = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    let Some(text) = annotations.and_then(|annotations| annotations.remove(name)) else {
        return Ok(None);
    };
    serde_json::from_str(text.as_str().unwrap_or_default())
        .map(Some)
        .map_err(|error| format!("metadata.annotations[{name}]: Invalid value: {error}"))
}

fn annotate(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object["metadata"]["annotations"][name] = value.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_changes_nothing() {
        let v1 = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70},
        });
        let stored = AutoscalerV1.to_stored(v1.clone()).unwrap();
        assert_eq!(
            stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            70
        );
        assert_eq!(AutoscalerV1.to_served(stored).unwrap(), v1);
    }

    #[test]
    fn what_v1_cannot_say_survives_in_annotations() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {}},
            "spec": {"maxReplicas": 3, "metrics": [{"type": "Pods", "pods": {}}],
                     "behavior": {"scaleDown": {}}},
        });
        let served = AutoscalerV1.to_served(v2.clone()).unwrap();
        assert_eq!(served["spec"], json!({"maxReplicas": 3}));
        assert_eq!(AutoscalerV1.to_stored(served).unwrap(), v2);
    }
}
