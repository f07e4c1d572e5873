//! The environment, command and arguments of a container, as kubelet composes them.
//!
//! Pure: [`container_env`] from the pod and the objects it refers to, [`process_env`] from that and the image.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};

use crate::downward::{self, DownwardError};
use crate::inputs::PodInputs;

mod expand;
mod service;
#[cfg(test)]
mod tests;

pub use expand::expand;
pub use service::service_env;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a container before its image's is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerEnv {
    /// Name and value, each name once.
    pub vars: Vec<(String, String)>,
    /// Keys left out of `envFrom`, for the event `InvalidEnvironmentVariableNames`.
    pub skipped: Vec<SkippedKeys>,
}

/// Keys of one `envFrom` source that cannot name a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKeys {
    /// `configMap` or `secret`.
    pub kind: &'static str,
    /// `namespace/name`.
    pub object: String,
    /// The keys, sorted.
    pub keys: Vec<String>,
}

impl std::fmt::Display for SkippedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, object, keys } = self;
        let keys = keys.join(", ");
        write!(
            f,
            "Keys [{keys}] from the EnvFrom {kind} {object} were skipped since they are considered invalid \
             environment variable names."
        )
    }
}

/// Why the environment cannot be made: `CreateContainerConfigError`. A retry helps when the object appears.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The ConfigMap or Secret does not exist.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {object}")]
    Key {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// `namespace/name`.
        object: String,
    },
    /// A value holds a NUL character, which no process can receive.
    #[error("the value of environment variable {name} contains a NUL character")]
    Nul {
        /// The variable.
        name: String,
    },
    /// A value is not UTF-8 text.
    #[error("key {key} in {kind} {object} is not text; mount it as a volume instead")]
    Binary {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// `namespace/name`.
        object: String,
    },
    /// A way to get a value that this version of Kubernetes does not enable.
    #[error("environment variable {name}: {what} is not supported")]
    Unsupported {
        /// The variable.
        name: String,
        /// The source.
        what: &'static str,
    },
    /// A field or resource of the pod cannot be told.
    #[error("environment variable {name}")]
    Downward {
        /// The variable.
        name: String,
        /// Why not.
        #[source]
        source: DownwardError,
    },
}

/// The variables of `container`: `envFrom`, then `env` with `$(VAR)` expanded, then Services.
///
/// # Errors
/// A required object or key is missing, or a value cannot be an environment variable.
pub fn container_env(
    inputs: &PodInputs<'_>,
    container: &Container,
) -> Result<ContainerEnv, EnvError> {
    let mut vars = Vars::default();
    let mut skipped = Vec::new();
    for source in container.env_from.iter().flatten() {
        skipped.extend(import(inputs, source, &mut vars)?);
    }
    for var in container.env.iter().flatten() {
        let plain = var.value.as_deref().unwrap_or_default();
        let value = match &var.value_from {
            Some(source) if plain.is_empty() => {
                match value_from(inputs, container, &var.name, source)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            _ => expand(plain, |name| {
                vars.get(name).or_else(|| service(inputs, name))
            }),
        };
        vars.set(&var.name, value);
    }
    for (name, value) in inputs.service_env {
        if vars.get(name).is_none() {
            vars.set(name, value.clone());
        }
    }
    if let Some((name, _)) = vars.list.iter().find(|(_, value)| value.contains('\0')) {
        return Err(EnvError::Nul { name: name.clone() });
    }
    Ok(ContainerEnv {
        vars: vars.list,
        skipped,
    })
}

fn service<'a>(inputs: &'a PodInputs<'_>, name: &str) -> Option<&'a str> {
    inputs.service_env.get(name).map(String::as_str)
}

/// The whole environment of a process: the image's, overridden by the container's, with `PATH`, `HOSTNAME` and
/// `HOME` where nobody set them.
///
/// Entries of `image_env` without `=` mean an empty value.
pub fn process_env(
    image_env: &[String],
    container: &[(String, String)],
    hostname: &str,
    home: Option<&str>,
) -> Vec<(String, String)> {
    let mut vars = Vars::default();
    vars.set("PATH", DEFAULT_PATH.to_owned());
    vars.set("HOSTNAME", hostname.to_owned());
    for entry in image_env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        vars.set(name, value.to_owned());
    }
    for (name, value) in container {
        vars.set(name, value.clone());
    }
    if let Some(home) = home.filter(|_| vars.get("HOME").is_none()) {
        vars.set("HOME", home.to_owned());
    }
    vars.list
}

