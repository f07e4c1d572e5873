//! Volumes that a node makes: for claims that the scheduler gave to it, from the driver of their class, and for itself.
//!
//! A volume binds wherever its claim goes, so one with a path of the host, with the data of another driver or without a node
//! would be a way to other machines and to other people's data.

use serde_json::{Value, json};

use super::{lasting_metadata, read};
use crate::admission::{Error, Operation, Request};
use crate::auth::{Kind, ObjectSource};

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps the object until its data is deleted.
const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// What a volume of a node consists of. Among other fields are the sources that need no driver.
const SPEC: [&str; 10] = [
    "accessModes",
    "capacity",
    "claimRef",
    "csi",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// The rest of this source are secrets.
const CSI: [&str; 5] = [
    "driver",
    "fsType",
    "readOnly",
    "volumeAttributes",
    "volumeHandle",
];

pub(super) fn check(
    source: &dyn ObjectSource,
    node: &str,
    request: &Request<'_>,
    volume: &Value,
) -> Result<(), Error> {
    let flaw = match request.operation {
        _ if !request.subresource.is_empty() => {
            Some("can not write the status of persistentvolumes".to_owned())
        }
        Operation::Create => new_flaw(source, node, volume),
        _ if !request.old.is_some_and(|old| is_made_here(node, old)) => {
            Some("can only change and delete persistentvolumes that it made for itself".to_owned())
        }
        Operation::Update => change_flaw(request.old.unwrap_or(&Value::Null), volume),
        _ => None,
    };
    flaw.map_or(Ok(()), |flaw| {
        Err(Error::forbidden(format!("node {node:?} {flaw}")))
    })
}

/// What is wrong with a volume that a node makes.
fn new_flaw(source: &dyn ObjectSource, node: &str, volume: &Value) -> Option<String> {
    let (metadata, spec) = (&volume["metadata"], &volume["spec"]);
    if let Some(field) = other_than(spec, &SPEC) {
        return Some(format!(
            "can only create persistentvolumes of a CSI driver, without spec.{field}"
        ));
    }
    if let Some(field) = other_than(&spec["csi"], &CSI) {
        return Some(format!(
            "can not create persistentvolumes with spec.csi.{field}"
        ));
    }
    if !is_made_here(node, volume) {
        return Some(format!(
            "can only create persistentvolumes of a CSI driver that it names as {PROVISIONED_BY:?}, and with a \
             spec.nodeAffinity that requires exactly itself"
        ));
    }
    if has_items(&metadata["ownerReferences"]) {
        return Some("can not create persistentvolumes with ownerReferences".to_owned());
    }
    let mut finalizers = items(&metadata["finalizers"]);
    if finalizers.any(|finalizer| finalizer != FINALIZER) {
        return Some(format!(
            "can create persistentvolumes with no other finalizer than {FINALIZER:?}"
        ));
    }
    let reference = &spec["claimRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let claims = Kind::PERSISTENT_VOLUME_CLAIMS;
    let claim = read(source, claims, text("namespace"), text("name")).ok();
    let claim = claim.filter(|claim| {
        let uid = &claim["metadata"]["uid"];
        uid.is_string() && *uid == reference["uid"]
    });
    let Some(claim) = claim else {
        return Some(
            "can only create persistentvolumes for a persistentvolumeclaim that exists, named in spec.claimRef with its \
             uid"
            .to_owned(),
        );
    };
    if claim["metadata"]["annotations"][SELECTED_NODE] != node {
        return Some(format!(
            "can only create persistentvolumes for persistentvolumeclaims with the annotation {SELECTED_NODE:?} set to \
             itself"
        ));
    }
    let bound = &claim["spec"]["volumeName"];
    if bound.as_str().is_some_and(|bound| !bound.is_empty()) && *bound != metadata["name"] {
        return Some(
            "can not create persistentvolumes for persistentvolumeclaims that have one".into(),
        );
    }
    let class = claim["spec"]["storageClassName"]
        .as_str()
        .unwrap_or_default();
    let class_of = read(source, Kind::STORAGE_CLASSES, "", class).ok();
    let provisioner = class_of.map(|class| class["provisioner"].clone());
    if spec["storageClassName"] != class || provisioner.as_ref() != Some(&spec["csi"]["driver"]) {
        return Some(
            "can only create persistentvolumes of the class of their persistentvolumeclaim, with the driver that the \
             class names"
                .to_owned(),
        );
    }
    None
}

/// The node gives up its own finalizer and changes nothing else.
fn change_flaw(old: &Value, new: &Value) -> Option<String> {
    let without = |volume: &Value| {
        let mut metadata = lasting_metadata(volume);
        let mut finalizers: Vec<Value> = items(&metadata["finalizers"]).cloned().collect();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        metadata["finalizers"] = finalizers.into();
        json!([metadata, volume["spec"], volume["status"]])
    };
    let gains = |volume: &Value| items(&volume["metadata"]["finalizers"]).any(|f| f == FINALIZER);
    let same = without(old) == without(new) && (gains(old) || !gains(new));
    (!same).then(|| format!("can only take the finalizer {FINALIZER:?} from its persistentvolumes"))
}

/// Whether a volume is of a driver and bound to this node and no other.
fn is_made_here(node: &str, volume: &Value) -> bool {
    let spec = &volume["spec"];
    let driver = &spec["csi"]["driver"];
    let here = json!([{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
    ]}]);
    driver.is_string()
        && volume["metadata"]["annotations"][PROVISIONED_BY] == *driver
        && spec["nodeAffinity"]["required"]["nodeSelectorTerms"] == here
}

/// A node reports sizes of claims of its pods, and changes nothing else of them.
pub(super) fn check_claim(node: &str, request: &Request<'_>, claim: &Value) -> Result<(), Error> {
    if request.subresource != "status" {
        return Err(Error::forbidden("may only update PVC status"));
    }
    let old = match (request.operation, request.old) {
        (Operation::Update, Some(old)) => old,
        (other, _) => {
            let message = format!("unexpected operation {:?}", other.as_str());
            return Err(Error::forbidden(message));
        }
    };
    let others = |claim: &Value| {
        let mut status = claim["status"].clone();
        if let Some(status) = status.as_object_mut() {
            for field in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                status.remove(field);
            }
        }
        let status = if status.is_null() { json!({}) } else { status };
        json!([lasting_metadata(claim), claim["spec"], status])
    };
    if others(old) != others(claim) {
        return Err(Error::forbidden(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )));
    }
    Ok(())
}

/// A field that is not among these.
fn other_than<'v>(object: &'v Value, known: &[&str]) -> Option<&'v str> {
    let fields = object.as_object().into_iter().flatten();
    let mut fields = fields.filter(|(_, value)| !value.is_null());
    let other = fields.find(|(field, _)| !known.contains(&field.as_str()));
    other.map(|(field, _)| field.as_str())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn has_items(list: &Value) -> bool {
    items(list).next().is_some()
}
