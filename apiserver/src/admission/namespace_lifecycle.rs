//! `NamespaceLifecycle`: nothing is made in a namespace that is missing or on its way out, and the
//! namespaces the system needs stay.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::{Cause, Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    source: Arc<dyn ObjectSource>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl NamespaceLifecycle {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let is_namespace = request.group.is_empty() && request.resource == "namespaces";
        match request.operation {
            Operation::Delete => is_namespace,
            // Questions about rights in a namespace must be answered while it is deleted.
            Operation::Create | Operation::Update => {
                !is_namespace
                    && !request.namespace.is_empty()
                    && request.group != "authorization.k8s.io"
            }
            Operation::Connect => false,
        }
    }

    async fn mutate(&self, request: &Request<'_>, _object: &mut Value) -> Result<(), Error> {
        if request.operation == Operation::Delete {
            let immortal = IMMORTAL.contains(&request.name) && request.subresource.is_empty();
            return if immortal {
                Err(Error::forbidden("this namespace may not be deleted"))
            } else {
                Ok(())
            };
        }
        let name = request.namespace;
        let object =
            self.source
                .get(Kind::NAMESPACES, "", name)
                .ok_or_else(|| Error::NotFound {
                    group: String::new(),
                    resource: "namespaces".into(),
                    name: name.to_owned(),
                })?;
        if request.operation != Operation::Create {
            return Ok(());
        }
        let namespace: Namespace =
            serde_json::from_slice(&object).map_err(|error| Error::Internal {
                message: format!("namespace {name}: {error}"),
            })?;
        if namespace.status.phase != "Terminating" {
            return Ok(());
        }
        Err(Error::Forbidden {
            message: format!(
                "unable to create new content in namespace {name} because it is being terminated"
            ),
            cause: Some(Cause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace".into(),
            }),
        })
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
    async fn content_needs_a_living_namespace() {
        let namespace = |name: &str, phase: &str| {
            (
                Kind::NAMESPACES,
                json!({"metadata": {"name": name}, "status": {"phase": phase}}),
            )
        };
        let source = Memory::with([
            namespace("live", "Active"),
            namespace("dying", "Terminating"),
        ]);
        let plugin = NamespaceLifecycle::new(source);
        let (user, notes) = (UserInfo::anonymous(), Notes::default());
        let cases = [
            (Operation::Create, "pods", "live", Ok(())),
            (Operation::Update, "pods", "dying", Ok(())),
            (
                Operation::Create,
                "pods",
                "dying",
                Err(
                    "unable to create new content in namespace dying because it is being terminated",
                ),
            ),
            (
                Operation::Create,
                "pods",
                "gone",
                Err("namespaces \"gone\" not found"),
            ),
            (
                Operation::Update,
                "pods",
                "gone",
                Err("namespaces \"gone\" not found"),
            ),
        ];
        for (operation, resource, namespace, expected) in cases {
            let request = request(&user, &notes, operation, resource, namespace);
            assert!(plugin.handles(&request));
            let got = plugin
                .mutate(&request, &mut Value::Null)
                .await
                .map_err(|e| e.to_string());
            assert_eq!(
                got,
                expected.map_err(str::to_owned),
                "{operation:?} {namespace}"
            );
        }
        assert!(!plugin.handles(&request(&user, &notes, Operation::Delete, "pods", "dying")));
        assert!(!plugin.handles(&request(&user, &notes, Operation::Create, "namespaces", "")));
        let review = "authorization.k8s.io/localsubjectaccessreviews";
        assert!(!plugin.handles(&request(&user, &notes, Operation::Create, review, "dying")));
    }

    #[tokio::test]
    async fn system_namespaces_stay() {
        let plugin = NamespaceLifecycle::new(Memory::with([]));
        let (user, notes) = (UserInfo::anonymous(), Notes::default());
        for (name, allowed) in [("default", false), ("kube-system", false), ("mine", true)] {
            let request = Request {
                name,
                ..request(&user, &notes, Operation::Delete, "namespaces", "")
            };
            assert!(plugin.handles(&request));
            let result = plugin.mutate(&request, &mut Value::Null).await;
            assert_eq!(result.is_ok(), allowed, "{name}");
        }
    }
}
