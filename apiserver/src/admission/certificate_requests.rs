//! Requests for certificates: who made one, who may approve and sign for which signer, and what is never asked for.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Attributes, Authorizer, ResourceAttributes, groups};
use crate::pki::CertificateRequest;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction` of Kubernetes, and the part of its
/// strategy that writes down who asks.
pub(super) struct CertificateRequests {
    authorizer: Arc<Authorizer>,
}

impl CertificateRequests {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }

    /// Whether the user may do this for the signer, by its name or by its domain.
    async fn may(&self, request: &Request<'_>, verb: &str, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or_default();
        for name in [signer, &format!("{domain}/*")] {
            let target = ResourceAttributes {
                group: GROUP,
                version: "*",
                resource: "signers",
                name,
                ..ResourceAttributes::default()
            };
            let attributes = Attributes::resource(verb, target);
            let decision = self.authorizer.authorize(request.user, &attributes).await;
            if decision.is_allowed() {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Plugin for CertificateRequests {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.group == GROUP
            && request.resource == "certificatesigningrequests"
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let user = request.user;
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        for key in ["username", "uid", "groups", "extra"] {
            spec.remove(key);
        }
        spec.insert("username".to_owned(), user.name.clone().into());
        if !user.uid.is_empty() {
            spec.insert("uid".to_owned(), user.uid.clone().into());
        }
        spec.insert("groups".to_owned(), user.groups.clone().into());
        if !user.extra.is_empty() {
            spec.insert("extra".to_owned(), json!(user.extra));
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let old = request.old.unwrap_or(&Value::Null);
        let signer = |object: &Value| {
            object["spec"]["signerName"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        match request.subresource {
            "" if request.operation == Operation::Create => check_subject(&signer(object), object),
            "approval" => {
                let signer = signer(old);
                if self.may(request, "approve", &signer).await {
                    return Ok(());
                }
                Err(Error::forbidden(format!(
                    "user not permitted to approve requests with signerName {signer:?}"
                )))
            }
            "status" => {
                let same = ["certificate", "conditions"]
                    .iter()
                    .all(|field| old["status"].get(field) == object["status"].get(field));
                let signer = signer(old);
                if same || self.may(request, "sign", &signer).await {
                    return Ok(());
                }
                Err(Error::forbidden(format!(
                    "user not permitted to sign requests with signerName {signer:?}"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Nobody becomes an administrator by a client certificate.
fn check_subject(signer: &str, object: &Value) -> Result<(), Error> {
    if signer != CLIENT_SIGNER {
        return Ok(());
    }
    let text = object["spec"]["request"].as_str().unwrap_or_default();
    let refused = |what: String| Err(Error::forbidden(what));
    let pem = STANDARD.decode(text).unwrap_or_default();
    let request = match CertificateRequest::parse(&pem) {
        Ok(request) => request,
        Err(error) => return refused(format!("failed to parse CSR: {error}")),
    };
    let masters = groups::MASTERS;
    if request.organizations.iter().any(|have| have == masters) {
        return refused(format!(
            "use of {CLIENT_SIGNER} signer with {masters} group is not allowed"
        ));
    }
    Ok(())
}
