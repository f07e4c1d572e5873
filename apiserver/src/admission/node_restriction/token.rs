//! Tokens that a node asks for: of the accounts of its pods, and for whom these pods use them.

use serde_json::Value;

use super::read;
use crate::admission::{Error, Request};
use crate::auth::{Attributes, Authorizer, Kind, ObjectSource, ResourceAttributes};

/// The pod that the token is to be bound to, which must run on the node.
///
/// # Errors
/// The token is bound to nothing, to another pod than the one of the name, or to one of another node.
pub(super) fn pod(
    source: &dyn ObjectSource,
    node: &str,
    request: &Request<'_>,
    asked: &Value,
) -> Result<Value, Error> {
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
    let pod = read(source, Kind::PODS, request.namespace, text("name"))?;
    if pod["metadata"]["uid"] != uid {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(pod)
}

/// The token must be for somebody that a volume of the pod names, or that the node was given the right to.
///
/// # Errors
/// More than one audience, or one that nothing of this speaks of.
pub(super) async fn audience(
    source: &dyn ObjectSource,
    authorizer: &Authorizer,
    request: &Request<'_>,
    asked: &Value,
    pod: &Value,
) -> Result<(), Error> {
    let asked = asked["spec"]["audiences"].as_array();
    let audience = match asked.map(Vec::as_slice).unwrap_or_default() {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(Error::forbidden("node may only request 0 or 1 audiences")),
    };
    if has_audience(source, request.namespace, pod, audience) {
        return Ok(());
    }
    let target = ResourceAttributes {
        version: "v1",
        resource: audience,
        namespace: request.namespace,
        name: request.name,
        ..ResourceAttributes::default()
    };
    let attributes = Attributes::resource("request-serviceaccounts-token-audience", target);
    if authorizer
        .authorize(request.user, &attributes)
        .await
        .is_allowed()
    {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        request.user.name
    )))
}

fn has_audience(source: &dyn ObjectSource, namespace: &str, pod: &Value, audience: &str) -> bool {
    items(&pod["spec"]["volumes"]).any(|volume| {
        let mut tokens = items(&volume["projected"]["sources"])
            .map(|source| &source["serviceAccountToken"])
            .filter(|token| !token.is_null());
        let is_asked = |token: &Value| token["audience"].as_str().unwrap_or_default() == audience;
        tokens.any(is_asked)
            || driver(source, namespace, pod, volume)
                .and_then(|driver| read(source, Kind::CSI_DRIVERS, "", &driver).ok())
                .is_some_and(|driver| items(&driver["spec"]["tokenRequests"]).any(is_asked))
    })
}

/// The driver behind a volume of a pod.
fn driver(
    source: &dyn ObjectSource,
    namespace: &str,
    pod: &Value,
    volume: &Value,
) -> Option<String> {
    if let Some(driver) = volume["csi"]["driver"].as_str() {
        return Some(driver.to_owned());
    }
    let claim = match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(name) => name.to_owned(),
        None if !volume["ephemeral"].is_null() => format!(
            "{}-{}",
            pod["metadata"]["name"].as_str()?,
            volume["name"].as_str()?
        ),
        None => return None,
    };
    let claim = read(source, Kind::PERSISTENT_VOLUME_CLAIMS, namespace, &claim).ok()?;
    let volume = claim["spec"]["volumeName"].as_str()?;
    let volume = read(source, Kind::PERSISTENT_VOLUMES, "", volume).ok()?;
    Some(volume["spec"]["csi"]["driver"].as_str()?.to_owned())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
