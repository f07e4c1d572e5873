//! A container's configuration for the runtime, built from the pod, the image and what was prepared for it. Pure.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use davit_listen::descriptors::Limit;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use oci_spec::image::ImageConfiguration;

use super::members;
use super::resources::container_resources;
use super::security::{self, Refusal};
use super::services::VolumeSource;
use crate::env::{ContainerEnv, expand, process_env};
use crate::kernel::path::{normal_absolute, normal_relative};
use crate::runtime::{ContainerConfig, Mount, MountKind, Propagation, RootFs, Seccomp};

/// Where a container writes its last words unless it says otherwise.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// Size and number of a container's log files.
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_MAX_FILES: u32 = 5;

/// Everything a container's configuration is made of.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// The id of the container whose processes it lives among, for an ephemeral one that names it.
    pub among: Option<String>,
    /// The id it gets.
    pub id: String,
    /// How many times it was started before.
    pub attempt: u32,
    /// The image's configuration.
    pub image: &'a ImageConfiguration,
    /// Its root.
    pub rootfs: RootFs,
    /// Its own environment.
    pub env: &'a ContainerEnv,
    /// The pod's volumes by name.
    pub volumes: &'a BTreeMap<String, VolumeSource>,
    /// Its system call filter.
    pub seccomp: Seccomp,
    /// What `hostname` says.
    pub hostname: &'a str,
    /// Files of the pod mounted into every container: destination and source.
    pub files: &'a [(&'a str, PathBuf)],
    /// The file for its last words.
    pub termination_log: PathBuf,
    /// Its log.
    pub log_path: PathBuf,
    /// Bytes of memory of the node.
    pub node_memory: u64,
}

/// Why a container cannot be configured: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The security context cannot be kept.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Neither the container nor the image names a program.
    #[error(
        "no command specified: set command in the container, or use an image with an entry point"
    )]
    NoCommand,
    /// A mount names a volume that the pod does not have.
    #[error("volumeMounts \"{mount}\" names volume \"{volume}\", which the pod does not have")]
    NoVolume {
        /// The mount's path.
        mount: String,
        /// The volume.
        volume: String,
    },
    /// A block volume; this runtime gives volumes as directories only.
    #[error(
        "volumeDevices \"{0}\": block devices cannot be given to containers here; use volumeMode Filesystem"
    )]
    Block(String),
    /// The working directory is relative, and there is nothing it could be relative to.
    #[error(
        "workingDir \"{0}\" must be an absolute path; it is the container's or, where that has none, the image's"
    )]
    WorkingDir(String),
    /// `subPathExpr` leads out of the volume.
    #[error("subPath \"{path}\" of volume \"{volume}\" must be relative and must not contain '..'")]
    SubPath {
        /// The path.
        path: String,
        /// The volume.
        volume: String,
    },
}

/// The configuration of one container.
///
/// # Errors
/// See [`Error`]; nothing was made then.
pub fn container_config(from: Ingredients<'_>) -> Result<ContainerConfig, Error> {
    let empty = oci_spec::image::Config::default();
    let image = from.image.config().as_ref().unwrap_or(&empty);
    let args = command(&from, image)?;
    let image_user = image.user().as_deref().unwrap_or_default();
    let user = security::user(from.pod, from.container, image_user)?;
    let mounts = mounts(&from, image)?;
    let image_env = image.env().clone().unwrap_or_default();
    let cwd = working_dir(&from, image)?;
    let mut rootfs = from.rootfs;
    let context = from.container.security_context.as_ref();
    rootfs.read_only = context
        .and_then(|context| context.read_only_root_filesystem)
        .unwrap_or(false);
    Ok(ContainerConfig {
        name: from.container.name.clone(),
        attempt: from.attempt,
        rootfs,
        args,
        env: process_env(&image_env, &from.env.vars, from.hostname, None),
        cwd,
        user,
        among: from.among,
        mounts,
        devices: Vec::new(),
        resources: container_resources(from.pod, from.container, from.node_memory),
        security: security::security(from.container, from.seccomp),
        rlimits: own_limits(),
        log_path: from.log_path,
        log_max_bytes: LOG_MAX_BYTES,
        log_max_files: LOG_MAX_FILES,
        stdin: from.container.stdin.unwrap_or(false),
        tty: from.container.tty.unwrap_or(false),
        id: from.id,
    })
}

/// The limits of this process before it raised them for itself: as with containerd, a container has those of the service
/// that starts it, not what that needs for its own clients.
fn own_limits() -> Vec<(String, u64, u64)> {
    let original = davit_listen::descriptors::original();
    let limit = |limit: Limit| ("RLIMIT_NOFILE".to_owned(), limit.soft, limit.hard);
    original.map(limit).into_iter().collect()
}

