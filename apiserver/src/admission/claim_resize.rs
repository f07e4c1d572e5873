//! `PersistentVolumeClaimResize`: a claim grows only where its class says that volumes can.

use std::sync::Arc;

use async_trait::async_trait;
use davit_api::Quantity;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

pub(super) struct PersistentVolumeClaimResize {
    source: Arc<dyn ObjectSource>,
}

impl PersistentVolumeClaimResize {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    fn may_grow(&self, new: &Value, old: &Value) -> bool {
        let class = class(new);
        if class.is_empty() || class != self::class(old) {
            return false;
        }
        let stored = self.source.get(Kind::STORAGE_CLASSES, "", class);
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        stored.is_some_and(|stored| stored["allowVolumeExpansion"] == true)
    }
}

fn class(claim: &Value) -> &str {
    let annotated = claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = annotated.or_else(|| claim.pointer("/spec/storageClassName"));
    class.and_then(Value::as_str).unwrap_or_default()
}

fn size(claim: &Value) -> Quantity {
    Quantity::deserialize(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default()
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.is("", "persistentvolumeclaims")
    }

    async fn validate(&self, request: &Request<'_>, claim: &Value) -> Result<(), Error> {
        let Some(old) = request.old.filter(|old| size(claim) > size(old)) else {
            return Ok(());
        };
        if old["status"]["phase"] != "Bound" {
            return Err(Error::forbidden(
                "Only bound persistent volume claims can be expanded",
            ));
        }
        if !self.may_grow(claim, old) {
            return Err(Error::forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Notes;
    use crate::admission::testing::request;
    use crate::auth::UserInfo;
    use crate::auth::memory::Memory;
    use serde_json::json;

    #[tokio::test]
    async fn claims_grow_where_their_class_allows_it() {
        let class = |name: &str, grows: Value| {
            (
                Kind::STORAGE_CLASSES,
                json!({"metadata": {"name": name}, "allowVolumeExpansion": grows}),
            )
        };
        let plugin = PersistentVolumeClaimResize::new(Memory::with([
            class("grows", true.into()),
            class("stays", Value::Null),
        ]));
        let claim = |class: &str, size: &str, phase: &str| {
            json!({
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
                "status": {"phase": phase},
            })
        };
        let (user, notes) = (UserInfo::anonymous(), Notes::default());
        let cases = [
            ("grows", "1Gi", "2Gi", "Bound", None),
            ("stays", "1Gi", "1024Mi", "Bound", None),
            ("stays", "2Gi", "1Gi", "Bound", None),
            (
                "grows",
                "1Gi",
                "2Gi",
                "Pending",
                Some("Only bound persistent volume claims"),
            ),
            ("stays", "1Gi", "2Gi", "Bound", Some("must support resize")),
            ("gone", "1Gi", "2Gi", "Bound", Some("must support resize")),
            ("", "1Gi", "2Gi", "Bound", Some("must support resize")),
        ];
        for (class, before, after, phase, expected) in cases {
            let old = claim(class, before, phase);
            let request = Request {
                old: Some(&old),
                ..request(
                    &user,
                    &notes,
                    Operation::Update,
                    "persistentvolumeclaims",
                    "a",
                )
            };
            assert!(plugin.handles(&request));
            let got = plugin.validate(&request, &claim(class, after, phase)).await;
            match (got, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                (got, _) => panic!("{class} {before} {after}: {got:?}"),
            }
        }
    }
}
