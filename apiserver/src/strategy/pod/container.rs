//! Checks and defaults of containers.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::schema::{FieldError, Path};
use crate::strategy::Errors;
use crate::strategy::access::{Fields, default};

/// The pull policy follows from the tag: what may change under a name is always pulled.
pub(in crate::strategy) fn defaults(container: &mut Map<String, Value>) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = if is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    };
    default(container, "imagePullPolicy", policy);
}

/// Whether an image reference means the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// Checks a container by itself.
pub(in crate::strategy) fn check(container: &Value, at: &Path<'_>, out: &mut Errors) {
    image(container, at, out);
    ports(container, at, out);
    mounts(container, at, out);
}

fn image(container: &Value, at: &Path<'_>, out: &mut Errors) {
    let image = container.text("image");
    if image.is_empty() {
        out.push(FieldError::required(at.field("image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        out.push(FieldError::invalid(at.field("image"), image, detail));
    }
}

fn ports(container: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("ports");
    super::spec::unique_names(container.items("ports"), &at, out);
}

fn mounts(container: &Value, at: &Path<'_>, out: &mut Errors) {
    let mut paths = HashSet::new();
    let at_mounts = at.field("volumeMounts");
    for (index, mount) in container.items("volumeMounts").iter().enumerate() {
        let at = at_mounts.index(index);
        let path = mount.text("mountPath");
        if !paths.insert(path) {
            out.push(FieldError::invalid(
                at.field("mountPath"),
                path,
                "must be unique",
            ));
        }
        if !mount.text("subPath").is_empty() && !mount.text("subPathExpr").is_empty() {
            let value = mount.text("subPathExpr");
            let detail = "subPathExpr and subPath are mutually exclusive";
            out.push(FieldError::invalid(at.field("subPathExpr"), value, detail));
        }
        let privileged = container.at("securityContext").flag("privileged");
        if mount.text("mountPropagation") == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            out.push(FieldError::forbidden(at.field("mountPropagation"), detail));
        }
    }
    let at_devices = at.field("volumeDevices");
    for (index, device) in container.items("volumeDevices").iter().enumerate() {
        let at = at_devices.index(index);
        let path = device.text("devicePath");
        if !paths.insert(path) {
            let detail = "must not already exist as a path in volumeMounts";
            out.push(FieldError::invalid(at.field("devicePath"), path, detail));
        }
    }
}

/// Checks what a container says about the pod it is in. `list` is the list it stands in.
pub(super) fn check_in_pod(
    list: &str,
    container: &Value,
    spec: &Value,
    at: &Path<'_>,
    out: &mut Errors,
) {
    restart(list, container, at, out);
    match list {
        "initContainers" if container.text("restartPolicy") != "Always" => {
            for key in [
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if container.has(key) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    out.push(FieldError::forbidden(at.field(key), detail));
                }
            }
        }
        "ephemeralContainers" => ephemeral(container, spec, at, out),
        _ => {}
    }
}

fn restart(list: &str, container: &Value, at: &Path<'_>, out: &mut Errors) {
    let policy = container.text("restartPolicy");
    if policy.is_empty() {
        if !container.items("restartPolicyRules").is_empty() {
            let detail = "must specify restartPolicy when restart rules are used";
            out.push(FieldError::required(at.field("restartPolicy"), detail));
        }
        return;
    }
    if list == "ephemeralContainers" {
        let detail = "cannot be set for an Ephemeral Container";
        out.push(FieldError::forbidden(at.field("restartPolicy"), detail));
    } else if !matches!(policy, "Always" | "Never" | "OnFailure") {
        let known = ["Always", "Never", "OnFailure"];
        out.push(FieldError::not_supported(
            at.field("restartPolicy"),
            policy,
            &known,
        ));
    }
}

fn ephemeral(container: &Value, spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let forbidden = [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
    ];
    for key in forbidden {
        if container.has(key) {
            let detail = "cannot be set for an Ephemeral Container";
            out.push(FieldError::forbidden(at.field(key), detail));
        }
    }
    if container
        .at("resources")
        .as_object()
        .is_some_and(|r| !r.is_empty())
    {
        let detail = "cannot be set for an Ephemeral Container";
        out.push(FieldError::forbidden(at.field("resources"), detail));
    }
    let target = container.text("targetContainerName");
    let known = spec
        .items("containers")
        .iter()
        .chain(spec.items("initContainers"));
    if !target.is_empty() && !known.into_iter().any(|c| c.text("name") == target) {
        out.push(FieldError::not_found(
            at.field("targetContainerName"),
            target,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_latest() {
        let latest = ["a", "a:latest", "r.io:5000/a", "r.io/a/b:latest"];
        let pinned = ["a:1", "a@sha256:0", "a:latest@sha256:0", "r.io:5000/a:2"];
        assert!(latest.iter().all(|i| is_latest(i)));
        assert!(!pinned.iter().any(|i| is_latest(i)));
    }
}
