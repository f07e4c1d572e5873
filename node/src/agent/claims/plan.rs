//! Which volumes this node has to make or delete, and what they are. Pure.
use std::collections::BTreeMap;
use std::sync::Arc;

use davit_api::Quantity;
use davit_plugins::storage::{CreateRequest, UseMode, Volume};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;

use super::super::volumes::{access_modes, volume_mode};

/// Keeps a volume's object until its data is deleted.
pub(super) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Parameters of a class with this prefix are for the provisioner, not for the driver.
const RESERVED: &str = "csi.storage.k8s.io/";

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Make a volume for the claim.
    Provision {
        claim: Arc<PersistentVolumeClaim>,
        class: Arc<StorageClass>,
    },
    /// Delete a volume that no claim needs any more.
    Delete { volume: Arc<PersistentVolume> },
}

impl Change {
    /// What it is about: one thing at a time is done to each.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Provision { claim, .. } => format!("claim/{}", claim.uid().unwrap_or_default()),
            Self::Delete { volume } => format!("volume/{}", volume.uid().unwrap_or_default()),
        }
    }
}

/// What node `me` has to do.
pub(super) fn plan(
    me: &str,
    claims: &[Arc<PersistentVolumeClaim>],
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> Vec<Change> {
    let mut changes = Vec::new();
    for claim in claims.iter().filter(|claim| asks(me, claim)) {
        let made = volumes
            .iter()
            .any(|volume| volume.name_any() == volume_name(claim));
        let class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref());
        let class = classes
            .iter()
            .find(|other| class == Some(other.name_any().as_str()));
        if let Some(class) = class.filter(|_| !made) {
            changes.push(Change::Provision {
                claim: Arc::clone(claim),
                class: Arc::clone(class),
            });
        }
    }
    changes.extend(
        volumes
            .iter()
            .filter(|volume| is_unneeded(me, volume, claims))
            .cloned()
            .map(|volume| Change::Delete { volume }),
    );
    changes
}

/// Whether the claim waits for a volume from this node.
fn asks(me: &str, claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.annotations();
    let spec = claim.spec.clone().unwrap_or_default();
    annotations.get(SELECTED_NODE).map(String::as_str) == Some(me)
        && PROVISIONER.iter().any(|key| {
            annotations
                .get(*key)
                .is_some_and(|driver| !driver.is_empty())
        })
        && spec.volume_name.as_deref().unwrap_or_default().is_empty()
        && claim.metadata.deletion_timestamp.is_none()
}

/// Whether the volume was made by this node and its claim is gone for good.
fn is_unneeded(me: &str, volume: &PersistentVolume, claims: &[Arc<PersistentVolumeClaim>]) -> bool {
    let spec = volume.spec.clone().unwrap_or_default();
    let ours = volume.annotations().contains_key(PROVISIONED_BY)
        && volume
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == FINALIZER)
        && is_on(&spec, me);
    let claimed = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_ref());
    let held = claims
        .iter()
        .any(|claim| claimed.is_some() && claim.metadata.uid.as_ref() == claimed);
    let phase = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let released = matches!(phase, Some("Released" | "Failed"))
        && spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let deleted = volume.metadata.deletion_timestamp.is_some() && phase != Some("Bound");
    ours && !held && (released || deleted)
}

fn is_on(spec: &PersistentVolumeSpec, me: &str) -> bool {
    let terms = spec
        .node_affinity
        .iter()
        .filter_map(|affinity| affinity.required.as_ref());
    let mut expressions = terms
        .flat_map(|required| &required.node_selector_terms)
        .flat_map(|term| term.match_expressions.iter().flatten());
    expressions.any(|expression| {
        expression.key == HOSTNAME
            && expression
                .values
                .as_ref()
                .is_some_and(|values| values.iter().any(|value| value == me))
    })
}

