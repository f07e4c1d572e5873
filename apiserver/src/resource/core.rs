//! Core kinds (`/api/v1`).

use super::cells;
use super::entry::{Entry, Review, Sub};
use super::field::{alias, flag, number, text};
use super::verbs::{Verb, Verbs};
use crate::addresses::Addresses;
use crate::auth::TokenSecrets;

const fn local(kind: &'static str, plural: &'static str) -> Entry {
    Entry::namespaced("", "v1", kind, plural)
}

const fn cluster(kind: &'static str, plural: &'static str) -> Entry {
    Entry::cluster("", "v1", kind, plural)
}

const POD_SUBRESOURCES: &[Sub] = &[
    Sub::Attach,
    Sub::Binding,
    Sub::EphemeralContainers,
    Sub::Eviction,
    Sub::Exec,
    Sub::Log,
    Sub::PortForward,
    Sub::Proxy,
    Sub::Resize,
    Sub::Status,
];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        verbs: Verbs::CREATE,
        review: Some(Review::Binding),
        ..local("Binding", "bindings")
    },
    Entry {
        verbs: Verbs::of(&[Verb::Get, Verb::List]),
        review: Some(Review::Computed),
        ..cluster("ComponentStatus", "componentstatuses")
    }
    .short(&["cs"])
    .columns(cells::COMPONENT_STATUS),
    local("ConfigMap", "configmaps")
        .short(&["cm"])
        .columns(cells::CONFIG_MAP),
    local("Endpoints", "endpoints")
        .short(&["ep"])
        .columns(cells::ENDPOINTS),
    local("Event", "events")
        .short(&["ev"])
        .columns(cells::EVENT)
        .fields(&[
            text("involvedObject.kind"),
            text("involvedObject.namespace"),
            text("involvedObject.name"),
            text("involvedObject.uid"),
            text("involvedObject.apiVersion"),
            text("involvedObject.resourceVersion"),
            text("involvedObject.fieldPath"),
            text("reason"),
            text("reportingComponent"),
            alias("source", "source.component").or("reportingComponent"),
            text("type"),
        ]),
    local("LimitRange", "limitranges").short(&["limits"]),
    cluster("Namespace", "namespaces")
        .short(&["ns"])
        .sub(&[Sub::Finalize, Sub::Status])
        .columns(cells::NAMESPACE)
        .fields(&[text("status.phase")])
        .without(&[Verb::DeleteCollection]),
    cluster("Node", "nodes")
        .short(&["no"])
        .sub(&[Sub::Proxy, Sub::Status])
        .columns(cells::NODE)
        .fields(&[flag("spec.unschedulable")]),
    local("PersistentVolumeClaim", "persistentvolumeclaims")
        .returns_deleted()
        .short(&["pvc"])
        .sub(&[Sub::Status])
        .columns(cells::CLAIM),
    cluster("PersistentVolume", "persistentvolumes")
        .returns_deleted()
        .short(&["pv"])
        .sub(&[Sub::Status])
        .columns(cells::VOLUME),
    local("Pod", "pods")
        .returns_deleted()
        .short(&["po"])
        .in_all()
        .sub(POD_SUBRESOURCES)
        .columns(cells::POD)
        .fields(&[
            text("spec.nodeName"),
            text("spec.restartPolicy"),
            text("spec.schedulerName"),
            text("spec.serviceAccountName"),
            flag("spec.hostNetwork"),
            text("status.phase"),
            text("status.podIP"),
            text("status.nominatedNodeName"),
        ]),
    local("PodTemplate", "podtemplates")
        .returns_deleted()
        .columns(cells::POD_TEMPLATE),
    local("ReplicationController", "replicationcontrollers")
        .orphans()
        .short(&["rc"])
        .in_all()
        .sub(&[Sub::Scale("spec.selector"), Sub::Status])
        .columns(cells::REPLICA_SET)
        .fields(&[number("status.replicas", "status.replicas")]),
    local("ResourceQuota", "resourcequotas")
        .returns_deleted()
        .short(&["quota"])
        .sub(&[Sub::Status])
        .columns(cells::QUOTA),
    local("Secret", "secrets")
        .columns(cells::SECRET)
        .companion(&TokenSecrets)
        .fields(&[text("type")]),
    local("ServiceAccount", "serviceaccounts")
        .returns_deleted()
        .short(&["sa"])
        .sub(&[Sub::Token])
        .columns(cells::SERVICE_ACCOUNT),
    local("Service", "services")
        .returns_deleted()
        .short(&["svc"])
        .in_all()
        .sub(&[Sub::Proxy, Sub::Status])
        .columns(cells::SERVICE)
        .fields(&[text("spec.clusterIP"), text("spec.type")])
        .companion(&Addresses),
];
