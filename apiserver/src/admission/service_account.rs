//! `ServiceAccount`: every pod runs as a service account of its namespace and finds its token in a file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};
use crate::pending;

/// Where containers find token, CA certificate and namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Lifetime of the token in the volume; the node renews it before.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod waits for an account that is about to be made, as the default one of a new namespace.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(1);
/// Characters of generated names: no vowels, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(super) struct ServiceAccount {
    source: Arc<dyn ObjectSource>,
    patience: Duration,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<Value>,
}

impl ServiceAccount {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self {
            source,
            patience: ACCOUNT_PATIENCE,
        }
    }

    /// The account, waiting a moment for it to appear.
    async fn account(&self, namespace: &str, name: &str) -> Result<Account, Error> {
        let missing = self
            .source
            .get(Kind::SERVICE_ACCOUNTS, namespace, name)
            .is_none();
        if missing && name == "default" && pending::makes_namespace(namespace) {
            // It follows the namespace as soon as that is written, with nothing in it.
            return Ok(Account::default());
        }
        let find = async {
            loop {
                let version = self.source.version(Kind::SERVICE_ACCOUNTS);
                if let Some(found) = self.source.get(Kind::SERVICE_ACCOUNTS, namespace, name) {
                    return found;
                }
                self.source.changed(Kind::SERVICE_ACCOUNTS, version).await;
            }
        };
        let failed = |why: String| {
            Error::forbidden(format!(
                "error looking up service account {namespace}/{name}: {why}"
            ))
        };
        let found = tokio::time::timeout(self.patience, find)
            .await
            .map_err(|_| failed(format!("serviceaccount {name:?} not found")))?;
        serde_json::from_slice(&found).map_err(|error| failed(error.to_string()))
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("", "pods")
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        if pod["metadata"]["annotations"].get(MIRROR).is_some() {
            return check_mirror_pod(pod);
        }
        let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
            return Ok(());
        };
        let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
            None | Some("") => "default".to_owned(),
            Some(name) => name.to_owned(),
        };
        let account = self.account(request.namespace, &name).await?;
        spec["serviceAccountName"] = name.as_str().into();
        spec["serviceAccount"] = name.into();
        let automount = spec
            .get("automountServiceAccountToken")
            .and_then(Value::as_bool);
        if automount
            .or(account.automount_service_account_token)
            .unwrap_or(true)
        {
            mount_token(spec);
        }
        if is_empty_list(spec.get("imagePullSecrets")) && !account.image_pull_secrets.is_empty() {
            spec["imagePullSecrets"] = account.image_pull_secrets.into();
        }
        Ok(())
    }
}

/// A mirror pod shows what a node runs by itself; it has no identity.
fn check_mirror_pod(pod: &Value) -> Result<(), Error> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return Err(Error::forbidden(
            "a mirror pod may not reference service accounts",
        ));
    }
    let volumes = spec["volumes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let has_token = volumes
        .iter()
        .any(|volume| token_sources(volume).next().is_some());
    if has_token {
        return Err(Error::forbidden(
            "a mirror pod may not use ServiceAccountToken volume projections",
        ));
    }
    Ok(())
}

/// Gives every container the token, unless it mounts something of its own there.
fn mount_token(spec: &mut Value) {
    let volumes = spec["volumes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let taken: Vec<&str> = volumes
        .iter()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    // A pod that comes from a copy of another one keeps the volume it brings.
    let brought = taken
        .iter()
        .zip(volumes)
        .find(|(name, volume)| {
            name.starts_with(VOLUME_PREFIX) && token_sources(volume).next().is_some()
        })
        .map(|(name, _)| (*name).to_owned());
    let is_new = brought.is_none();
    let name = brought.unwrap_or_else(|| fresh_name(&taken));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            used |= add_mount(container, &name);
        }
    }
    if used && is_new {
        push(spec, "volumes", token_volume(&name));
    }
}

