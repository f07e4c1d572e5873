//! `Priority`: the number behind a pod's priority class, and one default class at most.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    source: Arc<dyn ObjectSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PriorityClass {
    metadata: Meta,
    // Classes that were stored before the value had a default may have none, which is 0.
    #[serde(default)]
    value: i64,
    #[serde(default)]
    global_default: bool,
    preemption_policy: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

impl Priority {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    fn admit_pod(&self, pod: &mut Value) -> Result<(), Error> {
        let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
            return Ok(());
        };
        let class = match spec.get("priorityClassName").and_then(Value::as_str) {
            None | Some("") => self.default_class(),
            Some(name) => Some(self.named_class(name)?),
        };
        let value = class.as_ref().map_or(0, |class| class.value);
        let policy = class
            .as_ref()
            .and_then(|class| class.preemption_policy.as_deref());
        let policy = policy.unwrap_or(DEFAULT_POLICY);
        if let Some(given) = spec
            .get("priority")
            .and_then(Value::as_i64)
            .filter(|p| *p != value)
        {
            return Err(Error::forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        if let Some(given) = spec
            .get("preemptionPolicy")
            .and_then(Value::as_str)
            .filter(|given| *given != policy)
        {
            return Err(Error::forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let Some(class) = &class {
            spec["priorityClassName"] = class.metadata.name.as_str().into();
        }
        spec["priority"] = value.into();
        spec["preemptionPolicy"] = policy.into();
        Ok(())
    }

    fn named_class(&self, name: &str) -> Result<PriorityClass, Error> {
        let object = self
            .source
            .get(Kind::PRIORITY_CLASSES, "", name)
            .ok_or_else(|| {
                Error::forbidden(format!("no PriorityClass with name {name} was found"))
            })?;
        serde_json::from_slice(&object).map_err(|error| Error::Internal {
            message: format!("PriorityClass {name}: {error}"),
        })
    }

    /// The default class; of several the one with the lowest value, as Kubernetes chooses.
    fn default_class(&self) -> Option<PriorityClass> {
        self.defaults().min_by_key(|class| class.value)
    }

    fn defaults(&self) -> impl Iterator<Item = PriorityClass> {
        let all = self.source.list(Kind::PRIORITY_CLASSES, "").into_iter();
        all.filter_map(|object| serde_json::from_slice::<PriorityClass>(&object).ok())
            .filter(|class| class.global_default)
    }

    fn check_class(&self, class: &Value, name: &str) -> Result<(), Error> {
        if class["globalDefault"] != true {
            return Ok(());
        }
        match self.defaults().find(|other| other.metadata.name != name) {
            None => Ok(()),
            Some(other) => Err(Error::forbidden(format!(
                "PriorityClass {} is already marked as globalDefault. Only one default can exist",
                other.metadata.name
            ))),
        }
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let is_class = request.is("scheduling.k8s.io", "priorityclasses");
        match request.operation {
            Operation::Create => is_class || request.is("", "pods"),
            Operation::Update => is_class,
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        if request.resource == "pods" {
            self.admit_pod(object)
        } else {
            Ok(())
        }
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        if request.resource == "pods" {
            Ok(())
        } else {
            self.check_class(object, request.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;
    use crate::auth::memory::Memory;
    use serde_json::json;

    fn class(name: &str, value: i64, default: bool, policy: &str) -> (Kind, Value) {
        let class = json!({
            "metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": policy,
        });
        (Kind::PRIORITY_CLASSES, class)
    }

    #[tokio::test]
    async fn classes_become_numbers() {
        let with_default = [
            class("std", 5, true, DEFAULT_POLICY),
            class("high", 100, false, "Never"),
        ];
        let cases = [
            (&with_default[..], json!({}), Ok(("std", 5, DEFAULT_POLICY))),
            (
                &with_default[..],
                json!({"priorityClassName": "high"}),
                Ok(("high", 100, "Never")),
            ),
            (
                &with_default[..],
                json!({"priorityClassName": "high", "priority": 100}),
                Ok(("high", 100, "Never")),
            ),
            (&with_default[1..], json!({}), Ok(("", 0, DEFAULT_POLICY))),
            (
                &with_default[..],
                json!({"priority": 7}),
                Err("the integer value of priority (7)"),
            ),
            (
                &with_default[..],
                json!({"preemptionPolicy": "Never"}),
                Err("the string value of PreemptionPolicy (Never)"),
            ),
            (
                &with_default[..],
                json!({"priorityClassName": "x"}),
                Err("no PriorityClass with name x was found"),
            ),
        ];
        for (classes, spec, expected) in cases {
            let plugin = Priority::new(Memory::with(classes.iter().cloned()));
            let got = create(&plugin, "pods", json!({"spec": spec})).await;
            match expected {
                Ok((name, value, policy)) => {
                    let spec = got.unwrap()["spec"].take();
                    assert_eq!(spec["priorityClassName"].as_str().unwrap_or_default(), name);
                    assert_eq!(
                        (&spec["priority"], &spec["preemptionPolicy"]),
                        (&json!(value), &json!(policy))
                    );
                }
                Err(message) => {
                    let error = got.unwrap_err().to_string();
                    assert!(error.starts_with(message), "{error}");
                }
            }
        }
    }

    #[tokio::test]
    async fn there_is_one_default() {
        let plugin = Priority::new(Memory::with([class("std", 5, true, DEFAULT_POLICY)]));
        let resource = "scheduling.k8s.io/priorityclasses";
        assert!(
            create(&plugin, resource, json!({"globalDefault": false}))
                .await
                .is_ok()
        );
        let error = create(&plugin, resource, json!({"globalDefault": true}))
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("std is already marked as globalDefault"),
            "{error}"
        );
    }
}
