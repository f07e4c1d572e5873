//! `NodeRestriction`: a node writes its own objects and those of its pods, and nothing that would draw other pods to it.
//!
//! What Kubernetes' plugin of the name checks, and the same for what davit's node writes beyond a kubelet: its volumes
//! (`volume.rs`), its part of networks and its entry in plugins (`networks.rs`).

mod labels;
mod networks;
mod pod;
mod token;
mod volume;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Authorizer, Kind, ObjectSource, users};
use crate::pki::CertificateRequest;

const LEASES: &str = "kube-node-lease";

/// Signers whose certificates make a node.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

pub(super) struct NodeRestriction {
    source: Arc<dyn ObjectSource>,
    authorizer: Arc<Authorizer>,
}

impl NodeRestriction {
    pub(super) fn new(source: Arc<dyn ObjectSource>, authorizer: Arc<Authorizer>) -> Self {
        Self { source, authorizer }
    }

    async fn check(&self, node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let source = &*self.source;
        match (request.group, request.resource) {
            ("", "pods") => self.pod(node, request, object),
            ("", "nodes") => own_node(node, request, object),
            ("", "serviceaccounts")
                if request.subresource == "token" && request.operation == Operation::Create =>
            {
                let pod = token::pod(source, node, request, object)?;
                token::audience(source, &self.authorizer, request, object, &pod).await
            }
            ("", "persistentvolumeclaims") => volume::check_claim(node, request, object),
            ("", "persistentvolumes") => volume::check(source, node, request, object),
            (davit_api::GROUP, "networknodes") => networks::check(source, node, request, object),
            (davit_api::GROUP, "plugins") => networks::check_plugin(node, request, object),
            (davit_api::GROUP, _) => Err(Error::forbidden(format!(
                "node {node:?} may not write {}",
                request.resource
            ))),
            ("certificates.k8s.io", "certificatesigningrequests") => {
                certificate(node, request, object)
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
            |pod: Option<&Value>| pod.is_none_or(|pod| pod["spec"]["nodeName"] != node);
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
                let pod = read(&*self.source, Kind::PODS, request.namespace, request.name)?;
                if not_its_own(Some(&pod)) {
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
}

/// A stored object, which must be there.
fn read(
    source: &dyn ObjectSource,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Value, Error> {
    let stored = source.get(kind, namespace, name);
    let stored = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    stored.ok_or_else(|| Error::NotFound {
        group: kind.group.to_owned(),
        resource: kind.plural.to_owned(),
        name: name.to_owned(),
    })
}

/// The metadata without what every write changes.
fn lasting_metadata(object: &Value) -> Value {
    let mut metadata = object["metadata"].clone();
    if let Some(fields) = metadata.as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            fields.remove(field);
        }
        fields.retain(|_, value| !value.is_null());
    }
    metadata
}

/// A node writes its own Node only, and there neither taints nor owners, nor labels that choose pods. It does not delete it:
/// what comes back would be without what others had put there.
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
    let owners = |node: &Value| node["metadata"]["ownerReferences"].clone();
    match request.operation {
        Operation::Delete => refuse(format!("node {node:?} is not allowed to delete itself")),
        Operation::Create if !same_list(&owners(object), &Value::Null) => refuse(format!(
            "node {node:?} is not allowed to set ownerReferences"
        )),
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
        // The garbage collector would delete the Node for it, and the node make it anew.
        Operation::Update if !same_list(&owners(object), &owners(old)) => refuse(format!(
            "node {node:?} is not allowed to modify ownerReferences"
        )),
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
        |slice: Option<&Value>| slice.is_some_and(|slice| slice["spec"]["nodeName"] == node);
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

/// A node asks for certificates in its own name only.
fn certificate(node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
    let signer = object["spec"]["signerName"].as_str().unwrap_or_default();
    if request.operation != Operation::Create || !NODE_SIGNERS.contains(&signer) {
        return Ok(());
    }
    let text = object["spec"]["request"].as_str().unwrap_or_default();
    let pem = STANDARD.decode(text).unwrap_or_default();
    let asked = CertificateRequest::parse(&pem)
        .map_err(|error| Error::forbidden(format!("unable to parse csr: {error}")))?;
    let own = format!("{}{node}", users::NODE_PREFIX);
    if asked.common_name != own {
        let message = format!("can only create a node CSR with CN={own}");
        return Err(Error::forbidden(message));
    }
    Ok(())
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
            Some(node) => self.check(node, request, object).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
