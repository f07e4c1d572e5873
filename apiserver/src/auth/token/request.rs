//! The `token` subresource of service accounts.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::issuer::{Claims, Kubernetes, Reference, TokenIssuer};
use crate::auth::{Error, Kind, ObjectSource};

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
/// The longest life of a token.
pub(super) const MOST_SECONDS: i64 = 1 << 32;

/// Answers `POST …/serviceaccounts/<name>/token`: the request with `status.token` filled in.
///
/// `default_audiences` go into a token that asks for none. A pod or Secret the token is to be bound to
/// must exist, and a pod must run as this account.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Conflict`], [`Error::BadRequest`] and [`Error::Invalid`], as Kubernetes
/// answers them.
pub fn request_token(
    issuer: &TokenIssuer,
    source: &dyn ObjectSource,
    default_audiences: &[String],
    namespace: &str,
    name: &str,
    body: Value,
) -> Result<Value, Error> {
    let mut request: TokenRequest =
        serde_json::from_value(body).map_err(|error| Error::BadRequest {
            message: error.to_string(),
        })?;
    let account = find(source, Kind::SERVICE_ACCOUNTS, namespace, name)?;
    let spec = request.spec.get_or_insert_default();
    let audiences = spec.audiences.get_or_insert_default();
    if audiences.is_empty() {
        audiences.extend_from_slice(default_audiences);
    }
    let audiences = audiences.clone();
    let seconds = *spec.expiration_seconds.get_or_insert(DEFAULT_SECONDS);
    check_seconds(name, seconds)?;
    let binding = Binding::resolve(source, namespace, name, spec)?;
    let now = issuer.clock.timestamp();
    let expires = now
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(|error| Error::Internal {
            message: error.to_string(),
        })?;
    let bound_to = Kubernetes {
        namespace: namespace.to_owned(),
        serviceaccount: Reference {
            name: name.to_owned(),
            uid: account.metadata.uid,
        },
        pod: binding.pod,
        secret: binding.secret,
        node: binding.node,
    };
    let (made, end) = (now.as_second(), expires.as_second());
    let claims = Claims::new(issuer, audiences, made, end, bound_to);
    let token = issuer.sign(&claims).map_err(|error| Error::Internal {
        message: format!("cannot sign a token: {error}"),
    })?;
    answer(request, namespace, name, &token, now, expires)
}

fn answer(
    mut request: TokenRequest,
    namespace: &str,
    name: &str,
    token: &str,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Value, Error> {
    request.metadata.name = Some(name.to_owned());
    request.metadata.namespace = Some(namespace.to_owned());
    request.metadata.creation_timestamp = Some(Time(now));
    request.status = None;
    let mut value = serde_json::to_value(&request).map_err(|error| Error::Internal {
        message: error.to_string(),
    })?;
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    value["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(value)
}

fn check_seconds(name: &str, seconds: i64) -> Result<(), Error> {
    let wrong = |what: &str| {
        Err(Error::Invalid {
            kind: "TokenRequest",
            name: name.to_owned(),
            field: "spec.expirationSeconds".into(),
            detail: format!("Invalid value: {seconds}: may not specify a duration {what}"),
        })
    };
    match seconds {
        ..LEAST_SECONDS => wrong("less than 10 minutes"),
        LEAST_SECONDS..=MOST_SECONDS => Ok(()),
        _ => wrong("larger than 2^32 seconds"),
    }
}

/// What a token is tied to.
#[derive(Default)]
struct Binding {
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

impl Binding {
    fn resolve(
        source: &dyn ObjectSource,
        namespace: &str,
        account: &str,
        spec: &TokenRequestSpec,
    ) -> Result<Self, Error> {
        let Some(wanted) = &spec.bound_object_ref else {
            return Ok(Self::default());
        };
        let kind = wanted.kind.as_deref().unwrap_or_default();
        let version = wanted.api_version.as_deref().unwrap_or_default();
        let mut binding = Self::default();
        match (version, kind) {
            ("v1", "Pod") => {
                let (pod, reference) = bind(source, Kind::PODS, namespace, wanted)?;
                if pod.spec.service_account_name != account {
                    return Err(Error::BadRequest {
                        message: format!(
                            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                        ),
                    });
                }
                binding.pod = Some(reference);
                binding.node = node_of(source, &pod.spec.node_name);
            }
            ("v1", "Secret") => {
                binding.secret = Some(bind(source, Kind::SECRETS, namespace, wanted)?.1);
            }
            ("v1", "Node") => binding.node = Some(bind(source, Kind::NODES, "", wanted)?.1),
            _ => {
                return Err(Error::BadRequest {
                    message: format!("cannot bind token to object of type {version}, Kind={kind}"),
                });
            }
        }
        Ok(binding)
    }
}

fn bind(
    source: &dyn ObjectSource,
    kind: Kind,
    namespace: &str,
    wanted: &BoundObjectReference,
) -> Result<(Found, Reference), Error> {
    let name = wanted.name.clone().unwrap_or_default();
    let found = find(source, kind, namespace, &name)?;
    let uid = found.metadata.uid.clone();
    match wanted.uid.as_deref() {
        Some(expected) if !expected.is_empty() && expected != uid => Err(Error::Conflict {
            group: kind.group.to_owned(),
            resource: kind.plural.to_owned(),
            message: format!(
                "the UID in the bound object reference ({expected}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
            name,
        }),
        _ => Ok((found, Reference { name, uid })),
    }
}

fn node_of(source: &dyn ObjectSource, name: &str) -> Option<Reference> {
    let node = find(source, Kind::NODES, "", name).ok()?;
    Some(Reference {
        name: name.to_owned(),
        uid: node.metadata.uid,
    })
}

/// As much of an object as token requests need.
#[derive(Deserialize)]
struct Found {
    metadata: FoundMeta,
    #[serde(default)]
    spec: FoundSpec,
}

#[derive(Deserialize)]
struct FoundMeta {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FoundSpec {
    service_account_name: String,
    node_name: String,
}

/// The UID of an account, if there is one of this name.
pub(super) fn account_uid(
    source: &dyn ObjectSource,
    namespace: &str,
    name: &str,
) -> Option<String> {
    let found = find(source, Kind::SERVICE_ACCOUNTS, namespace, name).ok()?;
    Some(found.metadata.uid)
}

fn find(
    source: &dyn ObjectSource,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Found, Error> {
    let object = source
        .get(kind, namespace, name)
        .ok_or_else(|| Error::NotFound {
            group: kind.group.to_owned(),
            resource: kind.plural.to_owned(),
            name: name.to_owned(),
        })?;
    serde_json::from_slice(&object).map_err(|error| Error::Internal {
        message: format!("{} {name}: {error}", kind.plural),
    })
}
