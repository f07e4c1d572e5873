//! What the volumes of a pod are: a pure function of the pod and the objects it names.

use std::path::PathBuf;

use davit_api::Quantity;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, PodSpec, Volume as Spec,
};

use super::error::{Cause, Error};
use super::{FsGroup, HostPathType, Kind, Volume, projected};
use crate::inputs::PodInputs;
use crate::kernel::path::normal_absolute;

/// Plans all volumes of a pod.
///
/// # Errors
/// The first volume that cannot be: a missing object that is not optional, an unknown kind, a bad path.
pub fn plan(inputs: &PodInputs<'_>) -> Result<Vec<Volume>, Error> {
    let Some(spec) = &inputs.pod.spec else {
        return Ok(Vec::new());
    };
    let volumes = spec.volumes.iter().flatten();
    let planned = volumes.map(|volume| {
        let name = volume.name.clone();
        match kind(inputs, spec, volume) {
            Ok(kind) => Ok(Volume {
                name,
                fs_group: fs_group(spec, &kind),
                kind,
            }),
            Err(source) => Err(Error::SetUp {
                volume: name,
                source,
            }),
        }
    });
    planned.collect()
}

fn kind(inputs: &PodInputs<'_>, spec: &PodSpec, volume: &Spec) -> Result<Kind, Cause> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir(inputs, spec, source);
    }
    if let Some(source) = &volume.config_map {
        return projected::config_map(inputs, source);
    }
    if let Some(source) = &volume.secret {
        return projected::secret(inputs, source);
    }
    if let Some(source) = &volume.downward_api {
        return projected::downward(inputs, source);
    }
    if let Some(source) = &volume.projected {
        return projected::projected(inputs, source);
    }
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only.unwrap_or(false);
        return Ok(Kind::Claim {
            claim: source.claim_name.clone(),
            read_only,
        });
    }
    if volume.ephemeral.is_some() {
        let pod = inputs.pod.metadata.name.as_deref().unwrap_or_default();
        return Ok(Kind::Claim {
            claim: format!("{pod}-{}", volume.name),
            read_only: false,
        });
    }
    if let Some(source) = &volume.image {
        let reference = source
            .reference
            .clone()
            .filter(|reference| !reference.is_empty());
        let reference =
            reference.ok_or_else(|| Cause::Spec("image.reference is empty".to_owned()))?;
        return Ok(Kind::Image {
            reference,
            pull_policy: source.pull_policy.clone(),
        });
    }
    Err(unsupported(volume))
}

/// Names the source, whichever it is.
fn unsupported(volume: &Spec) -> Cause {
    let json = serde_json::to_value(volume).unwrap_or_default();
    let keys = json
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys());
    let source = keys
        .map(String::as_str)
        .find(|key| *key != "name")
        .unwrap_or("no source");
    Cause::Spec(format!(
        "volume plugin {source} is not supported; use a PersistentVolumeClaim of a storage driver instead"
    ))
}

fn empty_dir(
    inputs: &PodInputs<'_>,
    spec: &PodSpec,
    source: &EmptyDirVolumeSource,
) -> Result<Kind, Cause> {
    let own = match source.size_limit.as_ref() {
        None => None,
        Some(limit) => {
            let quantity: Quantity = limit
                .0
                .parse()
                .map_err(|error| Cause::Spec(format!("emptyDir.sizeLimit: {error}")))?;
            Some(quantity.bytes()).filter(|bytes| *bytes > 0)
        }
    };
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Kind::EmptyDir {
            memory: false,
            size_limit: own,
        }),
        "Memory" => {
            // A tmpfs counts against the pod's memory; without a bound it would grow to half of the node's.
            let node = inputs.allocatable.get("memory").map(Quantity::bytes);
            let bounds = [own, memory_limit(spec), node];
            let size_limit = bounds
                .into_iter()
                .flatten()
                .filter(|bytes| *bytes > 0)
                .min();
            Ok(Kind::EmptyDir {
                memory: true,
                size_limit,
            })
        }
        medium => {
            let known = "an empty string and Memory";
            Err(Cause::Spec(format!(
                "emptyDir.medium {medium:?} is not supported; {known} are"
            )))
        }
    }
}

/// The pod's memory limit: there is one only if every container has one.
fn memory_limit(spec: &PodSpec) -> Option<u64> {
    let limit = |container: &Container| -> Option<u64> {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        limits
            .get("memory")?
            .0
            .parse::<Quantity>()
            .ok()
            .map(|quantity| quantity.bytes())
    };
    let running = spec.containers.iter().map(limit).sum::<Option<u64>>()?;
    let mut sidecars = 0_u64;
    let mut starting = 0_u64;
    for container in spec.init_containers.iter().flatten() {
        let own = limit(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(own);
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(sidecars.saturating_add(own));
        }
    }
    Some(starting.max(running.saturating_add(sidecars)))
}

fn host_path(source: &HostPathVolumeSource) -> Result<Kind, Cause> {
    let path = host_directory("hostPath.path", &source.path)?;
    let check = match source.type_.as_deref().unwrap_or_default() {
        "" => HostPathType::Unset,
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        other => return Err(Cause::Spec(format!("hostPath.type {other:?} is unknown"))),
    };
    Ok(Kind::HostPath { path, check })
}

/// A path of the host in its one form; `field` is who names it.
///
/// # Errors
/// It is relative, or has a `..`, which would lead elsewhere than its text where a link is in the way.
pub(crate) fn host_directory(field: &str, path: &str) -> Result<PathBuf, Cause> {
    if !path.starts_with('/') || path.split('/').any(|step| step == "..") {
        let reason = format!("{field} {path:?} must be absolute and must not contain '..'");
        return Err(Cause::Spec(reason));
    }
    Ok(normal_absolute(path))
}

fn fs_group(spec: &PodSpec, kind: &Kind) -> Option<FsGroup> {
    if matches!(kind, Kind::HostPath { .. } | Kind::Image { .. }) {
        return None;
    }
    let security = spec.security_context.as_ref()?;
    let policy = security.fs_group_change_policy.as_deref();
    Some(FsGroup {
        gid: u32::try_from(security.fs_group?).ok()?,
        on_root_mismatch: policy == Some("OnRootMismatch"),
    })
}
