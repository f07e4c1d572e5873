//! What a claim needs next: a volume, a provisioner, or only its status.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource, ResourceExt};

use super::matching::{class_of, find_volume, is_reserved_for};
use crate::meta::{Key, is_terminating, uid, value};
use crate::node_lifecycle::is_schedulable;

/// Annotation that names the node a volume is to be made on.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// One write, or an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Write the claim into the volume; this decides who gets it.
    BindVolume(Arc<PersistentVolume>),
    /// Write the volume into the claim.
    BindClaim(Arc<PersistentVolume>),
    SetStatus(Box<PersistentVolumeClaimStatus>),
    /// Ask the driver's node to make a volume.
    AskProvisioner {
        provisioner: String,
        node: Option<String>,
    },
    Tell {
        reason: &'static str,
        note: String,
    },
}

/// Everything a claim's plan looks at.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) volumes: Vec<Arc<PersistentVolume>>,
    pub(crate) classes: Vec<Arc<StorageClass>>,
    pub(crate) nodes: Vec<Arc<Node>>,
}

/// Name of the volume that the claim is bound to or asks for.
pub(crate) fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

/// The claim that a volume is bound to or reserved for.
pub(crate) fn claim_of(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(
        reference.namespace.as_deref()?,
        reference.name.as_deref()?,
    ))
}

/// True once both sides of the binding are written and reported.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Bound") && volume_of(claim).is_some()
}

/// What a volume's `claimRef` holds for this claim.
pub(crate) fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.namespace(),
        name: Some(claim.name_any()),
        uid: claim.meta().uid.clone(),
        resource_version: claim.resource_version(),
        field_path: None,
    }
}

/// The plan of one run over a claim.
pub(crate) fn plan(claim: &PersistentVolumeClaim, observed: &Observed) -> Vec<Change> {
    if let Some(name) = volume_of(claim) {
        let volume = observed
            .volumes
            .iter()
            .find(|volume| volume.name_any() == name);
        return follow(claim, volume);
    }
    if is_terminating(claim) {
        return Vec::new();
    }
    let class = class_of(claim).filter(|class| !class.is_empty());
    let class = class.and_then(|name| {
        observed
            .classes
            .iter()
            .find(|class| class.name_any() == name)
            .map(|class| &**class)
    });
    let waits = class.is_some_and(waits_for_consumer);
    let reserved = observed
        .volumes
        .iter()
        .find(|volume| is_reserved_for(volume, claim))
        .cloned();
    let found = match reserved {
        Some(volume) => Some(volume),
        None if waits => None, // The scheduler reserves a volume together with the node.
        None => find_volume(claim, &observed.volumes, None),
    };
    match found {
        Some(volume) => bind(claim, volume),
        None => provision(claim, class, waits, &observed.nodes),
    }
}

/// True for a class whose volumes are made where the first pod runs.
pub(crate) fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

fn bind(claim: &PersistentVolumeClaim, volume: Arc<PersistentVolume>) -> Vec<Change> {
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let ours = reference.is_some_and(|reference| reference.uid.as_deref() == Some(uid(claim)));
    if ours {
        vec![Change::BindClaim(volume)]
    } else {
        // The volume's change wakes the claim, which is bound once the cache shows it.
        vec![Change::BindVolume(volume)]
    }
}

/// The status of a claim that names a volume.
fn follow(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> Vec<Change> {
    let old = claim.status.clone().unwrap_or_default();
    let bound_before = old.phase.as_deref() == Some("Bound");
    let ours = volume.filter(|volume| is_reserved_for(volume, claim));
    let Some(volume) = ours else {
        let free = volume.filter(|volume| {
            volume
                .spec
                .as_ref()
                .is_some_and(|spec| spec.claim_ref.is_none())
        });
        return match free {
            Some(volume) if !bound_before => vec![Change::BindVolume(volume.clone())],
            _ if bound_before => set_phase(&old, "Lost"),
            _ => set_phase(&old, "Pending"),
        };
    };
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    if reference.and_then(|reference| reference.uid.as_deref()) != Some(uid(claim)) {
        return vec![Change::BindVolume(volume.clone())];
    }
    let spec = volume.spec.clone().unwrap_or_default();
    let status = PersistentVolumeClaimStatus {
        phase: Some("Bound".into()),
        access_modes: spec.access_modes,
        capacity: if bound_before {
            old.capacity.clone()
        } else {
            spec.capacity
        },
        ..old.clone()
    };
    let completed = value(
        claim.metadata.annotations.as_ref(),
        "pv.kubernetes.io/bind-completed",
    );
    let mut changes = Vec::new();
    if completed.is_none() {
        changes.push(Change::BindClaim(volume.clone()));
    }
    if status != old {
        changes.push(Change::SetStatus(Box::new(status)));
    }
    changes
}

fn set_phase(old: &PersistentVolumeClaimStatus, phase: &str) -> Vec<Change> {
    if old.phase.as_deref() == Some(phase) {
        return Vec::new();
    }
    vec![Change::SetStatus(Box::new(PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        ..old.clone()
    }))]
}

