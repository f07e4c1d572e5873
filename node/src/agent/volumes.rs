//! A pod's volumes on this node: those davit makes itself, and those of storage drivers.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use davit_api::Quantity;
use davit_plugins::executor::Host;
use davit_plugins::storage::{AccessMode, PublishRequest, UseMode, VolumeMode, VolumeRef};
use futures::future::try_join_all;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod, ServiceAccount,
};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};

use super::networks::driver_pod;
use crate::inputs::PodInputs;
use crate::pod::members;
use crate::pod::observed::Problem;
use crate::pod::services::{NodeFacts, PodObjects, PodVolumes, VolumeService, VolumeSource, chain};
use crate::volume::{self, Kind, SetUp, Token, TokenSource, Volume, Volumes};

/// Makes and removes the volumes of pods.
pub(super) struct PodVolumeService {
    pub(super) client: Client,
    pub(super) host: Arc<Host>,
    pub(super) volumes: Volumes,
    pub(super) node: Arc<NodeFacts>,
}

#[async_trait]
impl VolumeService for PodVolumeService {
    async fn prepare(&self, pod: &Pod, objects: &PodObjects) -> Result<PodVolumes, Problem> {
        let inputs = PodInputs {
            pod,
            node_name: &self.node.name,
            host_ips: &self.node.ips,
            pod_ips: &[],
            allocatable: &self.node.allocatable,
            config_maps: &objects.config_maps,
            secrets: &objects.secrets,
            service_env: &objects.service_env,
        };
        let planned = volume::plan(&inputs).map_err(|error| mount_failed(&chain(&error)))?;
        let made = try_join_all(planned.iter().map(|volume| self.make(pod, volume))).await?;
        let refresh_at = made.iter().filter_map(|(_, refresh_at)| *refresh_at).min();
        let sources = planned
            .into_iter()
            .map(|volume| volume.name)
            .zip(made.into_iter().map(|(source, _)| source));
        Ok(PodVolumes {
            sources: sources.collect(),
            refresh_at,
        })
    }

    async fn release(&self, pod: &Pod) -> Result<(), Problem> {
        let uid = members::uid(pod);
        for id in published(&self.host, uid) {
            let released = self.host.unpublish_volume(&id, uid).await;
            released.map_err(|error| Problem::new("FailedUnMount", chain(&error)))?;
        }
        self.volumes
            .tear_down(uid)
            .await
            .map_err(|error| Problem::new("FailedUnMount", chain(&error)))
    }
}

/// Ids of the volumes that the host has given to the pod; its records know them even when the claims are gone.
fn published(host: &Host, pod_uid: &str) -> Vec<String> {
    let scopes = host
        .scopes()
        .into_iter()
        .map(|scope| scope.scope.to_string());
    let ids = scopes.filter_map(|scope| {
        let (id, uid) = scope.strip_prefix("publish/")?.rsplit_once('/')?;
        (uid == pod_uid).then(|| id.to_owned())
    });
    ids.collect()
}

fn is_ephemeral(pod: &Pod, volume: &str) -> bool {
    let mut volumes = members::spec(pod).volumes.iter().flatten();
    volumes.any(|own| own.name == volume && own.ephemeral.is_some())
}

fn mount_failed(message: &str) -> Problem {
    Problem::new("FailedMount", message)
}

impl PodVolumeService {
    async fn make(
        &self,
        pod: &Pod,
        volume: &Volume,
    ) -> Result<(VolumeSource, Option<Timestamp>), Problem> {
        let failed = |cause: String| {
            mount_failed(&format!(
                "MountVolume.SetUp failed for volume \"{}\" : {cause}",
                volume.name
            ))
        };
        match &volume.kind {
            Kind::Claim { claim, read_only } => {
                let fs_group = volume.fs_group.map(|group| group.gid);
                if is_ephemeral(pod, &volume.name) {
                    self.check_owner(pod, claim).await.map_err(failed)?;
                }
                let source = self
                    .publish(pod, claim, *read_only, fs_group)
                    .await
                    .map_err(failed)?;
                Ok((source, None))
            }
            Kind::Image { reference, .. } => Err(failed(format!(
                "image volumes ({reference}) cannot be mounted by this version; use an init container"
            ))),
            Kind::EmptyDir { .. } | Kind::Files { .. } | Kind::HostPath { .. } => {
                let tokens = PodTokens {
                    client: &self.client,
                    pod,
                };
                let made = self
                    .volumes
                    .set_up(members::uid(pod), volume, &tokens)
                    .await;
                let SetUp { path, refresh_at } =
                    made.map_err(|error| mount_failed(&chain(&error)))?;
                let source = VolumeSource {
                    own_files: matches!(volume.kind, Kind::Files { .. }),
                    ..directory(path, volume.is_read_only())
                };
                Ok((source, refresh_at))
            }
        }
    }

