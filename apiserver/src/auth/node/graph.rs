//! Which objects the pods of each node use.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth::snapshot::Snapshot;
use crate::auth::{Kind, ObjectSource};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Kinds of objects a pod can use; the pod itself is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Uses {
    Pod,
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    ResourceClaim,
}

/// What pods use, by node.
#[derive(Default)]
pub(super) struct Graph {
    pods: Snapshot<Pod>,
    nodes: HashMap<String, HashSet<(Uses, String, String)>>,
}

impl Graph {
    pub(super) fn is_current(&self, source: &dyn ObjectSource) -> bool {
        self.pods.is_current(Kind::PODS, source)
    }

    pub(super) fn refresh(&self, kind: Kind, source: &dyn ObjectSource) -> Self {
        let pods = self.pods.refresh(kind, source);
        let mut nodes: HashMap<String, HashSet<_>> = HashMap::new();
        for pod in pods.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
            let used = nodes.entry(pod.spec.node_name.clone()).or_default();
            let namespace = &pod.metadata.namespace;
            let uses = pod.uses().into_iter();
            used.extend(uses.map(|(uses, name)| (uses, namespace.clone(), name)));
        }
        Self { pods, nodes }
    }

    /// Whether a pod on `node` uses the object.
    pub(super) fn uses(&self, node: &str, kind: Uses, namespace: &str, name: &str) -> bool {
        let wanted = (kind, namespace.to_owned(), name.to_owned());
        self.nodes
            .get(node)
            .is_some_and(|used| used.contains(&wanted))
    }
}

/// As much of a pod as says what it uses.
#[derive(Deserialize)]
struct Pod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    resource_claim_statuses: Vec<ResourceClaim>,
    extended_resource_claim_status: Option<ResourceClaim>,
}

/// A claim that a pod names, or one that was made for it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceClaim {
    resource_claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    volumes: Vec<Volume>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    resource_claims: Vec<ResourceClaim>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    csi: Option<Csi>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<ProjectedSource>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProjectedSource {
    secret: Option<Named>,
    config_map: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Csi {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<Env>,
    env_from: Vec<EnvFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    secret_ref: Option<Named>,
    config_map_ref: Option<Named>,
}

impl Pod {
    /// What the pod uses, itself included. A mirror of a static pod uses nothing else: nodes make those themselves, and
    /// must never get at objects by it.
    fn uses(&self) -> Vec<(Uses, String)> {
        let mut all = vec![(Uses::Pod, self.metadata.name.clone())];
        if !self.metadata.annotations.contains_key(MIRROR) {
            let named = self.named().map(|(uses, name)| (uses, name.to_owned()));
            all.extend(named);
            // The claim of an ephemeral volume is called after pod and volume.
            let ephemeral = self.spec.volumes.iter().filter(|v| v.ephemeral.is_some());
            let claim = |v: &Volume| format!("{}-{}", self.metadata.name, v.name);
            all.extend(ephemeral.map(|volume| (Uses::Claim, claim(volume))));
        }
        all
    }

    fn named(&self) -> impl Iterator<Item = (Uses, &str)> {
        let Spec {
            volumes,
            containers,
            init_containers,
            ephemeral_containers,
            ..
        } = &self.spec;
        let account = (
            Uses::ServiceAccount,
            self.spec.service_account_name.as_str(),
        );
        let pull = self
            .spec
            .image_pull_secrets
            .iter()
            .map(|s| (Uses::Secret, s.name.as_str()));
        let claims = self.spec.resource_claims.iter();
        let claims = claims
            .chain(&self.status.resource_claim_statuses)
            .chain(&self.status.extended_resource_claim_status)
            .map(|claim| (Uses::ResourceClaim, claim.resource_claim_name.as_str()));
        let containers = containers
            .iter()
            .chain(init_containers)
            .chain(ephemeral_containers);
        std::iter::once(account)
            .chain(pull)
            .chain(claims)
            .chain(volumes.iter().flat_map(Volume::uses))
            .chain(containers.flat_map(Container::uses))
            .filter(|(_, name)| !name.is_empty())
    }
}

fn secret(named: &Option<Named>) -> Option<(Uses, &str)> {
    named
        .as_ref()
        .map(|named| (Uses::Secret, named.name.as_str()))
}

fn config_map(named: &Option<Named>) -> Option<(Uses, &str)> {
    named
        .as_ref()
        .map(|named| (Uses::ConfigMap, named.name.as_str()))
}

impl Volume {
    fn uses(&self) -> impl Iterator<Item = (Uses, &str)> {
        let own = self
            .secret
            .as_ref()
            .map(|s| (Uses::Secret, s.secret_name.as_str()));
        let csi = self
            .csi
            .as_ref()
            .and_then(|csi| secret(&csi.node_publish_secret_ref));
        let projected = self.projected.iter().flat_map(|projected| {
            projected
                .sources
                .iter()
                .flat_map(|s| [secret(&s.secret), config_map(&s.config_map)])
        });
        let claim = self
            .persistent_volume_claim
            .as_ref()
            .map(|claim| (Uses::Claim, claim.claim_name.as_str()));
        [own, csi, config_map(&self.config_map), claim]
            .into_iter()
            .chain(projected)
            .flatten()
    }
}

impl Container {
    fn uses(&self) -> impl Iterator<Item = (Uses, &str)> {
        let env = self.env.iter().filter_map(|env| env.value_from.as_ref());
        let keys = env.flat_map(|v| [secret(&v.secret_key_ref), config_map(&v.config_map_key_ref)]);
        let whole = self
            .env_from
            .iter()
            .flat_map(|f| [secret(&f.secret_ref), config_map(&f.config_map_ref)]);
        keys.chain(whole).flatten()
    }
}