/// No volume suits: ask for one, or say why that has to wait.
fn provision(
    claim: &PersistentVolumeClaim,
    class: Option<&StorageClass>,
    waits: bool,
    nodes: &[Arc<Node>],
) -> Vec<Change> {
    let mut changes = set_phase(&claim.status.clone().unwrap_or_default(), "Pending");
    let annotations = claim.metadata.annotations.as_ref();
    let selected = value(annotations, SELECTED_NODE).map(str::to_owned);
    let Some(class) = class else {
        let note = match class_of(claim).filter(|name| !name.is_empty()) {
            Some(name) => format!("storageclass.storage.k8s.io {name:?} not found"),
            None => {
                "no persistent volumes available for this claim and no storage class is set".into()
            }
        };
        let reason = if class_of(claim).is_some_and(|name| !name.is_empty()) {
            "ProvisioningFailed"
        } else {
            "FailedBinding"
        };
        changes.push(Change::Tell { reason, note });
        return changes;
    };
    if class.provisioner == "kubernetes.io/no-provisioner" || waits && selected.is_none() {
        let note = if waits {
            "waiting for first consumer to be created before binding".to_owned()
        } else {
            "no volume plugin matched name: kubernetes.io/no-provisioner".to_owned()
        };
        let reason = if waits {
            "WaitForFirstConsumer"
        } else {
            "FailedBinding"
        };
        changes.push(Change::Tell { reason, note });
        return changes;
    }
    let asked = value(annotations, PROVISIONER) == Some(class.provisioner.as_str());
    let node = if waits {
        None
    } else {
        choose_node(claim, class, nodes)
    };
    let missing_node = !waits && selected.is_none() && node.is_some();
    if !asked || missing_node {
        let node = node.filter(|_| selected.is_none());
        changes.push(Change::AskProvisioner {
            provisioner: class.provisioner.clone(),
            node,
        });
    }
    changes
}

/// The node that makes an Immediate volume: spread by the claim's UID over the ready nodes that
/// the class allows, so that no node has to be remembered.
fn choose_node(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    nodes: &[Arc<Node>],
) -> Option<String> {
    let allowed = |node: &Node| {
        let terms = class.allowed_topologies.as_deref().unwrap_or_default();
        terms.is_empty()
            || terms.iter().any(|term| {
                term.match_label_expressions.iter().flatten().all(|row| {
                    node.labels()
                        .get(&row.key)
                        .is_some_and(|value| row.values.contains(value))
                })
            })
    };
    let ready: Vec<&Arc<Node>> = nodes
        .iter()
        .filter(|node| is_schedulable(node) && allowed(node))
        .collect();
    if ready.is_empty() {
        return None;
    }
    let spread = uid(claim).bytes().fold(0usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    ready.get(spread % ready.len()).map(|node| node.name_any())
}

/// The phase a volume should report, or `None` when it does.
pub(crate) fn volume_phase(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> Option<&'static str> {
    let status = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let owner = reference
        .and_then(|reference| reference.uid.as_deref())
        .unwrap_or_default();
    let phase = match (reference, claim) {
        (None, _) => "Available",
        (Some(_), _) if owner.is_empty() => "Available",
        (Some(_), Some(claim)) if uid(claim) == owner => {
            if volume_of(claim) == volume.metadata.name.as_deref() {
                "Bound"
            } else {
                "Available"
            }
        }
        // Failed is the storage driver's own word on the way out.
        (Some(_), _) if status == Some("Failed") => "Failed",
        (Some(_), _) => "Released",
    };
    (status != Some(phase)).then_some(phase)
}

#[cfg(test)]
mod tests;
