//! Gives every namespace its ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, is_conflict, is_not_found};
use crate::meta::{Key, is_terminating};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 2;
const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";

/// # Guarantees
/// Both objects exist in every namespace that is not being deleted, and the bundle is current.
struct ServiceAccounts {
    client: Client,
    caches: Arc<Caches>,
    root_ca: String,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, root_ca: &str, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches
        .namespaces
        .on_change(move |namespace| wake.add(Key::of(namespace)));
    let wake = queue.clone();
    caches
        .service_accounts
        .on_change(move |account| wake.add(Key::cluster(account.namespace().unwrap_or_default())));
    let wake = queue.clone();
    caches
        .config_maps
        .on_change(move |map| wake.add(Key::cluster(map.namespace().unwrap_or_default())));
    let accounts = ServiceAccounts {
        client: client.clone(),
        caches: caches.clone(),
        root_ca: root_ca.to_owned(),
    };
    tasks.reconcile(Arc::new(accounts), &queue, WORKERS);
}

/// What a namespace lacks.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    CreateAccount,
    CreateBundle,
    UpdateBundle,
}

fn plan(
    account: Option<&ServiceAccount>,
    bundle: Option<&ConfigMap>,
    root_ca: &str,
) -> Vec<Change> {
    let mut changes = Vec::new();
    if account.is_none() {
        changes.push(Change::CreateAccount);
    }
    let current = bundle.map(|map| map.data.as_ref().and_then(|data| data.get(CA_KEY)));
    match current {
        None => changes.push(Change::CreateBundle),
        Some(data) if data.map(String::as_str) != Some(root_ca) => {
            changes.push(Change::UpdateBundle);
        }
        Some(_) => {}
    }
    changes
}

impl Reconcile for ServiceAccounts {
    const NAME: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.service_accounts.synced().await;
        self.caches.config_maps.synced().await;
        let namespace = self.caches.namespaces.get(key);
        if namespace.is_none_or(|namespace| is_terminating(&*namespace)) {
            return Ok(Next::Await);
        }
        let account = self
            .caches
            .service_accounts
            .get(&Key::new(&key.name, "default"));
        let bundle = self.caches.config_maps.get(&Key::new(&key.name, ROOT_CA));
        for change in plan(account.as_deref(), bundle.as_deref(), &self.root_ca) {
            self.act(&key.name, &change).await?;
        }
        Ok(Next::Await)
    }
}

impl ServiceAccounts {
    async fn act(&self, namespace: &str, change: &Change) -> Result<(), Error> {
        let named = |name: &str| ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let data = BTreeMap::from([(CA_KEY.to_owned(), self.root_ca.clone())]);
        let params = PostParams::default();
        let outcome = match change {
            Change::CreateAccount => {
                let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
                let account = ServiceAccount {
                    metadata: named("default"),
                    ..ServiceAccount::default()
                };
                api.create(&params, &account).await.map(drop)
            }
            Change::CreateBundle => {
                let map = ConfigMap {
                    metadata: named(ROOT_CA),
                    data: Some(data),
                    ..Default::default()
                };
                maps.create(&params, &map).await.map(drop)
            }
            Change::UpdateBundle => {
                let patch = Patch::Merge(json!({"data": data}));
                maps.patch(ROOT_CA, &PatchParams::default(), &patch)
                    .await
                    .map(drop)
            }
        };
        match outcome {
            // Already there, or the namespace is on its way out: a later event settles it.
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(()),
            other => other.map_err(Error::api("set up namespace", namespace)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_gets_what_it_lacks() {
        let account = ServiceAccount::default();
        let bundle = |ca: &str| ConfigMap {
            data: Some(BTreeMap::from([(CA_KEY.into(), ca.into())])),
            ..ConfigMap::default()
        };
        assert_eq!(
            plan(None, None, "ca"),
            [Change::CreateAccount, Change::CreateBundle]
        );
        assert_eq!(plan(Some(&account), Some(&bundle("ca")), "ca"), []);
        assert_eq!(
            plan(Some(&account), Some(&bundle("old")), "ca"),
            [Change::UpdateBundle]
        );
        assert_eq!(
            plan(Some(&account), Some(&ConfigMap::default()), "ca"),
            [Change::UpdateBundle]
        );
    }
}
