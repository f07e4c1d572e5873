//! Which existing volume suits a claim.

use std::sync::Arc;

use davit_api::{LabelSelector, Quantity};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use crate::meta::{is_terminating, uid};
use crate::node_selector;

/// The claim's storage class; the empty name means "no class" and is kept apart from absence.
pub(crate) fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

/// Bytes that a quantity map entry asks for; 0 when absent or unreadable.
pub(crate) fn bytes(
    map: Option<
        &std::collections::BTreeMap<
            String,
            k8s_openapi::apimachinery::pkg::api::resource::Quantity,
        >,
    >,
) -> i64 {
    map.and_then(|map| map.get("storage"))
        .and_then(|quantity| quantity.0.parse::<Quantity>().ok())
        .map_or(0, |quantity| quantity.value())
}

fn requested(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    bytes(resources.and_then(|resources| resources.requests.as_ref()))
}

/// True when the volume is set aside for this very claim.
pub(crate) fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.namespace == claim.metadata.namespace
            && reference.name == claim.metadata.name
            && reference
                .uid
                .as_deref()
                .is_none_or(|own| own.is_empty() || own == uid(claim))
    })
}

/// True when the volume has what the claim asks for, leaving aside who it is reserved for.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(have), Some(want)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let have_modes = have.access_modes.as_deref().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let selector = want.selector.as_ref().map(LabelSelector::try_from);
    bytes(have.capacity.as_ref()) >= requested(claim)
        && have.storage_class_name.as_deref().unwrap_or_default()
            == want.storage_class_name.as_deref().unwrap_or_default()
        && mode(&have.volume_mode) == mode(&want.volume_mode)
        && want
            .access_modes
            .iter()
            .flatten()
            .all(|mode| have_modes.contains(mode))
        && match selector {
            None => true,
            Some(Ok(selector)) => selector.matches(volume.labels()),
            Some(Err(_)) => false,
        }
}

/// The volume to bind: one that is reserved for the claim, else the smallest free one that suits
/// and, where a node is given, can be reached from it.
pub(crate) fn find_volume(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref());
    if let Some(reserved) = volumes.iter().find(|volume| is_reserved_for(volume, claim)) {
        return Some(reserved.clone());
    }
    let free = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        spec.is_some_and(|spec| spec.claim_ref.is_none()) && !is_terminating(&***volume)
    };
    let reachable =
        |volume: &&Arc<PersistentVolume>| node.is_none_or(|node| is_reachable(volume, node));
    volumes
        .iter()
        .filter(free)
        .filter(|volume| named.is_none_or(|named| volume.name_any() == named))
        .filter(|volume| suits(volume, claim))
        .filter(reachable)
        .min_by_key(|volume| {
            let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
            (bytes(capacity), volume.name_any())
        })
        .cloned()
}

/// True when the volume's node affinity admits the node.
pub(crate) fn is_reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required.as_ref())
        .is_none_or(|required| node_selector::matches(required, node))
}
