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
fn reference(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return Some("serviceaccounts".to_owned());
    }
    let volumes: Vec<&Value> = items(&spec["volumes"]).collect();
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
        || volumes.iter().any(|volume| uses_secret(volume));
    if secrets {
        return Some("secrets".to_owned());
    }
    if in_env("configMapRef", "configMapKeyRef") {
        return Some("configmaps".to_owned());
    }
    if items(&spec["resourceClaims"]).next().is_some() {
        return Some("resourceclaims".to_owned());
    }
    volumes.into_iter().find_map(by_volume)
}

/// Volumes that are made without the cluster's help. Whatever else there is or will be may need it.
const OF_THE_NODE: [&str; 5] = ["downwardAPI", "emptyDir", "hostPath", "image", "nfs"];

/// What of the cluster a volume needs.
fn by_volume(volume: &Value) -> Option<String> {
    let sources = volume.as_object().into_iter().flatten();
    let mut sources = sources.filter(|(name, source)| *name != "name" && !source.is_null());
    sources.find_map(|(name, source)| {
        let what = match name.as_str() {
            known if OF_THE_NODE.contains(&known) => return None,
            "projected" => return items(&source["sources"]).find_map(by_projection),
            "configMap" => "configmaps (via configmap volumes)",
            "secret" => "secrets (via secret volumes)",
            "csi" => "csidrivers (via CSI volumes)",
            "glusterfs" => "endpoints (via glusterFS volumes)",
            "persistentVolumeClaim" => "persistentvolumeclaims",
            "ephemeral" => "persistentvolumeclaims (via ephemeral volumes)",
            "azureFile" => "secrets (via azureFile volumes)",
            other => return Some(format!("{other} volumes")),
        };
        Some(what.to_owned())
    })
}

/// What of the cluster a part of a projected volume needs.
fn by_projection(source: &Value) -> Option<String> {
    let kinds = source.as_object().into_iter().flatten();
    let mut kinds = kinds.filter(|(_, kind)| !kind.is_null());
    kinds.find_map(|(name, _)| {
        let what = match name.as_str() {
            "downwardAPI" => return None,
            "configMap" => "configmaps (via projected volumes)",
            "secret" => "secrets (via projected volumes)",
            "serviceAccountToken" => "serviceaccounts (via projected volumes)",
            "clusterTrustBundle" => "clustertrustbundles",
            "podCertificate" => "podcertificates",
            other => return Some(format!("{other} (via projected volumes)")),
        };
        Some(what.to_owned())
    })
}

/// Volumes name secrets themselves or among the settings of their source.
fn uses_secret(volume: &Value) -> bool {
    let sources = volume.as_object().into_iter().flatten();
    let mut sources = sources.filter(|(_, source)| !source.is_null());
    sources.any(|(_, source)| {
        !source["secretRef"].is_null() || !source["nodePublishSecretRef"].is_null()
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
    let extended = |pod: &Value| pod["status"]["extendedResourceClaimStatus"].clone();
    if extended(old) != extended(new) {
        return Err(Error::forbidden(format!(
            "node {node:?} cannot update extended resource claim status"
        )));
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
