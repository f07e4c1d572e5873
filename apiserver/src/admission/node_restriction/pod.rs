//! Pods that a node makes itself, and what it reports of its pods.

use serde_json::Value;

use crate::admission::Error;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// A node makes mirrors of its own static pods only: bound to it, owned by it, and using nothing of the cluster. `stored` is
/// the Node.
pub(super) fn check_new(node: &str, pod: &Value, stored: Option<&[u8]>) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::forbidden(message));
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return refuse(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return refuse(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    check_owner(node, owners.map(Vec::as_slice).unwrap_or_default(), stored)?;
    match reference(pod) {
        Some(what) => refuse(format!(
            "node {node:?} can not create pods that reference {what}"
        )),
        None => Ok(()),
    }
}

fn check_owner(node: &str, owners: &[Value], stored: Option<&[u8]>) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::forbidden(format!("node {node:?} {what}")));
    let owner = match owners {
        [owner] => owner,
        [] => return refuse("can only create pods with an owner reference set to itself"),
        _ => return refuse("can only create pods with a single owner reference set to itself"),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return refuse("can only create pods with an owner reference set to itself");
    }
    if owner["controller"] != true {
        return refuse("can only create pods with a controller owner reference set to itself");
    }
    if owner["blockOwnerDeletion"] == true {
        return refuse("must not set blockOwnerDeletion on an owner reference");
    }
    let stored = stored.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let stored = stored.ok_or_else(|| Error::NotFound {
        group: String::new(),
        resource: "nodes".to_owned(),
        name: node.to_owned(),
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (expected, got) = (text(&stored["metadata"]["uid"]), text(&owner["uid"]));
    if expected != got {
        let message = format!("node {node} UID mismatch: expected {expected} got {got}");
        return Err(Error::forbidden(message));
    }
    Ok(())
}

/// What of the cluster a pod refers to, in the order in which it is looked for.
fn reference(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return Some("a service account");
    }
    let volumes: Vec<&Value> = items(&spec["volumes"]).collect();
    let projected = || {
        volumes
            .iter()
            .flat_map(|volume| items(&volume["projected"]["sources"]))
    };
    let in_env = |from: &str, key: &str| {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let mut containers = lists.iter().flat_map(|list| items(&spec[list]));
        containers.any(|container| {
            items(&container["envFrom"]).any(|source| !source[from].is_null())
                || items(&container["env"]).any(|env| !env["valueFrom"][key].is_null())
        })
    };
    let secrets = items(&spec["imagePullSecrets"]).next().is_some()
        || in_env("secretRef", "secretKeyRef")
        || projected().any(|source| !source["secret"].is_null())
        || volumes.iter().any(|volume| uses_secret(volume));
    if secrets {
        return Some("secrets");
    }
    let config_maps = in_env("configMapRef", "configMapKeyRef")
        || projected().any(|source| !source["configMap"].is_null())
        || volumes.iter().any(|volume| !volume["configMap"].is_null());
    if config_maps {
        return Some("configmaps");
    }
    if projected().any(|source| !source["clusterTrustBundle"].is_null()) {
        return Some("clustertrustbundles");
    }
    let claims = volumes
        .iter()
        .any(|volume| !volume["persistentVolumeClaim"].is_null());
    claims.then_some("persistentvolumeclaims")
}

/// Volumes name secrets themselves or among the settings of their source.
fn uses_secret(volume: &Value) -> bool {
    let sources = volume.as_object().into_iter().flatten();
    let mut sources = sources.filter(|(_, source)| !source.is_null());
    sources.any(|(name, source)| {
        matches!(name.as_str(), "secret" | "azureFile")
            || !source["secretRef"].is_null()
            || !source["nodePublishSecretRef"].is_null()
    })
}

/// A report changes neither labels nor the claims made for the pod.
pub(super) fn check_status(node: &str, old: Option<&Value>, new: &Value) -> Result<(), Error> {
    let Some(old) = old else {
        return Ok(());
    };
    let labels = |pod: &Value| {
        pod["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    if labels(old) != labels(new) {
        return Err(Error::forbidden(format!(
            "node {node:?} cannot update labels through pod status"
        )));
    }
    let claims = |pod: &Value| {
        let statuses = pod["status"]["resourceClaimStatuses"].as_array();
        statuses.cloned().unwrap_or_default()
    };
    if claims(old) != claims(new) {
        return Err(Error::forbidden(format!(
            "node {node:?} cannot update resource claim statues"
        )));
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
