//! Columns of volumes, their classes and drivers, and claimed devices.

use serde_json::Value;

use super::{NONE, UNSET, items, joined, length, path, text, with};
use crate::table::{Column, at, scalar};

fn modes(value: &Value) -> Value {
    let modes = value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter();
    let short = modes.filter_map(|mode| match mode.as_str()? {
        "ReadWriteOnce" => Some("RWO"),
        "ReadOnlyMany" => Some("ROX"),
        "ReadWriteMany" => Some("RWX"),
        "ReadWriteOncePod" => Some("RWOP"),
        _ => None,
    });
    short.collect::<Vec<_>>().join(",").into()
}

fn or_unset(value: &Value) -> Value {
    if value.is_null() {
        UNSET.into()
    } else {
        scalar(value)
    }
}

/// What a delete in progress does to a phase.
fn phase(object: &Value) -> Value {
    if at(object, "metadata.deletionTimestamp").is_null() {
        text(object, "status.phase").into()
    } else {
        "Terminating".into()
    }
}

/// The class, which old objects carry in an annotation.
fn class(object: &Value) -> Value {
    let annotations = at(object, "metadata.annotations");
    match annotations["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(class) => class.into(),
        None => text(object, "spec.storageClassName").into(),
    }
}

pub(in crate::resource) const CLAIM: &[Column] = &[
    Column::name(),
    with("Status", phase),
    path("Volume", "spec.volumeName"),
    with("Capacity", |o| {
        let bound = !text(o, "spec.volumeName").is_empty();
        if bound {
            scalar(at(o, "status.capacity.storage"))
        } else {
            "".into()
        }
    }),
    with("Access Modes", |o| {
        let bound = !text(o, "spec.volumeName").is_empty();
        if bound {
            modes(at(o, "status.accessModes"))
        } else {
            "".into()
        }
    }),
    with("StorageClass", class),
    with("VolumeAttributesClass", |o| {
        or_unset(at(o, "spec.volumeAttributesClassName"))
    }),
    Column::age(),
    with("VolumeMode", |o| or_unset(at(o, "spec.volumeMode"))).wide(),
];

pub(in crate::resource) const VOLUME: &[Column] = &[
    Column::name(),
    path("Capacity", "spec.capacity.storage"),
    with("Access Modes", |o| modes(at(o, "spec.accessModes"))),
    path("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"),
    with("Status", phase),
    with("Claim", |o| {
        let claim = at(o, "spec.claimRef");
        if claim.is_null() {
            return "".into();
        }
        format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into()
    }),
    with("StorageClass", class),
    with("VolumeAttributesClass", |o| {
        or_unset(at(o, "spec.volumeAttributesClassName"))
    }),
    path("Reason", "status.reason"),
    Column::age(),
    with("VolumeMode", |o| or_unset(at(o, "spec.volumeMode"))).wide(),
];

pub(in crate::resource) const STORAGE_CLASS: &[Column] = &[
    with("Name", |o| {
        let name = text(o, "metadata.name");
        let annotations = at(o, "metadata.annotations");
        let default = annotations["storageclass.kubernetes.io/is-default-class"] == "true"
            || annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true";
        if default {
            format!("{name} (default)").into()
        } else {
            name.into()
        }
    })
    .named(),
    path("Provisioner", "provisioner"),
    with("ReclaimPolicy", |o| match text(o, "reclaimPolicy") {
        "" => "Delete".into(),
        policy => policy.into(),
    }),
    with("VolumeBindingMode", |o| {
        match text(o, "volumeBindingMode") {
            "" => "Immediate".into(),
            mode => mode.into(),
        }
    }),
    with("AllowVolumeExpansion", |o| {
        (o["allowVolumeExpansion"] == true).into()
    }),
    Column::age(),
];

pub(in crate::resource) const VOLUME_ATTACHMENT: &[Column] = &[
    Column::name(),
    path("Attacher", "spec.attacher"),
    path("PV", "spec.source.persistentVolumeName"),
    path("Node", "spec.nodeName"),
    with("Attached", |o| (at(o, "status.attached") == true).into()),
    Column::age(),
];

pub(in crate::resource) const VOLUME_ATTRIBUTES_CLASS: &[Column] = &[
    Column::name(),
    path("DriverName", "driverName"),
    Column::age(),
];

pub(in crate::resource) const CSI_DRIVER: &[Column] = &[
    Column::name(),
    with("AttachRequired", |o| {
        (at(o, "spec.attachRequired") != false).into()
    }),
    with("PodInfoOnMount", |o| {
        (at(o, "spec.podInfoOnMount") == true).into()
    }),
    with("StorageCapacity", |o| {
        (at(o, "spec.storageCapacity") == true).into()
    }),
    with("TokenRequests", |o| {
        match joined(
            items(o, "spec.tokenRequests")
                .iter()
                .map(|r| text(r, "audience")),
        ) {
            Value::String(text) if text == NONE => UNSET.into(),
            audiences => audiences,
        }
    }),
    with("RequiresRepublish", |o| {
        (at(o, "spec.requiresRepublish") == true).into()
    }),
    with("Modes", |o| match items(o, "spec.volumeLifecycleModes") {
        [] => "Persistent".into(),
        modes => joined(modes.iter().filter_map(Value::as_str)),
    }),
    Column::age(),
];

pub(in crate::resource) const CSI_NODE: &[Column] = &[
    Column::name(),
    with("Drivers", |o| length(at(o, "spec.drivers")).into()),
    Column::age(),
];

pub(in crate::resource) const CSI_CAPACITY: &[Column] = &[
    Column::name(),
    path("StorageClassName", "storageClassName"),
    path("Capacity", "capacity"),
    Column::age(),
];

pub(in crate::resource) const RESOURCE_CLAIM: &[Column] = &[
    Column::name(),
    with("State", |o| {
        let mut states = Vec::new();
        if !at(o, "metadata.deletionTimestamp").is_null() {
            states.push("deleted");
        }
        if at(o, "status.allocation").is_null() {
            states.push("pending");
        } else {
            states.push("allocated");
            if !items(o, "status.reservedFor").is_empty() {
                states.push("reserved");
            }
        }
        states.join(",").into()
    }),
    Column::age(),
];

pub(in crate::resource) const RESOURCE_SLICE: &[Column] = &[
    Column::name(),
    with("Node", |o| match text(o, "spec.nodeName") {
        "" => UNSET.into(),
        node => node.into(),
    }),
    path("Driver", "spec.driver"),
    path("Pool", "spec.pool.name"),
    Column::age(),
];