/// The container's working directory, else the image's, else the root.
fn working_dir(from: &Ingredients<'_>, image: &oci_spec::image::Config) -> Result<String, Error> {
    let own = from.container.working_dir.clone();
    let of_image = || image.working_dir().clone();
    let named = |dir: &String| !dir.is_empty();
    let Some(dir) = own.filter(named).or_else(|| of_image().filter(named)) else {
        return Ok("/".to_owned());
    };
    if !dir.starts_with('/') {
        return Err(Error::WorkingDir(dir));
    }
    Ok(seen_from_root(&dir))
}

/// A path in the container, in the form in which all later checks see it.
fn seen_from_root(path: &str) -> String {
    normal_absolute(path).to_string_lossy().into_owned()
}

/// `command` replaces the image's entry point and its arguments; `args` alone replaces only the arguments.
fn command(from: &Ingredients<'_>, image: &oci_spec::image::Config) -> Result<Vec<String>, Error> {
    let own = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|word| expand(word, |name| variable(from.env, name)))
            .collect()
    };
    let (command, args) = (own(&from.container.command), own(&from.container.args));
    let mut words = if command.is_empty() {
        image.entrypoint().clone().unwrap_or_default()
    } else {
        command.clone()
    };
    if !args.is_empty() {
        words.extend(args);
    } else if command.is_empty() {
        words.extend(image.cmd().clone().unwrap_or_default());
    }
    if words.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    Ok(words)
}

fn variable<'e>(env: &'e ContainerEnv, name: &str) -> Option<&'e str> {
    env.vars
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Outer directories first, so that no mount hides another; of two at one place the later one, which would hide the other.
/// What the pod asks for comes after the files it has anyway, and those after the volumes of the image.
fn mounts(from: &Ingredients<'_>, image: &oci_spec::image::Config) -> Result<Vec<Mount>, Error> {
    if let Some(device) = from.container.volume_devices.iter().flatten().next() {
        return Err(Error::Block(device.device_path.clone()));
    }
    let log = from
        .container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    let log = (log.unwrap_or(TERMINATION_LOG), from.termination_log.clone());
    let files = from.files.iter().chain([&log]);
    let files = files.map(|(destination, source)| {
        let sub_path = None;
        let source = source.clone();
        mount_at(destination, MountKind::Bind { source, sub_path })
    });
    let of_image = image.volumes().iter().flatten();
    let of_image = of_image.map(|path| mount_at(path, MountKind::OwnRoot));
    let of_pod = from.container.volume_mounts.iter().flatten();
    let of_pod = of_pod.map(|mount| volume_mount(from, mount));
    let mut mounts: Vec<Mount> = Vec::new();
    for wish in of_image.chain(files).map(Ok).chain(of_pod) {
        let wish = wish?;
        mounts.retain(|other| other.destination != wish.destination);
        mounts.push(wish);
    }
    mounts.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    Ok(mounts)
}

fn mount_at(destination: &str, kind: MountKind) -> Mount {
    Mount {
        kind,
        destination: seen_from_root(destination),
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

fn volume_mount(from: &Ingredients<'_>, mount: &VolumeMount) -> Result<Mount, Error> {
    let Some(source) = from.volumes.get(&mount.name) else {
        return Err(Error::NoVolume {
            mount: mount.mount_path.clone(),
            volume: mount.name.clone(),
        });
    };
    if source.block {
        return Err(Error::Block(mount.mount_path.clone()));
    }
    let below = sub_path(from, mount)?;
    let sub_path = source.sub_path.join(below);
    let read_only = mount.read_only.unwrap_or(false) || source.read_only;
    Ok(Mount {
        kind: MountKind::Bind {
            source: source.path.clone(),
            sub_path: (!sub_path.as_os_str().is_empty()).then_some(sub_path),
        },
        destination: seen_from_root(&mount.mount_path),
        read_only,
        recursive_read_only: read_only
            && matches!(
                mount.recursive_read_only.as_deref(),
                Some("Enabled" | "IfPossible")
            ),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

fn sub_path(from: &Ingredients<'_>, mount: &VolumeMount) -> Result<PathBuf, Error> {
    let path = match mount
        .sub_path_expr
        .as_deref()
        .filter(|expression| !expression.is_empty())
    {
        Some(expression) => expand(expression, |name| variable(from.env, name)),
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    normal_relative(&path).ok_or_else(|| Error::SubPath {
        path,
        volume: mount.name.clone(),
    })
}

/// Whether the pod shares the node's network.
pub fn host_network(pod: &Pod) -> bool {
    members::spec(pod).host_network.unwrap_or(false)
}

#[cfg(test)]
mod tests;
