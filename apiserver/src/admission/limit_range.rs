//! `LimitRanger`: defaults for the resources of containers, and bounds for pods, containers and claims.

mod constraint;
mod defaults;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use davit_api::Quantity;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

pub(super) struct LimitRanger {
    source: Arc<dyn ObjectSource>,
}

/// Amounts by resource name.
type Amounts = BTreeMap<String, Quantity>;

/// What may be left out is empty, and null is the same: nobody makes pods in a namespace with a range that is not read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitRange {
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    limits: Option<Vec<Item>>,
}

/// One entry of `spec.limits`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    #[serde(rename = "type")]
    applies_to: String,
    #[serde(deserialize_with = "or_none")]
    min: Amounts,
    #[serde(deserialize_with = "or_none")]
    max: Amounts,
    #[serde(deserialize_with = "or_none")]
    default: Amounts,
    #[serde(deserialize_with = "or_none")]
    default_request: Amounts,
    #[serde(deserialize_with = "or_none")]
    max_limit_request_ratio: Amounts,
}

/// Null is none.
fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amounts, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl LimitRanger {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    /// All entries that hold in a namespace.
    fn items(&self, namespace: &str) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        for object in self.source.list(Kind::LIMIT_RANGES, namespace) {
            let range: LimitRange =
                serde_json::from_slice(&object).map_err(|error| Error::Internal {
                    message: format!("LimitRange in {namespace}: {error}"),
                })?;
            items.extend(range.spec.and_then(|spec| spec.limits).unwrap_or_default());
        }
        Ok(items)
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        match request.operation {
            Operation::Create => request.is("", "pods") || request.is("", "persistentvolumeclaims"),
            Operation::Update => request.is("", "persistentvolumeclaims"),
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        if request.resource == "pods" {
            defaults::apply(&self.items(request.namespace)?, object);
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let items = self.items(request.namespace)?;
        if items.is_empty() {
            return Ok(());
        }
        let broken = if request.resource == "pods" {
            constraint::check_pod(&items, object)
        } else {
            constraint::check_claim(&items, object)
        };
        match broken.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::forbidden(one.clone())),
            many => Err(Error::forbidden(format!("[{}]", many.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests;
