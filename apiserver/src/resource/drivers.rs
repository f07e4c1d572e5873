//! Storage, and devices claimed by pods.

use super::cells;
use super::entry::{Entry, Sub};
use super::field::text;

const STORAGE: &str = "storage.k8s.io";
const DEVICES: &str = "resource.k8s.io";

pub(super) const ENTRIES: &[Entry] = &[
    Entry::cluster(STORAGE, "v1", "CSIDriver", "csidrivers")
        .returns_deleted()
        .columns(cells::CSI_DRIVER),
    Entry::cluster(STORAGE, "v1", "CSINode", "csinodes")
        .returns_deleted()
        .columns(cells::CSI_NODE),
    Entry::namespaced(STORAGE, "v1", "CSIStorageCapacity", "csistoragecapacities")
        .columns(cells::CSI_CAPACITY),
    Entry::cluster(STORAGE, "v1", "StorageClass", "storageclasses")
        .returns_deleted()
        .short(&["sc"])
        .columns(cells::STORAGE_CLASS),
    Entry::cluster(STORAGE, "v1", "VolumeAttachment", "volumeattachments")
        .returns_deleted()
        .sub(&[Sub::Status])
        .columns(cells::VOLUME_ATTACHMENT),
    Entry::cluster(
        STORAGE,
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
    )
    .returns_deleted()
    .short(&["vac"])
    .columns(cells::VOLUME_ATTRIBUTES_CLASS),
    Entry::cluster(DEVICES, "v1", "DeviceClass", "deviceclasses")
        .returns_deleted()
        .columns(cells::NAME_AGE),
    Entry::cluster(DEVICES, "v1", "DeviceTaintRule", "devicetaintrules")
        .returns_deleted()
        .sub(&[Sub::Status])
        .columns(cells::NAME_AGE),
    Entry::namespaced(DEVICES, "v1", "ResourceClaim", "resourceclaims")
        .returns_deleted()
        .sub(&[Sub::Status])
        .columns(cells::RESOURCE_CLAIM),
    Entry::namespaced(
        DEVICES,
        "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
    )
    .returns_deleted()
    .columns(cells::NAME_AGE),
    Entry::cluster(DEVICES, "v1", "ResourceSlice", "resourceslices")
        .returns_deleted()
        .columns(cells::RESOURCE_SLICE)
        .fields(&[text("spec.nodeName"), text("spec.driver")]),
];
