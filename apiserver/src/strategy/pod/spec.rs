//! Checks over a whole pod spec: what its parts say about each other.

use std::collections::HashSet;

use serde_json::Value;

use super::LISTS;
use super::container;
use crate::schema::{FieldError, Path};
use crate::strategy::Errors;
use crate::strategy::access::Fields;

/// Checks a pod spec beyond its single fields.
pub(in crate::strategy) fn check(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    unique_names(spec.items("volumes"), &at.field("volumes"), out);
    container_names(spec, at, out);
    for list in LISTS {
        let at_list = at.field(list);
        for (index, item) in spec.items(list).iter().enumerate() {
            container::check_in_pod(list, item, spec, &at_list.index(index), out);
        }
    }
    host_ports(spec, at, out);
    dns(spec, at, out);
    pull_secrets(spec, at, out);
    constraints(spec, at, out);
    unique_names(
        spec.items("schedulingGates"),
        &at.field("schedulingGates"),
        out,
    );
    unique_names(
        spec.items("resourceClaims"),
        &at.field("resourceClaims"),
        out,
    );
    host(spec, at, out);
}

/// Checks that what containers mount is there: a volume of the pod, or one of the `claims` that a StatefulSet gives its pods
/// as volumes.
pub(in crate::strategy) fn mounts(spec: &Value, claims: &[Value], at: &Path<'_>, out: &mut Errors) {
    let volumes = spec.items("volumes").iter().map(|v| v.text("name"));
    let claims = claims.iter().map(|c| c.at("metadata").text("name"));
    let known: HashSet<&str> = volumes.chain(claims).collect();
    for list in LISTS {
        let at_list = at.field(list);
        for (index, container) in spec.items(list).iter().enumerate() {
            let at_container = at_list.index(index);
            for kind in ["volumeMounts", "volumeDevices"] {
                let at_mounts = at_container.field(kind);
                for (index, mount) in container.items(kind).iter().enumerate() {
                    let name = mount.text("name");
                    if !name.is_empty() && !known.contains(name) {
                        let at = at_mounts.index(index);
                        out.push(FieldError::not_found(at.field("name"), name));
                    }
                }
            }
        }
    }
}

/// Checks that no two items of a list have the same name.
pub(super) fn unique_names(items: &[Value], at: &Path<'_>, out: &mut Errors) {
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let name = item.text("name");
        if !name.is_empty() && !seen.insert(name) {
            let at = at.index(index);
            out.push(FieldError::duplicate(at.field("name"), name));
        }
    }
}

fn container_names(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for list in LISTS {
        let at_list = at.field(list);
        for (index, item) in spec.items(list).iter().enumerate() {
            let name = item.text("name");
            if !name.is_empty() && !seen.insert(name) {
                let at = at_list.index(index);
                out.push(FieldError::duplicate(at.field("name"), name));
            }
        }
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let host_network = spec.flag("hostNetwork");
    let mut seen = HashSet::new();
    let sidecar = |c: &Value| c.text("restartPolicy") == "Always";
    for list in ["containers", "initContainers"] {
        let at_list = at.field(list);
        for (index, container) in spec.items(list).iter().enumerate() {
            let at_container = at_list.index(index);
            let at_ports = at_container.field("ports");
            for (index, port) in container.items("ports").iter().enumerate() {
                let at_port = at_ports.index(index);
                let at_host = at_port.field("hostPort");
                let number = port.int("hostPort").unwrap_or(0);
                if host_network && number != 0 && Some(number) != port.int("containerPort") {
                    let detail = "must match `containerPort` when `hostNetwork` is true";
                    out.push(FieldError::invalid(at_host, number, detail));
                }
                // Ordinary init containers run one after another and may reuse a port.
                if number == 0 || (list == "initContainers" && !sidecar(container)) {
                    continue;
                }
                let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
                if seen.contains(&key) {
                    out.push(FieldError::duplicate(at_host, key));
                } else {
                    seen.insert(key);
                }
            }
        }
    }
}

fn dns(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_config = at.field("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if !spec.has("dnsConfig") {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            out.push(FieldError::required(at_config, detail));
        } else if spec.at("dnsConfig").items("nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            out.push(FieldError::required(at_config.field("nameservers"), detail));
        }
    }
    let searches = spec.at("dnsConfig").items("searches");
    let length: usize = searches
        .iter()
        .filter_map(Value::as_str)
        .map(|s| s.len() + 1)
        .sum();
    if length > 2049 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        out.push(FieldError::invalid(
            at_config.field("searches"),
            Value::from(searches),
            detail,
        ));
    }
}

fn pull_secrets(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("imagePullSecrets");
    for (index, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            let at = at.index(index);
            out.push(FieldError::required(at.field("name"), ""));
        }
    }
}

fn constraints(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("topologySpreadConstraints");
    let constraints = spec.items("topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        let key = |c: &Value| {
            format!(
                "{{{}, {}}}",
                c.text("topologyKey"),
                c.text("whenUnsatisfiable")
            )
        };
        if constraints
            .iter()
            .take(index)
            .any(|earlier| key(earlier) == key(constraint))
        {
            let path = at.field("{topologyKey, whenUnsatisfiable}");
            out.push(FieldError::duplicate(path, key(constraint)));
        }
        if let Some(domains) = constraint.int("minDomains") {
            if domains <= 0 {
                let detail = "must be greater than 0";
                out.push(FieldError::invalid(at.field("minDomains"), domains, detail));
            }
            if constraint.text("whenUnsatisfiable") != "DoNotSchedule" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, \
                              not ScheduleAnyway";
                out.push(FieldError::invalid(at.field("minDomains"), domains, detail));
            }
        }
    }
}

fn host(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        out.push(FieldError::invalid(
            at.field("shareProcessNamespace"),
            true,
            detail,
        ));
    }
    if spec.get("hostUsers") == Some(&Value::Bool(false)) {
        for key in ["hostPID", "hostIPC"] {
            if spec.flag(key) {
                let detail = "when `hostUsers` is false";
                out.push(FieldError::forbidden(at.field(key), detail));
            }
        }
    }
}
