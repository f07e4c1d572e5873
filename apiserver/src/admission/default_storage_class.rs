//! `DefaultStorageClass`: a claim that names no class gets the default one.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::default_class::newest;
use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

/// Both spellings mark a class as default.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// How old clients name the class of a claim.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct DefaultStorageClass {
    source: Arc<dyn ObjectSource>,
}

impl DefaultStorageClass {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    fn default_class(&self) -> Option<String> {
        newest(&self.source.list(Kind::STORAGE_CLASSES, ""), &IS_DEFAULT)
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("", "persistentvolumeclaims")
    }

    async fn mutate(&self, _request: &Request<'_>, claim: &mut Value) -> Result<(), Error> {
        let named = claim["spec"]
            .get("storageClassName")
            .is_some_and(|name| !name.is_null())
            || claim["metadata"]["annotations"]
                .get(CLASS_ANNOTATION)
                .is_some();
        if named {
            return Ok(());
        }
        if let (Some(name), Some(spec)) = (
            self.default_class(),
            claim.get_mut("spec").and_then(Value::as_object_mut),
        ) {
            spec.insert("storageClassName".into(), name.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;
    use crate::auth::memory::Memory;
    use serde_json::json;

    #[tokio::test]
    async fn the_newest_default_is_used_when_none_is_named() {
        let class = |name: &str, day: u8, default: &str| {
            (
                Kind::STORAGE_CLASSES,
                json!({"metadata": {
                    "name": name,
                    "creationTimestamp": format!("2026-01-0{day}T00:00:00Z"),
                    "annotations": {IS_DEFAULT[0]: default},
                }}),
            )
        };
        let many = [
            class("old", 1, "true"),
            class("b", 2, "true"),
            class("a", 2, "true"),
            class("c", 3, "false"),
        ];
        let named = json!({"spec": {"storageClassName": "x"}});
        let none = json!({"spec": {"storageClassName": ""}});
        let annotated = json!({"metadata": {"annotations": {CLASS_ANNOTATION: "x"}}, "spec": {}});
        let cases = [
            (
                &many[..],
                json!({"spec": {}}),
                json!({"spec": {"storageClassName": "a"}}),
            ),
            (&many[3..], json!({"spec": {}}), json!({"spec": {}})),
            (&many[..], named.clone(), named),
            (&many[..], none.clone(), none),
            (&many[..], annotated.clone(), annotated),
        ];
        for (classes, claim, expected) in cases {
            let plugin = DefaultStorageClass::new(Memory::with(classes.iter().cloned()));
            let got = create(&plugin, "persistentvolumeclaims", claim)
                .await
                .unwrap();
            assert_eq!(got, expected);
        }
    }
}
