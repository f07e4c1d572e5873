//! `DefaultIngressClass`: an Ingress that names no class gets the default one.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::default_class::newest;
use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How old clients name the class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass {
    source: Arc<dyn ObjectSource>,
}

impl DefaultIngressClass {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("networking.k8s.io", "ingresses")
    }

    async fn mutate(&self, _request: &Request<'_>, ingress: &mut Value) -> Result<(), Error> {
        let named = !ingress["spec"]["ingressClassName"].is_null()
            || ingress["metadata"]["annotations"]
                .get(CLASS_ANNOTATION)
                .is_some();
        if named {
            return Ok(());
        }
        let default = newest(&self.source.list(Kind::INGRESS_CLASSES, ""), &[IS_DEFAULT]);
        let spec = ingress.get_mut("spec").and_then(Value::as_object_mut);
        if let (Some(name), Some(spec)) = (default, spec) {
            spec.insert("ingressClassName".to_owned(), name.into());
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
    async fn the_default_is_used_when_none_is_named() {
        let class = |name: &str, default: &str| {
            (
                Kind::INGRESS_CLASSES,
                json!({"metadata": {"name": name, "annotations": {IS_DEFAULT: default}}}),
            )
        };
        let named = json!({"spec": {"ingressClassName": "x"}});
        let annotated = json!({"metadata": {"annotations": {CLASS_ANNOTATION: "x"}}, "spec": {}});
        let cases = [
            (
                "true",
                json!({"spec": {}}),
                json!({"spec": {"ingressClassName": "a"}}),
            ),
            ("false", json!({"spec": {}}), json!({"spec": {}})),
            ("true", named.clone(), named),
            ("true", annotated.clone(), annotated),
        ];
        for (default, ingress, expected) in cases {
            let source = Memory::with([class("a", default), class("b", "false")]);
            let plugin = DefaultIngressClass::new(source);
            let got = create(&plugin, "networking.k8s.io/ingresses", ingress).await;
            assert_eq!(got.unwrap(), expected);
        }
    }
}