/// Whether the data goes with the object: not if somebody has chosen to retain it.
pub(super) fn owns_data(volume: &PersistentVolume) -> bool {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        == Some("Delete")
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// What the driver is asked for.
///
/// # Errors
/// The claim's size is no quantity.
pub(super) fn create_request(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    me: &str,
) -> Result<CreateRequest, String> {
    let spec = claim.spec.clone().unwrap_or_default();
    let size = |list: Option<&BTreeMap<String, _>>| match list.and_then(|list| list.get("storage"))
    {
        Some(quantity) => Quantity::try_from(quantity)
            .map(|quantity| Some(quantity.bytes()))
            .map_err(|error| error.to_string()),
        None => Ok(None),
    };
    let resources = spec.resources.clone().unwrap_or_default();
    let here = BTreeMap::from([(HOSTNAME.to_owned(), me.to_owned())]);
    Ok(CreateRequest {
        name: volume_name(claim),
        required_bytes: size(resources.requests.as_ref())?.unwrap_or(0),
        limit_bytes: size(resources.limits.as_ref())?,
        parameters: parameters(class),
        uses: vec![use_mode(&spec, class)],
        requisite: vec![here.clone()],
        preferred: vec![here],
        ..CreateRequest::default()
    })
}

fn parameters(class: &StorageClass) -> BTreeMap<String, String> {
    let all = class.parameters.clone().unwrap_or_default();
    all.into_iter()
        .filter(|(key, _)| !key.starts_with(RESERVED))
        .collect()
}

fn fs_type(class: &StorageClass) -> Option<String> {
    class
        .parameters
        .as_ref()?
        .get("csi.storage.k8s.io/fstype")
        .cloned()
}

fn use_mode(spec: &PersistentVolumeClaimSpec, class: &StorageClass) -> UseMode {
    UseMode {
        mode: volume_mode(spec.volume_mode.as_deref()),
        access: access_modes(spec.access_modes.as_deref().unwrap_or_default()),
        fs_type: fs_type(class).unwrap_or_default(),
        mount_options: class.mount_options.clone().unwrap_or_default(),
    }
}

/// The object of a volume that was made.
pub(super) fn volume_object(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    me: &str,
    volume: &Volume,
) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let requested = spec
        .resources
        .and_then(|resources| resources.requests?.get("storage").cloned());
    let capacity = if volume.capacity_bytes > 0 {
        Some(Quantity::from_bytes(volume.capacity_bytes).into())
    } else {
        requested
    };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(volume_name(claim)),
            annotations: Some(BTreeMap::from([(
                PROVISIONED_BY.to_owned(),
                class.provisioner.clone(),
            )])),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: capacity.map(|capacity| BTreeMap::from([("storage".to_owned(), capacity)])),
            claim_ref: Some(claim_reference(claim)),
            csi: Some(CSIPersistentVolumeSource {
                driver: class.provisioner.clone(),
                volume_handle: volume.id.clone(),
                volume_attributes: (!volume.context.is_empty()).then(|| volume.context.clone()),
                fs_type: fs_type(class),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: class.mount_options.clone(),
            node_affinity: Some(affinity(me)),
            persistent_volume_reclaim_policy: Some(
                class
                    .reclaim_policy
                    .clone()
                    .unwrap_or_else(|| "Delete".to_owned()),
            ),
            storage_class_name: Some(class.name_any()),
            volume_mode: spec.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn claim_reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.namespace(),
        name: Some(claim.name_any()),
        uid: claim.uid(),
        resource_version: claim.resource_version(),
        field_path: None,
    }
}

fn affinity(me: &str) -> VolumeNodeAffinity {
    let here = NodeSelectorRequirement {
        key: HOSTNAME.into(),
        operator: "In".into(),
        values: Some(vec![me.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![here]),
        match_fields: None,
    };
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![term],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(annotations: Value, spec: Value) -> Arc<PersistentVolumeClaim> {
        let metadata =
            json!({ "name": "c", "namespace": "ns", "uid": "1", "annotations": annotations });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn waiting() -> Arc<PersistentVolumeClaim> {
        claim(
            json!({ "volume.kubernetes.io/selected-node": "me", "volume.kubernetes.io/storage-provisioner": "local-path.davit.dev" }),
            json!({
                "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } },
            }),
        )
    }

    fn class() -> Arc<StorageClass> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": "local" }, "provisioner": "local-path.davit.dev",
                "parameters": { "tier": "fast", "csi.storage.k8s.io/fstype": "ext4" },
            }))
            .unwrap(),
        )
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        let text = |change: &Change| match change {
            Change::Provision { claim, .. } => format!("make {}", claim.name_any()),
            Change::Delete { volume } => format!("delete {}", volume.name_any()),
        };
        changes.iter().map(text).collect()
    }

    #[test]
    fn a_claim_is_served_once_by_the_selected_node() {
        assert_eq!(
            texts(&plan("me", &[waiting()], &[], &[class()])),
            ["make c"]
        );
        assert!(plan("other", &[waiting()], &[], &[class()]).is_empty());
        assert!(
            plan("me", &[waiting()], &[], &[]).is_empty(),
            "its class is not known yet"
        );
        let made = Arc::new(volume_object(
            &waiting(),
            &class(),
            "me",
            &Volume::default(),
        ));
        assert!(plan("me", &[waiting()], &[made], &[class()]).is_empty());
        let mut bound = PersistentVolumeClaim::clone(&waiting());
        bound.spec.as_mut().unwrap().volume_name = Some("v".into());
        assert!(plan("me", &[Arc::new(bound)], &[], &[class()]).is_empty());
    }

    #[test]
    fn the_request_and_the_object_follow_claim_and_class() {
        let request = create_request(&waiting(), &class(), "me").unwrap();
        assert_eq!(
            (request.name.as_str(), request.required_bytes),
            ("pvc-1", 1 << 30)
        );
        assert_eq!(
            request.parameters,
            BTreeMap::from([("tier".to_owned(), "fast".to_owned())])
        );
        assert_eq!(request.uses[0].fs_type, "ext4");
        let volume = Volume {
            id: "v-1".into(),
            capacity_bytes: 2 << 30,
            ..Volume::default()
        };
        let object = volume_object(&waiting(), &class(), "me", &volume);
        let spec = object.spec.unwrap();
        assert_eq!(spec.capacity.unwrap()["storage"].0, "2Gi");
        assert_eq!(spec.csi.unwrap().volume_handle, "v-1");
        assert_eq!(
            spec.persistent_volume_reclaim_policy.as_deref(),
            Some("Delete")
        );
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("1"));
    }

    #[test]
    fn a_volume_is_deleted_when_its_claim_is_gone_and_policy_says_so() {
        let volume = |policy: &str, phase: &str, deleted: bool| {
            let mut volume = volume_object(&waiting(), &class(), "me", &Volume::default());
            volume
                .spec
                .as_mut()
                .unwrap()
                .persistent_volume_reclaim_policy = Some(policy.into());
            volume.status = serde_json::from_value(json!({ "phase": phase })).unwrap();
            if deleted {
                volume.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
            }
            Arc::new(volume)
        };
        let cases = [
            ("Delete", "Released", false, true),
            ("Delete", "Bound", false, false),
            ("Retain", "Released", false, false),
            ("Retain", "Released", true, true),
            ("Delete", "Available", true, true),
        ];
        for (policy, phase, deleted, expected) in cases {
            let changes = plan("me", &[], &[volume(policy, phase, deleted)], &[]);
            assert_eq!(!changes.is_empty(), expected, "{policy} {phase} {deleted}");
            assert!(plan("other", &[], &[volume(policy, phase, deleted)], &[]).is_empty());
            assert!(
                plan("me", &[waiting()], &[volume(policy, phase, deleted)], &[]).is_empty(),
                "its claim is there"
            );
        }
        assert!(
            owns_data(&volume("Delete", "Released", false))
                && !owns_data(&volume("Retain", "Released", true))
        );
    }
}
