//! `NodeRestriction`: a node writes its own objects and those of its pods, and nothing that would draw other pods to it.
//!
//! Unlike a kubelet, davit's node makes and binds volumes, so claims are left to the node authorizer.

mod labels;
mod pod;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

const LEASES: &str = "kube-node-lease";

pub(super) struct NodeRestriction {
    source: Arc<dyn ObjectSource>,
}

impl NodeRestriction {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    fn check(&self, node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        match (request.group, request.resource) {
            ("", "pods") => self.pod(node, request, object),
            ("", "nodes") => own_node(node, request, object),
            ("", "serviceaccounts") if request.subresource == "token" => {
                self.token(node, request, object)
            }
            ("coordination.k8s.io", "leases") => lease(node, request),
            ("storage.k8s.io", "csinodes") if request.name != node => Err(Error::forbidden(
                "can only access CSINode with the same name as the requesting node",
            )),
            ("resource.k8s.io", "resourceslices") => slice(node, request, object),
            _ => Ok(()),
        }
    }

    fn pod(&self, node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let not_its_own =
            |pod: Option<&Value>| pod.is_some_and(|pod| pod["spec"]["nodeName"] != node);
        let refuse = |message: String| Err(Error::forbidden(message));
        let operation = request.operation;
        match (request.subresource, operation) {
            ("", Operation::Create) => {
                let stored = self.source.get(Kind::NODES, "", node);
                pod::check_new(node, object, stored.as_deref())
            }
            ("", Operation::Delete) if not_its_own(request.old) => refuse(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            ("", Operation::Delete) => Ok(()),
            ("", _) => refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) if not_its_own(request.old) => refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            )),
            ("status", Operation::Update) => pod::check_status(node, request.old, object),
            ("eviction", Operation::Create) => {
                let pod = self.source.get(Kind::PODS, request.namespace, request.name);
                let pod = pod.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
                if not_its_own(pod.as_ref()) {
                    return refuse(format!(
                        "node {node} can only evict pods with spec.nodeName set to itself"
                    ));
                }
                Ok(())
            }
            ("status" | "eviction", _) => {
                refuse(format!("unexpected operation {:?}", operation.as_str()))
            }
            (other, _) => refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    /// Tokens are for pods that run on the node.
    fn token(&self, node: &str, request: &Request<'_>, asked: &Value) -> Result<(), Error> {
        let reference = &asked["spec"]["boundObjectRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let refuse = |message: &str| Err(Error::forbidden(message));
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        let uid = text("uid");
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let stored = self.source.get(Kind::PODS, request.namespace, text("name"));
        let pod = stored.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let pod = pod.ok_or_else(|| Error::NotFound {
            group: String::new(),
            resource: "pods".to_owned(),
            name: text("name").to_owned(),
        })?;
        if pod["metadata"]["uid"] != uid {
            return refuse(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if pod["spec"]["nodeName"] != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }
}

/// A node writes its own Node only, and there neither taints nor labels that choose pods.
fn own_node(node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::forbidden(message));
    if request.name != node {
        return refuse(format!(
            "node {node:?} is not allowed to modify node {:?}",
            request.name
        ));
    }
    let empty = Value::Null;
    let old = request.old.unwrap_or(&empty);
    let source = |node: &Value| node["spec"]["configSource"].clone();
    let forbidden =
        || labels::forbidden(&object["metadata"]["labels"], &old["metadata"]["labels"]).join(", ");
    match request.operation {
        Operation::Create if !source(object).is_null() => refuse(format!(
            "node {node:?} is not allowed to create pods with a non-nil configSource"
        )),
        Operation::Create if !forbidden().is_empty() => refuse(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            forbidden()
        )),
        Operation::Update if !source(object).is_null() && source(object) != source(old) => {
            refuse(format!(
                "node {node:?} is not allowed to update configSource to a new non-nil configSource"
            ))
        }
        Operation::Update if !same_list(&object["spec"]["taints"], &old["spec"]["taints"]) => {
            refuse(format!("node {node:?} is not allowed to modify taints"))
        }
        Operation::Update if !forbidden().is_empty() => {
            refuse(format!("is not allowed to modify labels: {}", forbidden()))
        }
        _ => Ok(()),
    }
}

/// No list is the same as an empty one.
fn same_list(a: &Value, b: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(a) == list(b)
}

fn lease(node: &str, request: &Request<'_>) -> Result<(), Error> {
    if request.namespace != LEASES {
        return Err(Error::forbidden(format!(
            "can only access leases in the {LEASES:?} system namespace"
        )));
    }
    if request.name != node {
        return Err(Error::forbidden(
            "can only access node lease with the same name as the requesting node",
        ));
    }
    Ok(())
}

fn slice(node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
    let its_own =
        |slice: Option<&Value>| slice.is_none_or(|slice| slice["spec"]["nodeName"] == node);
    let refuse = |verb: &str| {
        Err(Error::forbidden(format!(
            "can only {verb} ResourceSlice with the same NodeName as the requesting node"
        )))
    };
    match request.operation {
        Operation::Create if !its_own(Some(object)) => refuse("create"),
        Operation::Delete if !its_own(request.old) => refuse("delete"),
        _ => Ok(()),
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation != Operation::Connect && request.user.as_node().is_some()
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        match request.user.as_node() {
            Some(node) => self.check(node, request, object),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
