//! The downward API: values of a pod's own fields and resources, as text.
//!
//! Follows kubelet: `fieldRef` as `k8s.io/kubernetes/pkg/fieldpath` extracts it, `resourceFieldRef` as
//! `pkg/api/v1/resource` does, with the node's allocatable resources for absent limits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use davit_api::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::inputs::{PodInputs, containers};

#[cfg(test)]
mod tests;

/// A field or resource that cannot be told. A retry helps only for the pod's addresses, which come with its network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// The path names no field that pods can ask for.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// The resource is none that containers can ask for.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// `containerName` names no container of the pod.
    #[error("container {0} not found")]
    Container(String),
    /// The divisor or a resource of the pod is no quantity.
    #[error("{field}: {value:?} is not a quantity")]
    Quantity {
        /// Which quantity.
        field: String,
        /// Its text.
        value: String,
    },
}

/// The value of `fieldRef.fieldPath`.
///
/// # Errors
/// The path is unknown.
pub fn field(inputs: &PodInputs<'_>, path: &str) -> Result<String, DownwardError> {
    let meta = &inputs.pod.metadata;
    let spec = inputs.pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let empty = BTreeMap::new();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(DownwardError::Field(path.to_owned())),
        };
        return Ok(text(map.and_then(|map| map.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => inputs.namespace().to_owned(),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref().unwrap_or(&empty)),
        "metadata.annotations" => format_map(meta.annotations.as_ref().unwrap_or(&empty)),
        "spec.nodeName" => inputs.node_name.to_owned(),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(inputs.host_ips),
        "status.hostIPs" => joined(inputs.host_ips),
        "status.podIP" => first(inputs.pod_ips),
        "status.podIPs" => joined(inputs.pod_ips),
        _ => return Err(DownwardError::Field(path.to_owned())),
    })
}

/// A digest of what a pod's volumes can show of the pod itself and what can change while it runs: labels, annotations and
/// resources. `None` for a pod without such volumes.
pub fn shown(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    let in_volumes = spec.volumes.iter().flatten().any(|volume| {
        let sources = volume
            .projected
            .as_ref()
            .and_then(|own| own.sources.as_ref());
        volume.downward_api.is_some()
            || sources
                .into_iter()
                .flatten()
                .any(|source| source.downward_api.is_some())
    });
    if !in_volumes {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    pod.metadata.labels.hash(&mut hasher);
    pod.metadata.annotations.hash(&mut hasher);
    for container in containers(spec) {
        let resources = container.resources.as_ref();
        let lists = resources.map(|own| [&own.requests, &own.limits]);
        for (name, amount) in lists.into_iter().flatten().flatten().flatten() {
            (&container.name, name, &amount.0).hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}

/// Splits `metadata.labels['key']` into map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_suffix("']")?;
    inner.split_once("['")
}

fn first(ips: &[IpAddr]) -> String {
    ips.first().map(ToString::to_string).unwrap_or_default()
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// One `key="value"` a line, sorted, quoted as Go's `%q` does.
fn format_map(map: &BTreeMap<String, String>) -> String {
    let lines = map
        .iter()
        .map(|(key, value)| format!("{key}={}", go_quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => {
                let _infallible = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _infallible = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of `resourceFieldRef`; `own` is the container asking, `None` for a volume, which must name one.
///
/// # Errors
/// The resource or the container is unknown, or a quantity is none.
pub fn resource(
    inputs: &PodInputs<'_>,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, DownwardError> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let container = match (name, own) {
        (None, Some(own)) => own,
        (name, _) => {
            let name = name.unwrap_or_default();
            let spec = inputs.pod.spec.as_ref();
            let found = spec.and_then(|spec| containers(spec).find(|c| c.name == name));
            found.ok_or_else(|| DownwardError::Container(name.to_owned()))?
        }
    };
    let amount = amount(inputs, container, &selector.resource)?;
    let divisor = match &selector.divisor {
        Some(divisor) => parse("divisor", &divisor.0)?,
        None => Quantity::default(),
    };
    let divisor = if divisor.is_zero() {
        Quantity::from_int(1)
    } else {
        divisor
    };
    let (amount, divisor) = if selector.resource.ends_with(".cpu") {
        (amount.milli_value(), divisor.milli_value())
    } else {
        (amount.value(), divisor.value())
    };
    // Rounded up, as kubelet does through a float; these integers are exact.
    let whole = amount.checked_div(divisor).unwrap_or(0);
    let rest = amount.checked_rem(divisor).unwrap_or(0);
    Ok(whole.saturating_add(i64::from(rest > 0)).to_string())
}

fn amount(
    inputs: &PodInputs<'_>,
    container: &Container,
    resource: &str,
) -> Result<Quantity, DownwardError> {
    let unsupported = || DownwardError::Resource(resource.to_owned());
    let (kind, name) = resource.split_once('.').ok_or_else(unsupported)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage");
    if !known && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let map = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    match map.and_then(|map| map.get(name)) {
        Some(quantity) => {
            let quantity = parse(resource, &quantity.0)?;
            if kind == "limits" && quantity.is_zero() && known {
                return Ok(inputs.allocatable.get(name).copied().unwrap_or_default());
            }
            Ok(quantity)
        }
        None if kind == "limits" && known => {
            Ok(inputs.allocatable.get(name).copied().unwrap_or_default())
        }
        None => Ok(Quantity::default()),
    }
}

fn parse(field: &str, text: &str) -> Result<Quantity, DownwardError> {
    let refuse = || DownwardError::Quantity {
        field: field.to_owned(),
        value: text.to_owned(),
    };
    text.parse().map_err(|_unparsable| refuse())
}
