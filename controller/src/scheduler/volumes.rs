//! What a pod's claims mean for where it can run.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use crate::caches::Caches;
use crate::ephemeral_volume::{ephemeral_claims_of, is_made_for, not_made_for};
use crate::meta::{Key, is_terminating, value};
use crate::volume::{
    SELECTED_NODE, claims_of, class_of, find_volume, is_bound, is_reachable, volume_of,
    waits_for_consumer,
};

/// A claim of the pod that is not bound yet, of a class that waits for its consumer.
#[derive(Clone, Debug)]
pub(crate) struct Unbound {
    pub(crate) claim: Arc<PersistentVolumeClaim>,
    /// The class makes volumes, if no existing one suits.
    pub(crate) provisions: bool,
    /// The node that was asked already to make the volume.
    pub(crate) selected: Option<String>,
}

/// The storage side of one pod's scheduling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    /// Volumes that the pod's claims are bound to.
    pub(crate) bound: Vec<Arc<PersistentVolume>>,
    pub(crate) unbound: Vec<Unbound>,
    /// Every volume, for claims that may take an existing one.
    pub(crate) volumes: Vec<Arc<PersistentVolume>>,
    /// Why the pod cannot run anywhere for now.
    pub(crate) obstacle: Option<String>,
}

/// Collects the state of the pod's claims from the caches.
pub(crate) fn observe(pod: &Pod, caches: &Caches) -> Storage {
    let namespace = pod.namespace().unwrap_or_default();
    let mut storage = Storage::default();
    let ephemeral: Vec<String> = ephemeral_claims_of(pod).collect();
    for name in claims_of(pod) {
        let is_ephemeral = ephemeral.contains(&name);
        let Some(claim) = caches.claims.get(&Key::new(&namespace, &name)) else {
            storage.obstacle = Some(if is_ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                )
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            });
            continue;
        };
        if is_ephemeral && !is_made_for(&claim, pod) {
            storage.obstacle = Some(not_made_for(&claim, pod));
            continue;
        }
        if is_terminating(&*claim) {
            storage.obstacle = Some(format!("persistentvolumeclaim {name:?} is being deleted"));
            continue;
        }
        if is_bound(&claim) {
            let volume = volume_of(&claim).and_then(|name| caches.volumes.get(&Key::cluster(name)));
            match volume {
                Some(volume) => storage.bound.push(volume),
                None => {
                    storage.obstacle =
                        Some(format!("persistentvolume of claim {name:?} not found"));
                }
            }
            continue;
        }
        let class =
            class_of(&claim).and_then(|name| caches.storage_classes.get(&Key::cluster(name)));
        match class {
            Some(class) if waits_for_consumer(&class) && volume_of(&claim).is_none() => {
                let selected = value(claim.metadata.annotations.as_ref(), SELECTED_NODE);
                storage.unbound.push(Unbound {
                    selected: selected.map(str::to_owned),
                    provisions: class.provisioner != "kubernetes.io/no-provisioner",
                    claim,
                });
            }
            _ => {
                storage.obstacle = Some("pod has unbound immediate PersistentVolumeClaims".into());
            }
        }
    }
    if !storage.unbound.is_empty() {
        storage.volumes = caches.volumes.all();
    }
    storage
}

impl Storage {
    /// The reason that speaks against the node, if any.
    pub(crate) fn check(&self, node: &Node) -> Option<&'static str> {
        if !self.bound.iter().all(|volume| is_reachable(volume, node)) {
            return Some("node(s) didn't match PersistentVolume's node affinity");
        }
        let name = node.name_any();
        let possible = self.unbound.iter().all(|unbound| match &unbound.selected {
            Some(selected) => *selected == name,
            None => {
                unbound.provisions
                    || find_volume(&unbound.claim, &self.volumes, Some(node)).is_some()
            }
        });
        (!possible).then_some("node(s) didn't find available persistent volumes to bind")
    }
}
