//! What the controller needs to know of a kind that keeps a number of equal pods.

use std::sync::Arc;

use davit_api::LabelSelector;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
};
use kube::Resource;

use crate::caches::Caches;
use crate::informer::{Cached, Informer};

/// A ReplicaSet, or its elder, the ReplicationController.
pub(crate) trait Replicated: Cached + Resource<Scope = NamespaceResourceScope> {
    /// Name in logs.
    const NAME: &'static str;
    /// Name under which the controller writes Events.
    const REPORTER: &'static str;
    /// Whether the status has `terminatingReplicas`.
    const TELLS_TERMINATING: bool;

    fn informer(caches: &Caches) -> &Arc<Informer<Self>>;
    /// Which pods belong to it; the error says what is wrong with the stored selector.
    fn selector(&self) -> Result<LabelSelector, String>;
    fn replicas(&self) -> i32;
    /// Seconds for which a pod must be ready before it counts as available.
    fn min_ready_seconds(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn status(&self) -> Option<ReplicaSetStatus>;
}

impl Replicated for ReplicaSet {
    const NAME: &'static str = "replicaset";
    const REPORTER: &'static str = "replicaset-controller";
    const TELLS_TERMINATING: bool = true;

    fn informer(caches: &Caches) -> &Arc<Informer<Self>> {
        &caches.replica_sets
    }

    fn selector(&self) -> Result<LabelSelector, String> {
        LabelSelector::try_from(&self.spec.selector).map_err(|error| error.to_string())
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        self.status.clone()
    }
}

impl Replicated for ReplicationController {
    const NAME: &'static str = "replicationcontroller";
    const REPORTER: &'static str = "replication-controller";
    const TELLS_TERMINATING: bool = false;

    fn informer(caches: &Caches) -> &Arc<Informer<Self>> {
        &caches.replication_controllers
    }

    fn selector(&self) -> Result<LabelSelector, String> {
        let labels = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let labels = labels
            .filter(|labels| !labels.is_empty())
            .ok_or("an empty selector would match every pod")?;
        LabelSelector::from_map(labels).map_err(|error| error.to_string())
    }

    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        let status = self.status.clone()?;
        let conditions = status.conditions.map(|conditions| {
            let same = |old: ReplicationControllerCondition| ReplicaSetCondition {
                type_: Some(old.type_),
                status: Some(old.status),
                reason: old.reason,
                message: old.message,
                last_transition_time: old.last_transition_time,
            };
            conditions.into_iter().map(same).collect()
        });
        Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions,
        })
    }
}
