//! The checks of the restricted standard: what a hardened pod says of itself.

use super::baseline::{added_detail, adding, is_profile, seccomp_19};
use super::checks::Violation;
use super::pod::{Pod, Who, Words, items, plural, quoted, security, text};

/// What a pod may mount.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Other volumes, by the names the message has for them.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let allows = |container: &_| *security(container, "allowPrivilegeEscalation") != false;
    let who = Who::containers_of(pod, allows);
    if who.is_empty() {
        return None;
    }
    let who = who.containers();
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    Violation::new("allowPrivilegeEscalation != false", detail)
}

pub(super) fn escalation_25(pod: &Pod<'_>) -> Option<Violation> {
    escalation(pod).filter(|_| !pod.is_windows())
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let keeping = Who::containers_of(pod, |container| {
        !items(&security(container, "capabilities")["drop"]).any(|capability| capability == "ALL")
    });
    let (adding, added) = adding(pod, |capability| capability == "NET_BIND_SERVICE");
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = keeping.containers();
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if !adding.is_empty() {
        details.push(added_detail(&adding, &added));
    }
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

pub(super) fn capabilities_25(pod: &Pod<'_>) -> Option<Violation> {
    capabilities(pod).filter(|_| !pod.is_windows())
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let mut names = Vec::new();
    let mut kinds = Words::new();
    for volume in items(&pod.spec["volumes"]) {
        let has = |kind: &&&str| !volume[**kind].is_null();
        if VOLUMES.iter().any(|kind| has(&kind)) {
            continue;
        }
        let kind = OTHER_VOLUMES.iter().find(has).copied().unwrap_or("unknown");
        names.push(text(volume, "name"));
        kinds.insert(kind.to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let word = plural(names.len(), "volume", "volumes");
    let uses = plural(names.len(), "uses", "use");
    let what = plural(
        kinds.len(),
        "restricted volume type",
        "restricted volume types",
    );
    let (names, kinds) = (quoted(names), quoted(&kinds));
    Violation::new(
        "restricted volume types",
        format!("{word} {names} {uses} {what} {kinds}"),
    )
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let explicit = Who::of(pod, |owner| *security(owner, "runAsNonRoot") == false);
    if !explicit.is_empty() {
        let who = explicit.all();
        return Violation::new(
            reason,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let silent = *pod.security("runAsNonRoot") != true;
    let implicit = Who::containers_of(pod, |container| {
        silent && security(container, "runAsNonRoot").is_null()
    });
    if implicit.is_empty() {
        return None;
    }
    let who = implicit.containers();
    Violation::new(
        reason,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

pub(super) fn non_root_35(pod: &Pod<'_>) -> Option<Violation> {
    non_root(pod).filter(|_| !pod.has_user_namespace())
}

pub(super) fn user(pod: &Pod<'_>) -> Option<Violation> {
    let who = Who::of(pod, |owner| *security(owner, "runAsUser") == 0);
    if who.is_empty() {
        return None;
    }
    Violation::new(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", who.all()),
    )
}

pub(super) fn user_35(pod: &Pod<'_>) -> Option<Violation> {
    user(pod).filter(|_| !pod.has_user_namespace())
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(explicit) = seccomp_19(pod) {
        return Some(explicit);
    }
    let silent = !is_profile(text(pod.security("seccompProfile"), "type"));
    let implicit = Who::containers_of(pod, |container| {
        silent && security(container, "seccompProfile").is_null()
    });
    if implicit.is_empty() {
        return None;
    }
    let who = implicit.containers();
    let detail = format!(
        "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
    );
    Violation::new("seccompProfile", detail)
}

pub(super) fn seccomp_25(pod: &Pod<'_>) -> Option<Violation> {
    seccomp(pod).filter(|_| !pod.is_windows())
}
