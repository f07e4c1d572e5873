//! `LimitRanger`: defaults for the resources of containers, and bounds for pods, containers and claims.

mod constraint;
mod defaults;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use davit_api::Quantity;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

pub(super) struct LimitRanger {
    source: Arc<dyn ObjectSource>,
}

/// Amounts by resource name.
type Amounts = BTreeMap<String, Quantity>;

#[derive(Deserialize)]
struct LimitRange {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    limits: Vec<Item>,
}

/// One entry of `spec.limits`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    #[serde(rename = "type")]
    applies_to: String,
    min: Amounts,
    max: Amounts,
    default: Amounts,
    default_request: Amounts,
    max_limit_request_ratio: Amounts,
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
            items.extend(range.spec.limits);
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