/// Variables in the order of their first appearance.
#[derive(Default)]
struct Vars {
    list: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Vars {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.list.get(*self.index.get(name)?)?;
        Some(value)
    }

    fn set(&mut self, name: &str, value: String) {
        let at = self.index.get(name).and_then(|at| self.list.get_mut(*at));
        if let Some((_, old)) = at {
            *old = value;
        } else {
            self.index.insert(name.to_owned(), self.list.len());
            self.list.push((name.to_owned(), value));
        }
    }
}

fn import(
    inputs: &PodInputs<'_>,
    source: &EnvFromSource,
    vars: &mut Vars,
) -> Result<Option<SkippedKeys>, EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut skipped = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        let name = format!("{prefix}{key}");
        match value.filter(|_| is_env_name(&name)) {
            Some(value) => vars.set(&name, value),
            None => skipped.push(name),
        }
    };
    let (kind, name) = if let Some(from) = &source.config_map_ref {
        match inputs.config_maps.get(&from.name) {
            Some(config_map) => {
                for (key, value) in config_map.data.iter().flatten() {
                    add(key, Some(value.clone()));
                }
            }
            None => optional(from.optional, "configmap", &from.name)?,
        }
        ("configMap", &from.name)
    } else if let Some(from) = &source.secret_ref {
        match inputs.secrets.get(&from.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    add(key, String::from_utf8(value.0.clone()).ok());
                }
            }
            None => optional(from.optional, "secret", &from.name)?,
        }
        ("secret", &from.name)
    } else {
        return Ok(None);
    };
    let object = format!("{}/{name}", inputs.namespace());
    Ok((!skipped.is_empty()).then_some(SkippedKeys {
        kind,
        object,
        keys: skipped,
    }))
}

fn optional(optional: Option<bool>, kind: &'static str, name: &str) -> Result<(), EnvError> {
    if optional.unwrap_or(false) {
        return Ok(());
    }
    Err(EnvError::Missing {
        kind,
        name: name.to_owned(),
    })
}

/// Kubernetes since 1.34: any printable ASCII but `=`.
fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

/// The value of `valueFrom`; none if an optional source is missing.
fn value_from(
    inputs: &PodInputs<'_>,
    container: &Container,
    name: &str,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvError> {
    let downward = |source| EnvError::Downward {
        name: name.to_owned(),
        source,
    };
    if let Some(from) = &source.field_ref {
        return downward::field(inputs, &from.field_path)
            .map(Some)
            .map_err(downward);
    }
    if let Some(from) = &source.resource_field_ref {
        return downward::resource(inputs, Some(container), from)
            .map(Some)
            .map_err(downward);
    }
    if let Some(from) = &source.config_map_key_ref {
        return config_map_key(inputs, &from.name, &from.key, from.optional);
    }
    if let Some(from) = &source.secret_key_ref {
        return secret_key(inputs, &from.name, &from.key, from.optional);
    }
    let what = if source.file_key_ref.is_some() {
        "fileKeyRef"
    } else {
        "an empty valueFrom"
    };
    Err(EnvError::Unsupported {
        name: name.to_owned(),
        what,
    })
}

fn config_map_key(
    inputs: &PodInputs<'_>,
    name: &str,
    key: &str,
    is_optional: Option<bool>,
) -> Result<Option<String>, EnvError> {
    let Some(config_map) = inputs.config_maps.get(name) else {
        return optional(is_optional, "configmap", name).map(|()| None);
    };
    let value = config_map.data.as_ref().and_then(|data| data.get(key));
    if value.is_none() && !is_optional.unwrap_or(false) {
        let object = format!("{}/{name}", inputs.namespace());
        return Err(EnvError::Key {
            key: key.to_owned(),
            kind: "ConfigMap",
            object,
        });
    }
    Ok(value.cloned())
}

fn secret_key(
    inputs: &PodInputs<'_>,
    name: &str,
    key: &str,
    is_optional: Option<bool>,
) -> Result<Option<String>, EnvError> {
    let Some(secret) = inputs.secrets.get(name) else {
        return optional(is_optional, "secret", name).map(|()| None);
    };
    let object = || format!("{}/{name}", inputs.namespace());
    match secret.data.as_ref().and_then(|data| data.get(key)) {
        Some(value) => String::from_utf8(value.0.clone())
            .map(Some)
            .map_err(|_not_text| EnvError::Binary {
                key: key.to_owned(),
                kind: "Secret",
                object: object(),
            }),
        None if is_optional.unwrap_or(false) => Ok(None),
        None => Err(EnvError::Key {
            key: key.to_owned(),
            kind: "Secret",
            object: object(),
        }),
    }
}
