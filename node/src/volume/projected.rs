//! Volumes that are files: configMap, secret, downwardAPI and projected.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath,
    ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::error::Cause;
use super::{File, Kind, TokenFile};
use crate::downward;
use crate::inputs::{PodInputs, containers};
use crate::kernel::path::normal_relative;

const DEFAULT_MODE: i32 = 0o644;
const DEFAULT_EXPIRATION: i64 = 3600;
/// Names that the atomic writer uses itself begin so.
const RESERVED: &str = "..";
const MAX_PATH: usize = 4096;

type Files = BTreeMap<String, File>;

pub(super) fn config_map(
    inputs: &PodInputs<'_>,
    source: &ConfigMapVolumeSource,
) -> Result<Kind, Cause> {
    let mode = mode(source.default_mode, DEFAULT_MODE)?;
    let mut files = Files::new();
    let (items, optional) = (source.items.as_deref(), source.optional);
    add_config_map(inputs, &source.name, items, optional, mode, &mut files)?;
    Ok(Kind::Files {
        plugin: "kubernetes.io~configmap",
        secret: false,
        files,
        tokens: Vec::new(),
    })
}

pub(super) fn secret(inputs: &PodInputs<'_>, source: &SecretVolumeSource) -> Result<Kind, Cause> {
    let mode = mode(source.default_mode, DEFAULT_MODE)?;
    let mut files = Files::new();
    let name = source.secret_name.as_deref().unwrap_or_default();
    let (items, optional) = (source.items.as_deref(), source.optional);
    add_secret(inputs, name, items, optional, mode, &mut files)?;
    Ok(Kind::Files {
        plugin: "kubernetes.io~secret",
        secret: true,
        files,
        tokens: Vec::new(),
    })
}

pub(super) fn downward(
    inputs: &PodInputs<'_>,
    source: &DownwardAPIVolumeSource,
) -> Result<Kind, Cause> {
    let mode = mode(source.default_mode, DEFAULT_MODE)?;
    let mut files = Files::new();
    add_downward(inputs, source.items.as_deref(), mode, &mut files)?;
    Ok(Kind::Files {
        plugin: "kubernetes.io~downward-api",
        secret: false,
        files,
        tokens: Vec::new(),
    })
}

pub(super) fn projected(
    inputs: &PodInputs<'_>,
    source: &ProjectedVolumeSource,
) -> Result<Kind, Cause> {
    let mode = mode(source.default_mode, DEFAULT_MODE)?;
    let (mut files, mut tokens) = (Files::new(), Vec::new());
    for source in source.sources.iter().flatten() {
        add_projection(inputs, source, mode, &mut files, &mut tokens)?;
    }
    Ok(Kind::Files {
        plugin: "kubernetes.io~projected",
        secret: true,
        files,
        tokens,
    })
}

fn add_projection(
    inputs: &PodInputs<'_>,
    source: &VolumeProjection,
    mode: u32,
    files: &mut Files,
    tokens: &mut Vec<TokenFile>,
) -> Result<(), Cause> {
    if let Some(from) = &source.config_map {
        return add_config_map(
            inputs,
            &from.name,
            from.items.as_deref(),
            from.optional,
            mode,
            files,
        );
    }
    if let Some(from) = &source.secret {
        return add_secret(
            inputs,
            &from.name,
            from.items.as_deref(),
            from.optional,
            mode,
            files,
        );
    }
    if let Some(from) = &source.downward_api {
        return add_downward(inputs, from.items.as_deref(), mode, files);
    }
    if let Some(from) = &source.service_account_token {
        tokens.push(token(inputs, from, mode)?);
        return Ok(());
    }
    let what = if source.cluster_trust_bundle.is_some() {
        "clusterTrustBundle"
    } else if source.pod_certificate.is_some() {
        "podCertificate"
    } else {
        "an empty source"
    };
    Err(Cause::Spec(format!(
        "projected source {what} is not supported"
    )))
}

fn add_config_map(
    inputs: &PodInputs<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
    files: &mut Files,
) -> Result<(), Cause> {
    let optional = optional.unwrap_or(false);
    let Some(config_map) = inputs.config_maps.get(name) else {
        return missing("configmap", name, optional);
    };
    let text = config_map.data.iter().flatten();
    let text = text.map(|(key, text)| (key, Bytes::copy_from_slice(text.as_bytes())));
    let binary = config_map.binary_data.iter().flatten();
    let binary = binary.map(|(key, data)| (key, Bytes::copy_from_slice(&data.0)));
    let data: BTreeMap<&String, Bytes> = binary.chain(text).collect();
    add_keys(
        &data,
        items,
        Keys {
            kind: "config",
            optional,
            mode,
        },
        files,
    )
}

