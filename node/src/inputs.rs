//! What is known of a pod and its surroundings when its environment and its volumes are planned.
//!
//! Everything is observed beforehand, so that planning stays a pure function: the agent reads
//! [`References::of`], fetches or watches those objects, and fills [`PodInputs`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use davit_api::Quantity;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret, VolumeProjection};

use crate::pod::members;

#[cfg(test)]
mod tests;

/// The pod, its node, and the objects its spec refers to.
#[derive(Clone, Copy, Debug)]
pub struct PodInputs<'a> {
    /// The pod as bound to this node.
    pub pod: &'a Pod,
    /// The node's name.
    pub node_name: &'a str,
    /// The node's addresses, primary first (`status.hostIPs`).
    pub host_ips: &'a [IpAddr],
    /// The pod's addresses, primary first; empty until its network is up.
    pub pod_ips: &'a [IpAddr],
    /// What the node can give to pods; stands in for absent limits in `resourceFieldRef`.
    pub allocatable: &'a BTreeMap<String, Quantity>,
    /// ConfigMaps of the pod's namespace by name; an absent name does not exist.
    pub config_maps: &'a BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets of the pod's namespace by name; an absent name does not exist.
    pub secrets: &'a BTreeMap<String, Arc<Secret>>,
    /// Variables of Services, from [`crate::env::service_env`].
    pub service_env: &'a BTreeMap<String, String>,
}

impl PodInputs<'_> {
    /// The pod's namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }
}

/// Names of the objects that a pod's environment and volumes are made of, and of its pull secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMap name → whether every reference to it is optional.
    pub config_maps: BTreeMap<String, bool>,
    /// Secret name → whether every reference to it is optional. Pull secrets count as optional: kubelet pulls
    /// without those that are missing.
    pub secrets: BTreeMap<String, bool>,
}

impl References {
    /// Everything `pod` refers to, by its containers (those that start before and those added later included), volumes and pull secrets.
    pub fn of(pod: &Pod) -> Self {
        let mut found = Self::default();
        let Some(spec) = &pod.spec else { return found };
        for container in containers(spec) {
            found.environment(container);
        }
        for added in members::ephemeral_members(pod) {
            found.environment(&added.container);
        }
        found.volumes(spec);
        for secret in spec.image_pull_secrets.iter().flatten() {
            note(&mut found.secrets, &secret.name, Some(true));
        }
        found
    }

    fn environment(&mut self, container: &Container) {
        for from in container.env_from.iter().flatten() {
            if let Some(config_map) = &from.config_map_ref {
                note(&mut self.config_maps, &config_map.name, config_map.optional);
            }
            if let Some(secret) = &from.secret_ref {
                note(&mut self.secrets, &secret.name, secret.optional);
            }
        }
        let sources = container
            .env
            .iter()
            .flatten()
            .filter_map(|var| var.value_from.as_ref());
        for source in sources {
            if let Some(key) = &source.config_map_key_ref {
                note(&mut self.config_maps, &key.name, key.optional);
            }
            if let Some(key) = &source.secret_key_ref {
                note(&mut self.secrets, &key.name, key.optional);
            }
        }
    }

    fn volumes(&mut self, spec: &PodSpec) {
        for volume in spec.volumes.iter().flatten() {
            if let Some(config_map) = &volume.config_map {
                note(&mut self.config_maps, &config_map.name, config_map.optional);
            }
            if let Some(secret) = &volume.secret {
                let name = secret.secret_name.as_deref().unwrap_or_default();
                note(&mut self.secrets, name, secret.optional);
            }
            let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
            for source in projected.into_iter().flatten() {
                self.projection(source);
            }
        }
    }

    fn projection(&mut self, source: &VolumeProjection) {
        if let Some(config_map) = &source.config_map {
            note(&mut self.config_maps, &config_map.name, config_map.optional);
        }
        if let Some(secret) = &source.secret {
            note(&mut self.secrets, &secret.name, secret.optional);
        }
    }
}

fn note(names: &mut BTreeMap<String, bool>, name: &str, optional: Option<bool>) {
    if name.is_empty() {
        return;
    }
    let all_optional = names.entry(name.to_owned()).or_insert(true);
    *all_optional &= optional.unwrap_or(false);
}

/// The pod's containers in the order they start: init containers (sidecars among them), then the others.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
}
