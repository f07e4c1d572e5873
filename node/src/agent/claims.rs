//! Volumes of this node: made when a claim asks for one here, deleted when its claim is gone.
//!
//! The protocol is Kubernetes' own for drivers that provision on the node: the claim's annotations name node and driver, the
//! PersistentVolume is made here, and the binder completes the binding.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use davit_plugins::executor::Host;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caches::Cache;
use super::events::Recorder;
use super::volumes::volume_ref;
use crate::pod::backoff::{Backoff, SETUP};
use crate::pod::services::{Severity, chain};

mod plan;

use plan::{Change, FINALIZER, plan};

/// Makes and deletes the volumes of this node.
pub(super) struct Claims {
    pub(super) client: Client,
    pub(super) node: Arc<str>,
    pub(super) host: Arc<Host>,
    pub(super) recorder: Recorder,
    pub(super) claims: Cache<PersistentVolumeClaim>,
    pub(super) volumes: Cache<PersistentVolume>,
    pub(super) classes: Cache<StorageClass>,
    /// Wakes this loop when a driver has come or gone.
    pub(super) drivers: watch::Receiver<u64>,
}

/// What the calls of this loop share.
#[derive(Clone)]
struct Hands {
    client: Client,
    node: Arc<str>,
    host: Arc<Host>,
    recorder: Recorder,
}

impl Claims {
    /// Follows claims and volumes until shutdown; one call at a time for each of them.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let hands = Hands {
            client: self.client.clone(),
            node: Arc::clone(&self.node),
            host: Arc::clone(&self.host),
            recorder: self.recorder.clone(),
        };
        let mut running: FuturesUnordered<BoxFuture<'static, (String, Result<(), String>)>> =
            FuturesUnordered::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut backoffs: HashMap<String, Backoff> = HashMap::new();
        loop {
            let now = Timestamp::now();
            let changes = plan(
                &self.node,
                &self.claims.store.state(),
                &self.volumes.store.state(),
                &self.classes.store.state(),
            );
            let alive: HashSet<String> = changes.iter().map(Change::key).collect();
            backoffs.retain(|key, _| alive.contains(key));
            let mut wake: Option<Timestamp> = None;
            for change in changes {
                let key = change.key();
                if let Some(until) = backoffs
                    .get(&key)
                    .and_then(|backoff| backoff.holds_until(now))
                {
                    wake = Some(wake.map_or(until, |other| other.min(until)));
                } else if busy.insert(key.clone()) {
                    let hands = hands.clone();
                    running.push(Box::pin(async move { (key, hands.act(change).await) }));
                }
            }
            let timer = async {
                match wake {
                    Some(at) => {
                        tokio::time::sleep(
                            at.duration_since(Timestamp::now())
                                .try_into()
                                .unwrap_or_default(),
                        )
                        .await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((key, result)) = running.next() => {
                    busy.remove(&key);
                    match result {
                        // What was done shows in the caches a moment later; until then it would be done again.
                        Ok(()) => backoffs.entry(key).or_default().advance(now, Timestamp::now(), SETUP),
                        Err(error) => {
                            tracing::warn!(key, error, "volume not reconciled");
                            let now = Timestamp::now();
                            backoffs.entry(key).or_default().advance(now, now, SETUP);
                        }
                    }
                }
                Ok(()) = self.claims.changes.changed() => {}
                Ok(()) = self.volumes.changes.changed() => {}
                Ok(()) = self.classes.changes.changed() => {}
                Ok(()) = self.drivers.changed() => backoffs.clear(),
                () = timer => {}
            }
        }
    }
}

impl Hands {
    async fn act(&self, change: Change) -> Result<(), String> {
        match change {
            Change::Provision { claim, class } => self.provision(&claim, &class).await,
            Change::Delete { volume } => self.delete(&volume).await,
        }
    }

    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<(), String> {
        let about = reference(claim, "v1", "PersistentVolumeClaim");
        let driver = &class.provisioner;
        let told = format!(
            "External provisioner is provisioning volume for claim \"{}/{}\"",
            claim.namespace().unwrap_or_default(),
            claim.name_any()
        );
        self.recorder
            .about(about.clone(), Severity::Normal, "Provisioning", told);
        let made = async {
            let request = plan::create_request(claim, class, &self.node)?;
            let volume = self
                .host
                .create_volume(driver, request)
                .await
                .map_err(|error| chain(&error))?;
            let object = plan::volume_object(claim, class, &self.node, &volume);
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            match volumes.create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    Ok(object.name_any())
                }
                other => other
                    .map(|made| made.name_any())
                    .map_err(|error| chain(&error)),
            }
        };
        match made.await {
            Ok(name) => {
                let message = format!("Successfully provisioned volume {name}");
                self.recorder
                    .about(about, Severity::Normal, "ProvisioningSucceeded", message);
                Ok(())
            }
            Err(error) => {
                let class = class.name_any();
                let message =
                    format!("failed to provision volume with StorageClass \"{class}\": {error}");
                self.recorder
                    .about(about, Severity::Warning, "ProvisioningFailed", message);
                Err(error)
            }
        }
    }

    /// The data goes first, then the finalizer, then the object.
    async fn delete(&self, volume: &PersistentVolume) -> Result<(), String> {
        let spec = volume.spec.clone().unwrap_or_default();
        let driver = spec
            .csi
            .as_ref()
            .map(|csi| csi.driver.clone())
            .unwrap_or_default();
        if plan::owns_data(volume)
            && let Err(error) = self.host.delete_volume(&driver, volume_ref(&spec)).await
        {
            let error = chain(&error);
            let about = reference(volume, "v1", "PersistentVolume");
            self.recorder.about(
                about,
                Severity::Warning,
                "VolumeFailedDelete",
                error.clone(),
            );
            return Err(error);
        }
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = volume.name_any();
        let gone = |result: Result<(), kube::Error>| match result {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map_err(|error| chain(&error)),
        };
        let preconditions = Preconditions {
            uid: volume.uid(),
            resource_version: None,
        };
        let params = DeleteParams::default().preconditions(preconditions);
        gone(volumes.delete(&name, &params).await.map(drop))?;
        let finalizers: Vec<&String> = volume
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let patch = json!({ "metadata": { "uid": volume.uid(), "finalizers": finalizers } });
        gone(
            volumes
                .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map(drop),
        )
    }
}

fn reference<K: Resource>(object: &K, api_version: &str, kind: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: object.namespace(),
        name: object.meta().name.clone(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}