fn add_secret(
    inputs: &PodInputs<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
    files: &mut Files,
) -> Result<(), Cause> {
    let optional = optional.unwrap_or(false);
    let Some(secret) = inputs.secrets.get(name) else {
        return missing("secret", name, optional);
    };
    let data = secret.data.iter().flatten();
    let data = data
        .map(|(key, data)| (key, Bytes::copy_from_slice(&data.0)))
        .collect();
    add_keys(
        &data,
        items,
        Keys {
            kind: "secret",
            optional,
            mode,
        },
        files,
    )
}

fn missing(kind: &'static str, name: &str, optional: bool) -> Result<(), Cause> {
    if optional {
        return Ok(());
    }
    Err(Cause::Missing {
        kind,
        name: name.to_owned(),
    })
}

/// How keys become files.
struct Keys {
    kind: &'static str,
    optional: bool,
    mode: u32,
}

fn add_keys(
    data: &BTreeMap<&String, Bytes>,
    items: Option<&[KeyToPath]>,
    keys: Keys,
    files: &mut Files,
) -> Result<(), Cause> {
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, data) in data {
            add(
                files,
                key,
                File {
                    data: data.clone(),
                    mode: keys.mode,
                    owner: None,
                },
            )?;
        }
        return Ok(());
    }
    for item in items {
        match data.get(&item.key) {
            Some(data) => {
                let mode = mode(item.mode, keys.mode.cast_signed())?;
                add(
                    files,
                    &item.path,
                    File {
                        data: data.clone(),
                        mode,
                        owner: None,
                    },
                )?;
            }
            None if keys.optional => {}
            None => {
                return Err(Cause::Key {
                    kind: keys.kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

fn add_downward(
    inputs: &PodInputs<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    default: u32,
    files: &mut Files,
) -> Result<(), Cause> {
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(inputs, &field.field_path),
            (None, Some(resource)) => downward::resource(inputs, None, resource),
            (None, None) => {
                let path = &item.path;
                return Err(Cause::Spec(format!(
                    "{path:?} has neither fieldRef nor resourceFieldRef"
                )));
            }
        };
        let value = value.map_err(|source| Cause::Downward {
            path: item.path.clone(),
            source,
        })?;
        let mode = mode(item.mode, default.cast_signed())?;
        add(
            files,
            &item.path,
            File {
                data: value.into(),
                mode,
                owner: None,
            },
        )?;
    }
    Ok(())
}

fn token(
    inputs: &PodInputs<'_>,
    source: &ServiceAccountTokenProjection,
    mode: u32,
) -> Result<TokenFile, Cause> {
    let path = inside(&source.path)?;
    let owner = single_user(inputs);
    let security = inputs
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let fs_group = security.and_then(|security| security.fs_group);
    // Whoever owns it, or is in its group, can read it; nobody else needs to.
    let mode = if owner.is_some() || fs_group.is_some() {
        0o600
    } else {
        mode
    };
    Ok(TokenFile {
        path,
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION),
        mode,
        owner,
    })
}

/// The user that all containers of the pod run as, where each names one and all the same.
fn single_user(inputs: &PodInputs<'_>) -> Option<u32> {
    let spec = inputs.pod.spec.as_ref()?;
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|security| security.run_as_user);
    let mut users = containers(spec).map(|container| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|security| security.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())
        .flatten()
}

fn add(files: &mut Files, path: &str, file: File) -> Result<(), Cause> {
    files.insert(inside(path)?, file);
    Ok(())
}

/// The one form of a relative path that stays inside and does not collide with the writer's own names.
fn inside(path: &str) -> Result<String, Cause> {
    let normal = normal_relative(path)
        .and_then(|normal| Some(normal.to_str()?.to_owned()))
        .filter(|normal| !normal.is_empty() && normal.len() <= MAX_PATH)
        .filter(|normal| !normal.starts_with(RESERVED) && !normal.contains('\0'));
    normal.ok_or_else(|| {
        let reason = "must name a file, be relative, have no '..' and not begin with '..'";
        Cause::Spec(format!("invalid path {path:?}: {reason}"))
    })
}

fn mode(mode: Option<i32>, default: i32) -> Result<u32, Cause> {
    let mode = mode.unwrap_or(default);
    let wrong = || Cause::Spec(format!("mode {mode:o} is not between 0 and 0777 (octal)"));
    u32::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(wrong)
}
