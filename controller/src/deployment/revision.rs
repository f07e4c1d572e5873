//! Revisions of a Deployment: template equality, ReplicaSet names, and history annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use crate::meta::{created, owned_by, value};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(crate) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(crate) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Letters of the hash: no vowels, so that no word appears in a name.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The template with the hash label taken out.
fn bare(template: Option<&PodTemplateSpec>) -> Option<PodTemplateSpec> {
    let mut template = template?.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(TEMPLATE_HASH);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.creation_timestamp = None;
    }
    template.metadata = template
        .metadata
        .filter(|meta| *meta != ObjectMeta::default());
    Some(template)
}

/// True when the ReplicaSet runs the Deployment's present template.
pub(crate) fn same_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let of_set = set.spec.template.as_ref();
    let of_deployment = Some(&deployment.spec.template);
    bare(of_set) == bare(of_deployment)
}

/// The ReplicaSet of the present template: the oldest, should there be several.
pub(crate) fn find_new(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> Option<Arc<ReplicaSet>> {
    let same = sets.iter().filter(|set| same_template(set, deployment));
    same.min_by_key(|set| (created(&***set), set.name_any()))
        .cloned()
}

/// A short name for the template, different after each counted collision.
fn template_hash(deployment: &Deployment) -> String {
    let template = bare(Some(&deployment.spec.template));
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let mut hash = Sha256::new();
    // Serialising plain data into memory cannot fail; an empty text would only hash alike.
    hash.update(serde_json::to_vec(&template).unwrap_or_default());
    if let Some(collisions) = collisions {
        hash.update(collisions.to_be_bytes());
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % 27]))
        .collect()
}

/// The ReplicaSet to create for the present template.
pub(crate) fn new_set(
    deployment: &Deployment,
    replicas: i32,
    annotations: BTreeMap<String, String>,
) -> ReplicaSet {
    let spec = &deployment.spec;
    let hash = template_hash(deployment);
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.into(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owned_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}

/// Number of a ReplicaSet's or Deployment's revision, 0 when it has none.
pub(crate) fn number<K: Resource>(object: &K) -> i64 {
    value(object.meta().annotations.as_ref(), REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// Annotations of the ReplicaSet of the present template: the deployment's own, the revision with
/// its history, and the replica counts that proportional scaling reads.
pub(crate) fn annotations(
    deployment: &Deployment,
    set: Option<&ReplicaSet>,
    revision: i64,
    desired: i32,
    most: i32,
) -> BTreeMap<String, String> {
    let old = set.map(|set| set.annotations().clone()).unwrap_or_default();
    let mut new: BTreeMap<String, String> = deployment
        .annotations()
        .iter()
        .filter(|(key, _)| {
            let own = [
                LAST_APPLIED,
                REVISION,
                REVISION_HISTORY,
                DESIRED_REPLICAS,
                MAX_REPLICAS,
            ];
            !own.contains(&key.as_str())
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let old_revision = set.map_or(0, number);
    let revision = revision.max(old_revision);
    new.insert(REVISION.into(), revision.to_string());
    new.insert(DESIRED_REPLICAS.into(), desired.to_string());
    new.insert(MAX_REPLICAS.into(), most.to_string());
    let history = value(Some(&old), REVISION_HISTORY).unwrap_or_default();
    if old_revision > 0 && old_revision < revision {
        let mut past: Vec<&str> = history.split(',').filter(|past| !past.is_empty()).collect();
        let old_revision = old_revision.to_string();
        past.push(&old_revision);
        new.insert(REVISION_HISTORY.into(), past.join(","));
    } else if !history.is_empty() {
        new.insert(REVISION_HISTORY.into(), history.to_owned());
    }
    new
}

/// True when the object's revision in the store is later than `version`.
pub(crate) fn is_newer<K: Resource>(object: &K, version: Option<&str>) -> bool {
    let parse = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    match (
        parse(object.meta().resource_version.as_deref()),
        parse(version),
    ) {
        (Some(have), Some(want)) => have >= want,
        _ => false,
    }
}
