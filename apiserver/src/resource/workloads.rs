//! Workloads: apps, batch, autoscaling, policy.

use super::cells;
use super::entry::{AS_AUTOSCALER_V2, Entry, Sub};
use super::field::number;

const fn apps(kind: &'static str, plural: &'static str) -> Entry {
    Entry::namespaced("apps", "v1", kind, plural)
}

const SCALABLE: &[Sub] = &[Sub::Scale("spec.selector"), Sub::Status];

pub(super) const ENTRIES: &[Entry] = &[
    apps("ControllerRevision", "controllerrevisions").columns(cells::CONTROLLER_REVISION),
    apps("DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .sub(&[Sub::Status])
        .columns(cells::DAEMON_SET),
    apps("Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .sub(SCALABLE)
        .columns(cells::DEPLOYMENT),
    apps("ReplicaSet", "replicasets")
        .short(&["rs"])
        .in_all()
        .sub(SCALABLE)
        .columns(cells::REPLICA_SET)
        .fields(&[number("status.replicas", "status.replicas")]),
    apps("StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .sub(SCALABLE)
        .columns(cells::STATEFUL_SET),
    Entry::namespaced(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    )
    .short(&["hpa"])
    .in_all()
    .sub(&[Sub::Status])
    .columns(cells::AUTOSCALER),
    Entry::namespaced(
        "autoscaling",
        "v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    )
    .short(&["hpa"])
    .in_all()
    .sub(&[Sub::Status])
    .columns(cells::AUTOSCALER)
    .stored_as(AS_AUTOSCALER_V2),
    Entry::namespaced("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .in_all()
        .sub(&[Sub::Status])
        .columns(cells::CRON_JOB),
    Entry::namespaced("batch", "v1", "Job", "jobs")
        .orphans()
        .in_all()
        .sub(&[Sub::Status])
        .columns(cells::JOB)
        .fields(&[number("status.successful", "status.succeeded")]),
    Entry::namespaced(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    )
    .short(&["pdb"])
    .sub(&[Sub::Status])
    .columns(cells::DISRUPTION_BUDGET),
];