/// Mounts the volume unless the mount path is taken; whether it did.
fn add_mount(container: &mut Value, volume: &str) -> bool {
    let mounts = container["volumeMounts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if !container.is_object() || mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return false;
    }
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    push(container, "volumeMounts", mount);
    true
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

fn token_sources(volume: &Value) -> impl Iterator<Item = &Value> {
    let sources = volume["projected"]["sources"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    sources
        .iter()
        .filter(|source| source.get("serviceAccountToken").is_some())
}

fn fresh_name(taken: &[&str]) -> String {
    loop {
        let suffix: String = (0..5)
            .filter_map(|_| ALPHABET.get(usize::from(rand::random::<u16>()) % ALPHABET.len()))
            .map(|&byte| char::from(byte))
            .collect();
        let name = format!("{VOLUME_PREFIX}{suffix}");
        if !taken.contains(&name.as_str()) {
            return name;
        }
    }
}

fn push(owner: &mut Value, list: &str, item: Value) {
    match owner.get_mut(list).and_then(Value::as_array_mut) {
        Some(items) => items.push(item),
        None => owner[list] = json!([item]),
    }
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;
    use crate::auth::memory::Memory;

    fn account(name: &str, more: Value) -> (Kind, Value) {
        let mut account = json!({"metadata": {"namespace": "a", "name": name}});
        account
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        (Kind::SERVICE_ACCOUNTS, account)
    }

    async fn admit(more: Value, spec: Value) -> Result<Value, Error> {
        let source = Memory::with([account("default", more), account("web", json!({}))]);
        let pod = json!({"metadata": {}, "spec": spec});
        create(&ServiceAccount::new(source), "pods", pod)
            .await
            .map(|mut pod| pod["spec"].take())
    }

    #[tokio::test]
    async fn a_pod_gets_account_token_and_pull_secrets() {
        let pull = json!({"imagePullSecrets": [{"name": "pull"}]});
        let own = json!({"name": "own", "mountPath": MOUNT_PATH});
        let spec = json!({
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [own]}],
            "initContainers": [{"name": "i"}],
        });
        let spec = admit(pull, spec).await.unwrap();
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        let volume = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5);
        let mount = json!([{"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"], json!([own]));
    }

    #[tokio::test]
    async fn the_pod_has_the_last_word_on_mounting() {
        let cases = [
            (
                json!({}),
                json!({"automountServiceAccountToken": false}),
                false,
            ),
            (
                json!({"automountServiceAccountToken": false}),
                json!({}),
                false,
            ),
            (
                json!({"automountServiceAccountToken": false}),
                json!({"automountServiceAccountToken": true}),
                true,
            ),
        ];
        for (account, mut spec, mounted) in cases {
            spec["containers"] = json!([{"name": "a"}]);
            let spec = admit(account.clone(), spec).await.unwrap();
            assert_eq!(spec.get("volumes").is_some(), mounted, "{account} {spec}");
        }
    }

    #[tokio::test]
    async fn a_volume_that_was_brought_along_is_used() {
        let volume = token_volume("kube-api-access-zzzzz");
        let spec = json!({"volumes": [volume], "containers": [{"name": "a"}]});
        let spec = admit(json!({}), spec).await.unwrap();
        assert_eq!(spec["volumes"], json!([volume]));
        assert_eq!(
            spec["containers"][0]["volumeMounts"][0]["name"],
            "kube-api-access-zzzzz"
        );
    }

    #[tokio::test]
    async fn a_missing_account_is_awaited_then_refused() {
        let spec = json!({"serviceAccountName": "gone", "containers": []});
        let pod = json!({"metadata": {}, "spec": spec});
        let impatient = ServiceAccount {
            source: Memory::with([]),
            patience: Duration::from_millis(10),
        };
        let error = create(&impatient, "pods", pod)
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "error looking up service account a/gone: serviceaccount \"gone\" not found"
        );
        let source = Memory::with([]);
        let plugin = ServiceAccount::new(source.clone());
        let pod = json!({"metadata": {}, "spec": {"containers": []}});
        let appear = async {
            tokio::task::yield_now().await;
            let (kind, account) = account("default", json!({}));
            source.put(kind, &account);
        };
        let (admitted, ()) = tokio::join!(create(&plugin, "pods", pod), appear);
        assert!(admitted.is_ok());
    }

    #[tokio::test]
    async fn mirror_pods_have_no_account() {
        let plugin = ServiceAccount::new(Memory::with([]));
        let pod = |spec: Value| json!({"metadata": {"annotations": {MIRROR: "x"}}, "spec": spec});
        assert!(create(&plugin, "pods", pod(json!({}))).await.is_ok());
        for spec in [
            json!({"serviceAccountName": "x"}),
            json!({"volumes": [token_volume("t")]}),
        ] {
            assert!(create(&plugin, "pods", pod(spec)).await.is_err());
        }
    }
}