    /// The claim of an ephemeral volume is the pod's own: one that only has the name may hold somebody else's data.
    async fn check_owner(&self, pod: &Pod, claim: &str) -> Result<(), String> {
        let namespace = members::namespace(pod);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = claims.get_opt(claim).await.map_err(|error| chain(&error))?;
        let found = found.ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" not found"))?;
        let mut owners = found.owner_references().iter();
        let uid = members::uid(pod);
        if owners.any(|owner| owner.controller == Some(true) && owner.uid == uid) {
            return Ok(());
        }
        Err(format!(
            "PVC {namespace}/{claim} was not created for pod {} (pod is not owner)",
            members::display(pod)
        ))
    }

    /// Gives the volume that a claim is bound to to the pod.
    async fn publish(
        &self,
        pod: &Pod,
        claim: &str,
        read_only: bool,
        fs_group: Option<u32>,
    ) -> Result<VolumeSource, String> {
        let volume = self.bound_volume(pod, claim).await?;
        let spec = volume.spec.clone().unwrap_or_default();
        let local = spec.local.as_ref().map(|own| ("local.path", &own.path));
        let on_host = spec
            .host_path
            .as_ref()
            .map(|own| ("hostPath.path", &own.path));
        if let Some((field, path)) = local.or(on_host) {
            let path = volume::host_directory(field, path).map_err(|error| chain(&error))?;
            return Ok(directory(path, read_only));
        }
        let Some(csi) = &spec.csi else {
            return Err(format!(
                "PersistentVolume {} is of a kind this node cannot mount; use csi, local or hostPath",
                volume.name_any()
            ));
        };
        let request = PublishRequest {
            volume: volume_ref(&spec),
            use_as: use_mode(&spec),
            publish_context: BTreeMap::new(),
            read_only: read_only || csi.read_only.unwrap_or(false),
            pod: driver_pod(pod),
            fs_group,
        };
        let exposed = self
            .host
            .publish_volume(&csi.driver, request)
            .await
            .map_err(|error| chain(&error))?;
        Ok(VolumeSource {
            path: exposed.path,
            sub_path: exposed.sub_path.into(),
            read_only: exposed.read_only || read_only,
            block: exposed.block,
            own_files: false,
        })
    }

    async fn bound_volume(&self, pod: &Pod, claim: &str) -> Result<PersistentVolume, String> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), members::namespace(pod));
        let found = claims.get_opt(claim).await.map_err(|error| chain(&error))?;
        let found = found.ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" not found"))?;
        let name = found
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            format!("persistentvolumeclaim \"{claim}\" is not bound to a volume yet")
        })?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes
            .get_opt(&name)
            .await
            .map_err(|error| chain(&error))?;
        let volume = volume.ok_or_else(|| format!("persistentvolume \"{name}\" not found"))?;
        let holder = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref())
            .and_then(|claim| claim.uid.clone());
        if holder != found.metadata.uid {
            return Err(format!(
                "persistentvolume \"{name}\" is bound to another claim than \"{claim}\""
            ));
        }
        Ok(volume)
    }
}

fn directory(path: PathBuf, read_only: bool) -> VolumeSource {
    VolumeSource {
        path,
        sub_path: PathBuf::new(),
        read_only,
        block: false,
        own_files: false,
    }
}

/// The volume as its driver knows it.
pub(super) fn volume_ref(spec: &PersistentVolumeSpec) -> VolumeRef {
    let csi = spec.csi.clone().unwrap_or_default();
    let capacity = spec
        .capacity
        .as_ref()
        .and_then(|capacity| Quantity::try_from(capacity.get("storage")?).ok());
    VolumeRef {
        id: csi.volume_handle,
        capacity_bytes: capacity.map_or(0, |capacity| capacity.bytes()),
        context: csi.volume_attributes.unwrap_or_default(),
    }
}

fn use_mode(spec: &PersistentVolumeSpec) -> UseMode {
    UseMode {
        mode: volume_mode(spec.volume_mode.as_deref()),
        access: access_modes(spec.access_modes.as_deref().unwrap_or_default()),
        fs_type: spec
            .csi
            .as_ref()
            .and_then(|csi| csi.fs_type.clone())
            .unwrap_or_default(),
        mount_options: spec.mount_options.clone().unwrap_or_default(),
    }
}

/// `volumeMode`; a directory where nothing is said.
pub(super) fn volume_mode(mode: Option<&str>) -> VolumeMode {
    if mode == Some("Block") {
        VolumeMode::Block
    } else {
        VolumeMode::Filesystem
    }
}

/// `accessModes`; unknown ones are left out.
pub(super) fn access_modes(modes: &[String]) -> Vec<AccessMode> {
    let known = modes.iter().filter_map(|mode| match mode.as_str() {
        "ReadWriteOnce" => Some(AccessMode::ReadWriteOnce),
        "ReadOnlyMany" => Some(AccessMode::ReadOnlyMany),
        "ReadWriteMany" => Some(AccessMode::ReadWriteMany),
        "ReadWriteOncePod" => Some(AccessMode::ReadWriteOncePod),
        _ => None,
    });
    known.collect()
}

/// Tokens of a pod's service account, bound to the pod.
struct PodTokens<'a> {
    client: &'a Client,
    pod: &'a Pod,
}

#[async_trait]
impl TokenSource for PodTokens<'_> {
    async fn token(
        &self,
        audience: &str,
        expiration_seconds: i64,
    ) -> Result<Token, Box<dyn std::error::Error + Send + Sync>> {
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), members::namespace(self.pod));
        let account = members::spec(self.pod)
            .service_account_name
            .as_deref()
            .unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
                expiration_seconds: Some(expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        match (status.token, status.expiration_timestamp) {
            (Some(token), Some(expires_at)) => Ok(Token {
                token,
                expires_at: expires_at.0,
            }),
            _ => Err("the API server answered without a token".into()),
        }
    }
}
