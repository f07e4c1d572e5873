//! Binds claims to volumes, hands provisioning to the storage driver's node, and guards objects
//! in use.

mod matching;
mod plan;
mod protection;

use std::sync::Arc;

use davit_api::named;
use davit_api::status::merge_patch;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::event::Events;
use crate::meta::{Key, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

pub(crate) use matching::{class_of, find_volume, is_reachable};
pub(crate) use plan::{SELECTED_NODE, is_bound, reference, volume_of, waits_for_consumer};
pub(crate) use protection::claims_of;

const WORKERS: usize = 4;

/// # Guarantees
/// A volume is bound to at most one claim (by UID), and a claim to at most one volume: the
/// volume's `claimRef` is written first, under its resource version, and decides races.
struct Claims {
    client: Client,
    caches: Arc<Caches>,
    events: Events,
}

/// # Guarantees
/// A volume's phase follows its claim; a released volume is never given to another claim.
struct Volumes {
    client: Client,
    caches: Arc<Caches>,
}

pub(crate) fn start(all: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let client = &named(all, crate::MANAGER, "persistent-volume-binder");
    let (claims, volumes) = (Arc::new(Queue::new()), Arc::new(Queue::new()));
    let (wake, wake_volume) = (claims.clone(), volumes.clone());
    caches.claims.on_change(move |claim| {
        wake.add(Key::of(claim));
        if let Some(volume) = plan::volume_of(claim) {
            wake_volume.add(Key::cluster(volume));
        }
    });
    let (wake, wake_volume, known) = (claims.clone(), volumes.clone(), caches.claims.clone());
    caches.volumes.on_change(move |volume| {
        wake_volume.add(Key::of(volume));
        match plan::claim_of(volume) {
            Some(key) => wake.add(key),
            None => known
                .all()
                .iter()
                .filter(|claim| plan::volume_of(claim).is_none())
                .for_each(|claim| wake.add(Key::of(&**claim))),
        }
    });
    let (wake, known) = (claims.clone(), caches.claims.clone());
    caches.storage_classes.on_change(move |class| {
        let name = class.name_any();
        for claim in known
            .all()
            .iter()
            .filter(|claim| class_of(claim) == Some(&name))
        {
            wake.add(Key::of(&**claim));
        }
    });
    let wake = claims.clone();
    caches.nodes.on_change({
        let known = caches.claims.clone();
        move |_| {
            // Immediate claims without a node to be provisioned on.
            known
                .all()
                .iter()
                .filter(|claim| plan::volume_of(claim).is_none())
                .for_each(|claim| wake.add(Key::of(&**claim)));
        }
    });
    let reconciler = Claims {
        client: client.clone(),
        caches: caches.clone(),
        events: Events::new(client, "persistentvolume-controller"),
    };
    tasks.reconcile(Arc::new(reconciler), &claims, WORKERS);
    let reconciler = Volumes {
        client: client.clone(),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(reconciler), &volumes, WORKERS);
    protection::start(all, caches, tasks);
}

impl Reconcile for Claims {
    const NAME: &'static str = "persistentvolume-binder";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.volumes.synced().await;
        self.caches.storage_classes.synced().await;
        let Some(claim) = self.caches.claims.get(key) else {
            return Ok(Next::Await);
        };
        let observed = plan::Observed {
            volumes: self.caches.volumes.all(),
            classes: self.caches.storage_classes.all(),
            nodes: self.caches.nodes.all(),
        };
        for change in plan::plan(&claim, &observed) {
            self.act(&claim, change).await?;
        }
        Ok(Next::Await)
    }
}

impl Claims {
    async fn act(&self, claim: &PersistentVolumeClaim, change: plan::Change) -> Result<(), Error> {
        match change {
            plan::Change::BindVolume(volume) => self.bind_volume(claim, &volume).await,
            plan::Change::BindClaim(volume) => self.bind_claim(claim, &volume).await,
            plan::Change::SetStatus(status) => match merge_patch(claim.status.as_ref(), &*status) {
                Some(changes) => self.patch(claim, json!({"status": changes}), true).await,
                None => Ok(()),
            },
            plan::Change::AskProvisioner { provisioner, node } => {
                let mut annotations = json!({
                    "volume.kubernetes.io/storage-provisioner": provisioner,
                    "volume.beta.kubernetes.io/storage-provisioner": provisioner,
                });
                if let Some(node) = node {
                    annotations[plan::SELECTED_NODE] = json!(node);
                }
                self.patch(
                    claim,
                    json!({"metadata": {"annotations": annotations}}),
                    false,
                )
                .await?;
                let note = format!(
                    "Waiting for a volume to be created either by the external provisioner \
                     '{provisioner}' or manually by the system administrator. If volume creation \
                     is delayed, please verify that the provisioner is running and correctly \
                     registered."
                );
                self.events
                    .normal(claim, "ExternalProvisioning", "Provision", note)
                    .await;
                Ok(())
            }
            plan::Change::Tell { reason, note } => {
                self.events.normal(claim, reason, "Bind", note).await;
                Ok(())
            }
        }
    }

    async fn bind_volume(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), Error> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = volume.name_any();
        let patch = Patch::Merge(json!({
            "metadata": {"uid": uid(volume), "resourceVersion": volume.resource_version(),
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"claimRef": plan::reference(claim)},
        }));
        volumes
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .map(drop)
            .map_err(Error::api("bind volume", name))
    }

    async fn bind_claim(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"annotations": {
                "pv.kubernetes.io/bind-completed": "yes",
                "pv.kubernetes.io/bound-by-controller": "yes",
            }},
            "spec": {"volumeName": volume.name_any()},
        });
        self.patch(claim, patch, false).await
    }

    async fn patch(
        &self,
        claim: &PersistentVolumeClaim,
        mut patch: Value,
        status: bool,
    ) -> Result<(), Error> {
        let key = Key::of(claim);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &key.namespace);
        patch["metadata"]["uid"] = json!(uid(claim));
        let (patch, params) = (Patch::Merge(patch), PatchParams::default());
        let outcome = if status {
            claims.patch_status(&key.name, &params, &patch).await
        } else {
            claims.patch(&key.name, &params, &patch).await
        };
        ignore_not_found(outcome)
            .map(drop)
            .map_err(Error::api("update claim", key.to_string()))
    }
}

impl Reconcile for Volumes {
    const NAME: &'static str = "persistentvolume-phase";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.claims.synced().await;
        let Some(volume) = self.caches.volumes.get(key) else {
            return Ok(Next::Await);
        };
        let claim = plan::claim_of(&volume).and_then(|key| self.caches.claims.get(&key));
        let Some(phase) = plan::volume_phase(&volume, claim.as_deref()) else {
            return Ok(Next::Await);
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"uid": uid(&*volume)}, "status": {
            "phase": phase, "lastPhaseTransitionTime": crate::meta::now()}});
        let patch = Patch::Merge(patch);
        ignore_not_found(
            volumes
                .patch_status(&key.name, &PatchParams::default(), &patch)
                .await,
        )
        .map_err(Error::api("write the phase of volume", key.to_string()))?;
        Ok(Next::Await)
    }
}
