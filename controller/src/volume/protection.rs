//! Holds claims and volumes back from deletion while something uses them.

use std::sync::Arc;

use davit_api::named;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::plan::claim_of;
use crate::caches::Caches;
use crate::ephemeral_volume::{ephemeral_claim, volumes_of};
use crate::error::{Error, ignore_not_found};
use crate::meta::{Key, is_terminating, uid};
use crate::queue::Queue;
use crate::replica_set::is_finished;
use crate::runner::{Next, Reconcile, Tasks};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// # Guarantees
/// A claim in use by a pod that has not ended, and a volume bound to a claim, carry the finalizer
/// until that use ends.
struct ClaimProtection {
    client: Client,
    caches: Arc<Caches>,
}

/// As [`ClaimProtection`], for volumes.
struct VolumeProtection {
    client: Client,
    caches: Arc<Caches>,
}

pub(super) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let (claims, volumes) = (Arc::new(Queue::new()), Arc::new(Queue::new()));
    let wake = claims.clone();
    caches
        .claims
        .on_change(move |claim| wake.add(Key::of(claim)));
    let wake = claims.clone();
    caches.pods.on_change(move |pod| {
        let namespace = pod.namespace().unwrap_or_default();
        claims_of(pod).for_each(|name| wake.add(Key::new(&namespace, name)));
    });
    let wake = volumes.clone();
    caches
        .volumes
        .on_change(move |volume| wake.add(Key::of(volume)));
    let reconciler = ClaimProtection {
        client: named(client, crate::MANAGER, "pvc-protection-controller"),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(reconciler), &claims, 2);
    let reconciler = VolumeProtection {
        client: named(client, crate::MANAGER, "pv-protection-controller"),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(reconciler), &volumes, 2);
}

/// Names of the claims that a pod mounts.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = volumes_of(pod).iter();
    volumes.filter_map(|volume| {
        let named = volume.persistent_volume_claim.as_ref();
        ephemeral_claim(pod, volume).or_else(|| Some(named?.claim_name.clone()))
    })
}

/// What the finalizer list should become, or `None` when it is right.
fn plan<K: Resource>(object: &K, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let old = object.finalizers();
    let has = old.iter().any(|own| own == finalizer);
    match (is_terminating(object), has) {
        (false, false) => Some(old.iter().cloned().chain([finalizer.to_owned()]).collect()),
        (true, true) if !in_use => Some(
            old.iter()
                .filter(|own| *own != finalizer)
                .cloned()
                .collect(),
        ),
        _ => None,
    }
}

async fn write<K>(api: &Api<K>, object: &K, finalizers: Vec<String>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let patch = Patch::Merge(json!({"metadata": {"uid": uid(object),
        "resourceVersion": object.resource_version(), "finalizers": finalizers}}));
    ignore_not_found(
        api.patch(&object.name_any(), &PatchParams::default(), &patch)
            .await,
    )
    .map(drop)
    .map_err(Error::api("protect", Key::of(object).to_string()))
}

impl Reconcile for ClaimProtection {
    const NAME: &'static str = "pvc-protection";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.pods.synced().await;
        let Some(claim) = self.caches.claims.get(key) else {
            return Ok(Next::Await);
        };
        let in_use = is_terminating(&*claim)
            && self
                .caches
                .pods
                .in_namespace(&key.namespace)
                .iter()
                .any(|pod| !is_finished(pod) && claims_of(pod).any(|name| name == key.name));
        if let Some(finalizers) = plan(&*claim, CLAIM, in_use) {
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(self.client.clone(), &key.namespace);
            write(&api, &claim, finalizers).await?;
        }
        Ok(Next::Await)
    }
}

impl Reconcile for VolumeProtection {
    const NAME: &'static str = "pv-protection";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.claims.synced().await;
        let Some(volume) = self.caches.volumes.get(key) else {
            return Ok(Next::Await);
        };
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let claimed = claim_of(&volume).and_then(|key| self.caches.claims.get(&key));
        let in_use = phase == Some("Bound")
            || claimed.is_some_and(|claim| {
                super::is_bound(&claim)
                    && claim
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.volume_name.as_ref())
                        == Some(&key.name)
            });
        if let Some(finalizers) = plan(&*volume, VOLUME, in_use) {
            write(
                &Api::<PersistentVolume>::all(self.client.clone()),
                &volume,
                finalizers,
            )
            .await?;
        }
        Ok(Next::Await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(finalizers: &[&str], deleting: bool) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.finalizers = Some(finalizers.iter().map(|own| (*own).to_owned()).collect());
        claim.metadata.deletion_timestamp = deleting.then(crate::meta::now);
        claim
    }

    #[test]
    fn the_finalizer_comes_at_once_and_goes_after_the_last_use() {
        let names = |list: &[&str]| Some(list.iter().map(|own| (*own).to_owned()).collect());
        assert_eq!(
            plan(&claim(&["x"], false), CLAIM, false),
            names(&["x", CLAIM])
        );
        assert_eq!(plan(&claim(&[CLAIM], false), CLAIM, false), None);
        assert_eq!(plan(&claim(&[CLAIM, "x"], true), CLAIM, true), None);
        assert_eq!(
            plan(&claim(&[CLAIM, "x"], true), CLAIM, false),
            names(&["x"])
        );
        assert_eq!(plan(&claim(&["x"], true), CLAIM, false), None);
    }
}
