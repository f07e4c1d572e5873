//! Secrets of type `kubernetes.io/service-account-token`: tokens that last as long as their Secret.
//!
//! Where Kubernetes' controller fills such a Secret in some time later, or deletes it if the account does not exist, it is
//! stored complete here, or stays empty until it is written again. Its owner is the account, so it goes with it.

use serde_json::{Map, Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::issuer::{Claims, Kubernetes, Reference, TokenIssuer};
use super::request::{MOST_SECONDS, account_uid};
use crate::ApiServer;
use crate::auth::ObjectSource;
use crate::error::StatusError;
use crate::resource::Companion;
use crate::storage::Txn;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// See the module's first lines.
#[derive(Debug)]
pub(crate) struct TokenSecrets;

impl Companion for TokenSecrets {
    fn plan(
        &self,
        server: &ApiServer,
        _old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        if let Some(secret) = new.filter(|secret| secret["type"] == TYPE) {
            let authenticator = &server.authenticator;
            let account = account_of(&*server.cache, secret);
            if let Some((name, uid)) = account {
                let issuer = authenticator.token_issuer();
                let ca = server.authority.ca_pem();
                fill(issuer, authenticator.audiences(), &ca, &name, &uid, secret)
                    .map_err(StatusError::internal)?;
            }
        }
        Ok(Txn::default())
    }
}

/// Name and UID of the account that the Secret names, if it is there.
fn account_of(source: &dyn ObjectSource, secret: &Value) -> Option<(String, String)> {
    let metadata = &secret["metadata"];
    let name = metadata["annotations"][NAME].as_str()?;
    let namespace = metadata["namespace"].as_str()?;
    Some((name.to_owned(), account_uid(source, namespace, name)?))
}

/// Puts what is missing into the Secret.
fn fill(
    issuer: &TokenIssuer,
    audiences: &[String],
    ca: &str,
    account: &str,
    uid: &str,
    secret: &mut Value,
) -> Result<(), jsonwebtoken::errors::Error> {
    let metadata = &secret["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let (name, namespace, own_uid) = (text("name"), text("namespace"), text("uid"));
    if metadata["annotations"][UID]
        .as_str()
        .is_some_and(|have| have != uid)
    {
        // The account was made again: the token of the old one is void.
        secret["data"] = Map::new().into();
    }
    secret["metadata"]["annotations"][UID] = uid.into();
    own(&mut secret["metadata"]["ownerReferences"], account, uid);
    if !secret["data"].is_object() {
        secret["data"] = Map::new().into();
    }
    let data = &mut secret["data"];
    if data["token"].as_str().is_none_or(str::is_empty) {
        let now = issuer.clock.timestamp().as_second();
        let bound_to = Kubernetes {
            namespace: namespace.clone(),
            serviceaccount: Reference {
                name: account.to_owned(),
                uid: uid.to_owned(),
            },
            pod: None,
            secret: Some(Reference { name, uid: own_uid }),
            node: None,
        };
        let (audiences, end) = (audiences.to_vec(), now + MOST_SECONDS);
        let claims = Claims::new(issuer, audiences, now, end, bound_to);
        data["token"] = STANDARD.encode(issuer.sign(&claims)?).into();
    }
    for (key, value) in [("namespace", &*namespace), ("ca.crt", ca)] {
        if data[key].as_str().is_none_or(str::is_empty) {
            data[key] = STANDARD.encode(value).into();
        }
    }
    Ok(())
}

/// Makes the account an owner, in place of an earlier one of its name.
fn own(owners: &mut Value, account: &str, uid: &str) {
    let mut list = owners.as_array().cloned().unwrap_or_default();
    list.retain(|owner| owner["kind"] != "ServiceAccount" || owner["name"] != account);
    list.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "name": account, "uid": uid}));
    *owners = list.into();
}
