//! The cluster itself: leases, node classes, priorities, events, extensions.

use super::cells;
use super::entry::{AS_CORE_EVENT, Entry, Sub};
use super::field::{alias, text};
use crate::crd::Definitions;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::cluster("apiregistration.k8s.io", "v1", "APIService", "apiservices")
        .categories(&["api-extensions"])
        .sub(&[Sub::Status])
        .columns(cells::API_SERVICE)
        .fields(&[text("spec.service.name")]),
    Entry::cluster(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .short(&["crd", "crds"])
    .categories(&["api-extensions"])
    .sub(&[Sub::Status])
    .companion(&Definitions),
    Entry::cluster(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
    )
    .sub(&[Sub::Status]),
    Entry::namespaced("coordination.k8s.io", "v1", "Lease", "leases").columns(cells::LEASE),
    Entry::namespaced("events.k8s.io", "v1", "Event", "events")
        .short(&["ev"])
        .columns(cells::EVENT)
        .stored_as(AS_CORE_EVENT)
        .fields(&[
            alias("regarding.kind", "involvedObject.kind"),
            alias("regarding.namespace", "involvedObject.namespace"),
            alias("regarding.name", "involvedObject.name"),
            alias("regarding.uid", "involvedObject.uid"),
            alias("regarding.apiVersion", "involvedObject.apiVersion"),
            alias(
                "regarding.resourceVersion",
                "involvedObject.resourceVersion",
            ),
            alias("regarding.fieldPath", "involvedObject.fieldPath"),
            alias("reportingController", "reportingComponent"),
            text("reason"),
            text("type"),
        ]),
    Entry::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .columns(cells::RUNTIME_CLASS),
    Entry::cluster(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
    )
    .short(&["pc"])
    .columns(cells::PRIORITY_CLASS),
];
