//! Checks of security contexts and of the annotations that carry security settings.

use serde_json::Value;

use crate::schema::{FieldError, Path};
use crate::strategy::Errors;
use crate::strategy::access::Fields;

/// Checks a container's security context.
pub(in crate::strategy) fn container(context: &Value, at: &Path<'_>, out: &mut Errors) {
    if context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            out.push(FieldError::invalid(at, context.clone(), detail));
        }
        let added = context.at("capabilities").items("add");
        if added.iter().any(|c| c == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and \
                          `capabilities.Add` CAP_SYS_ADMIN";
            out.push(FieldError::invalid(at, context.clone(), detail));
        }
    }
    profiles(context, at, out);
}

/// Checks a pod's security context.
pub(in crate::strategy) fn pod(context: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_groups = at.field("supplementalGroups");
    for (index, group) in context.items("supplementalGroups").iter().enumerate() {
        if group
            .as_i64()
            .is_some_and(|g| !(0..=2_147_483_647).contains(&g))
        {
            let detail = "must be between 0 and 2147483647, inclusive";
            out.push(FieldError::invalid(
                at_groups.index(index),
                group.clone(),
                detail,
            ));
        }
    }
    sysctls(context.items("sysctls"), &at.field("sysctls"), out);
    profiles(context, at, out);
}

fn sysctls(sysctls: &[Value], at: &Path<'_>, out: &mut Errors) {
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = at.index(index);
        let name = sysctl.text("name");
        if name.is_empty() {
            continue;
        }
        if sysctls.iter().take(index).any(|s| s.text("name") == name) {
            out.push(FieldError::duplicate(at.field("name"), name));
        }
        let part = |p: &str| {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
            !p.is_empty()
                && p.bytes().all(good)
                && !p.starts_with(['-', '_'])
                && !p.ends_with(['-', '_'])
        };
        if name.len() > 253 || !name.split(['.', '/']).all(part) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            out.push(FieldError::invalid(at.field("name"), name, detail));
        }
    }
}

fn profiles(context: &Value, at: &Path<'_>, out: &mut Errors) {
    for (key, name) in [
        ("seccompProfile", "seccomp"),
        ("appArmorProfile", "AppArmor"),
    ] {
        let profile = context.at(key);
        if profile.is_null() {
            continue;
        }
        let at = at.field(key);
        let local = profile.text("localhostProfile");
        let wanted = profile.text("type") == "Localhost";
        if wanted && local.is_empty() {
            let detail = match name {
                "seccomp" => "must be set when seccomp type is Localhost",
                _ => "must be set when AppArmor type is Localhost",
            };
            out.push(FieldError::required(at.field("localhostProfile"), detail));
        } else if !wanted && !local.is_empty() {
            let detail = match name {
                "seccomp" => "can only be set when seccomp type is Localhost",
                _ => "can only be set when type is Localhost",
            };
            out.push(FieldError::invalid(
                at.field("localhostProfile"),
                local,
                detail,
            ));
        }
        if name == "seccomp" && (local.starts_with('/') || local.split('/').any(|s| s == "..")) {
            let detail = "must be a relative path without '..'";
            out.push(FieldError::invalid(
                at.field("localhostProfile"),
                local,
                detail,
            ));
        }
    }
}

/// Checks the annotations that name a container's AppArmor profile.
pub(super) fn annotations(pod: &Value, out: &mut Errors) {
    let metadata = Path::new("metadata");
    let at = metadata.field("annotations");
    for (key, _) in pod.at("metadata").entries("annotations") {
        let prefix = "container.apparmor.security.beta.kubernetes.io/";
        let Some(name) = key.strip_prefix(prefix) else {
            continue;
        };
        let named = |list: &str| {
            pod.at("spec")
                .items(list)
                .iter()
                .any(|c| c.text("name") == name)
        };
        if !super::LISTS.iter().any(|list| named(list)) {
            out.push(FieldError::invalid(
                at.key(key),
                name,
                "container not found",
            ));
        }
    }
}
