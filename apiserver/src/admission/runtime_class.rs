//! `RuntimeClass`: what a pod's runtime costs beside its containers, and where it can run.

use std::sync::Arc;

use async_trait::async_trait;
use davit_api::quota::Amounts;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

pub(super) struct RuntimeClass {
    source: Arc<dyn ObjectSource>,
}

impl RuntimeClass {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    /// The class a pod names.
    fn class(&self, pod: &Value) -> Result<Value, Error> {
        let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
            return Ok(Value::Null);
        };
        let stored = self.source.get(Kind::RUNTIME_CLASSES, "", name);
        let stored = stored.ok_or_else(|| {
            Error::forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))
        })?;
        serde_json::from_slice(&stored).map_err(|error| Error::Internal {
            message: format!("RuntimeClass {name}: {error}"),
        })
    }
}

/// `overhead.podFixed` of a class; `None` when the class has no overhead.
fn fixed(class: &Value) -> Option<&Value> {
    let overhead = class
        .get("overhead")
        .filter(|overhead| !overhead.is_null())?;
    Some(&overhead["podFixed"])
}

fn same_amounts(a: &Value, b: &Value) -> bool {
    let read = |value: &Value| Option::<Amounts>::deserialize(value).ok().flatten();
    read(a).unwrap_or_default() == read(b).unwrap_or_default()
}

fn set_overhead(class: &Value, spec: &mut Map<String, Value>) -> Result<(), Error> {
    let Some(fixed) = fixed(class) else {
        return Ok(());
    };
    let given = spec.get("overhead").filter(|given| !given.is_null());
    if given.is_some_and(|given| !same_amounts(given, fixed)) {
        return Err(mismatch());
    }
    spec.insert("overhead".to_owned(), fixed.clone());
    Ok(())
}

fn mismatch() -> Error {
    Error::forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
}

fn set_scheduling(class: &Value, spec: &mut Map<String, Value>) -> Result<(), Error> {
    let scheduling = &class["scheduling"];
    if let Some(wanted) = scheduling["nodeSelector"].as_object() {
        let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        if selector.is_null() {
            *selector = json!({});
        }
        for (key, value) in wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let have = selector.get(key).map(text);
            let wanted = text(value);
            if let Some(have) = have.filter(|have| *have != wanted) {
                return Err(Error::forbidden(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {have}"
                )));
            }
            selector[key] = value.clone();
        }
    }
    if let Some(more) = scheduling["tolerations"].as_array() {
        let have = spec.get("tolerations").and_then(Value::as_array);
        let all: Vec<Value> = have.into_iter().flatten().chain(more).cloned().collect();
        spec.insert("tolerations".to_owned(), merged(&all).into());
    }
    Ok(())
}

/// Tolerations without those that others make needless.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let mut later = all.iter().skip(index + 1);
        let needless = kept.iter().any(|other| covers(other, toleration))
            || later.any(|other| other != toleration && covers(other, toleration));
        if !needless {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether whatever `narrow` tolerates is tolerated by `wide`.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    if wide == narrow {
        return true;
    }
    let exists = text(wide, "operator") == "Exists";
    let every_key = text(wide, "key").is_empty() && exists;
    if text(wide, "key") != text(narrow, "key") && !every_key {
        return false;
    }
    let effect = text(wide, "effect");
    if !effect.is_empty() && effect != text(narrow, "effect") {
        return false;
    }
    let seconds = |value: &Value| value["tolerationSeconds"].as_i64();
    if effect == "NoExecute"
        && let Some(limit) = seconds(wide)
        && seconds(narrow).is_none_or(|given| given > limit)
    {
        return false;
    }
    exists || text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value")
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("", "pods")
    }

    async fn mutate(&self, _request: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        let class = self.class(pod)?;
        let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        set_overhead(&class, spec)?;
        set_scheduling(&class, spec)
    }

    async fn validate(&self, _request: &Request<'_>, pod: &Value) -> Result<(), Error> {
        let overhead = &pod["spec"]["overhead"];
        match fixed(&self.class(pod)?) {
            Some(fixed) if !same_amounts(fixed, overhead) => Err(mismatch()),
            None if overhead.as_object().is_some_and(|o| !o.is_empty()) => Err(Error::forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;
    use crate::auth::memory::Memory;

    #[tokio::test]
    async fn pods_take_over_what_their_class_says() {
        let class = json!({
            "metadata": {"name": "vm"}, "handler": "vm",
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
        });
        let vm = |more: Value| {
            let mut spec = json!({"runtimeClassName": "vm"});
            json_patch::merge(&mut spec, &more);
            spec
        };
        let vm_tolerations = json!([{"key": "vm", "operator": "Exists"}]);
        let narrow =
            json!([{"key": "vm", "operator": "Equal", "value": "1", "effect": "NoSchedule"}]);
        let other =
            json!([{"key": "x", "operator": "Exists"}, {"key": "vm", "operator": "Exists"}]);
        let cases = [
            (json!({}), Ok(json!({}))),
            (
                vm(json!({})),
                Ok(vm(
                    json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"}, "tolerations": vm_tolerations}),
                )),
            ),
            (
                vm(
                    json!({"overhead": {"cpu": "0.25"}, "nodeSelector": {"a": "b"}, "tolerations": narrow}),
                ),
                Ok(vm(
                    json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"a": "b", "vm": "yes"}, "tolerations": vm_tolerations}),
                )),
            ),
            (
                vm(json!({"tolerations": [{"key": "x", "operator": "Exists"}]})),
                Ok(vm(
                    json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"}, "tolerations": other}),
                )),
            ),
            (
                vm(json!({"overhead": {"cpu": "1"}})),
                Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ),
            (
                vm(json!({"nodeSelector": {"vm": "no"}})),
                Err(
                    "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
                ),
            ),
            (
                json!({"runtimeClassName": "x"}),
                Err("pod rejected: RuntimeClass \"x\" not found"),
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                Err(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                ),
            ),
        ];
        for (spec, expected) in cases {
            let plugin = RuntimeClass::new(Memory::with([(Kind::RUNTIME_CLASSES, class.clone())]));
            let got = create(&plugin, "pods", json!({"spec": spec})).await;
            let got = got
                .map(|mut pod| pod["spec"].take())
                .map_err(|e| e.to_string());
            assert_eq!(got, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_shorter_patience_covers_no_longer_one() {
        let toleration = |seconds: Value| json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        assert!(covers(&toleration(5.into()), &toleration(3.into())));
        assert!(!covers(&toleration(5.into()), &toleration(7.into())));
        assert!(!covers(&toleration(5.into()), &toleration(Value::Null)));
        assert!(covers(&toleration(Value::Null), &toleration(7.into())));
    }
}
