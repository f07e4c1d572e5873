//! `StorageObjectInUseProtection`: claims and volumes are deleted only after their last use.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};

/// Finalizers that the controllers take away when nothing uses the object any more.
const FINALIZERS: [(&str, &str); 2] = [
    ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("persistentvolumes", "kubernetes.io/pv-protection"),
];

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let of_storage = FINALIZERS.iter().any(|(plural, _)| request.is("", plural));
        of_storage && request.operation == Operation::Create
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let found = FINALIZERS.iter().find(|(plural, _)| request.is("", plural));
        let (Some((_, finalizer)), true) = (found, object["metadata"].is_object()) else {
            return Ok(());
        };
        let finalizers = &mut object["metadata"]["finalizers"];
        if finalizers.is_null() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|have| have == finalizer)
        {
            finalizers.push((*finalizer).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;

    #[tokio::test]
    async fn new_storage_is_protected_once() {
        let cases = [
            (
                "persistentvolumeclaims",
                json!({}),
                json!(["kubernetes.io/pvc-protection"]),
            ),
            (
                "persistentvolumes",
                json!({"finalizers": ["a"]}),
                json!(["a", "kubernetes.io/pv-protection"]),
            ),
            (
                "persistentvolumes",
                json!({"finalizers": ["kubernetes.io/pv-protection"]}),
                json!(["kubernetes.io/pv-protection"]),
            ),
        ];
        for (resource, metadata, expected) in cases {
            let object = json!({"metadata": metadata});
            let object = create(&StorageObjectInUseProtection, resource, object)
                .await
                .unwrap();
            assert_eq!(object["metadata"]["finalizers"], expected);
        }
    }
}
