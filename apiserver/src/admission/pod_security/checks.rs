//! The table of checks, and how a pod is held against it.

use super::pod::Pod;
use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Violation {
    /// In a few words.
    pub(super) reason: String,
    /// Who and what exactly; may be empty.
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        let (reason, detail) = (reason.into(), detail.into());
        Some(Self { reason, detail })
    }
}

/// Finds nothing in a pod that keeps to the standard.
type Find = fn(&Pod<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor version on which revision holds, oldest first.
    revisions: &'static [(u32, Find)],
    /// The check of the baseline that this one takes the place of.
    instead_of: &'static str,
}

const fn baseline(id: &'static str, revisions: &'static [(u32, Find)]) -> Check {
    Check {
        id,
        level: Level::Baseline,
        revisions,
        instead_of: "",
    }
}

const fn restricted(
    id: &'static str,
    revisions: &'static [(u32, Find)],
    instead_of: &'static str,
) -> Check {
    Check {
        id,
        level: Level::Restricted,
        revisions,
        instead_of,
    }
}

/// The Pod Security Standards up to 1.37, in the order of their messages.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, baseline::app_armor)]),
    baseline("capabilities_baseline", &[(0, baseline::capabilities)]),
    baseline("hostNamespaces", &[(0, baseline::host_namespaces)]),
    baseline("hostPathVolumes", &[(0, baseline::host_paths)]),
    baseline("hostPorts", &[(0, baseline::host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, baseline::hook_hosts)]),
    baseline("privileged", &[(0, baseline::privileged)]),
    baseline(
        "procMount",
        &[(0, baseline::proc_mount), (35, baseline::proc_mount_35)],
    ),
    baseline(
        "seLinuxOptions",
        &[(0, baseline::se_linux), (31, baseline::se_linux_31)],
    ),
    baseline(
        "seccompProfile_baseline",
        &[
            (0, baseline::seccomp_annotations),
            (19, baseline::seccomp_19),
        ],
    ),
    baseline(
        "sysctls",
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
            (37, baseline::sysctls_37),
        ],
    ),
    baseline("windowsHostProcess", &[(0, baseline::host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[(8, restricted::escalation), (25, restricted::escalation_25)],
        "",
    ),
    restricted(
        "capabilities_restricted",
        &[
            (22, restricted::capabilities),
            (25, restricted::capabilities_25),
        ],
        "capabilities_baseline",
    ),
    restricted(
        "procMount_restricted",
        &[(35, baseline::proc_mount)],
        "procMount",
    ),
    restricted(
        "restrictedVolumes",
        &[(0, restricted::volumes)],
        "hostPathVolumes",
    ),
    restricted(
        "runAsNonRoot",
        &[(0, restricted::non_root), (35, restricted::non_root_35)],
        "",
    ),
    restricted(
        "runAsUser",
        &[(23, restricted::user), (35, restricted::user_35)],
        "",
    ),
    restricted(
        "seccompProfile_restricted",
        &[(19, restricted::seccomp), (25, restricted::seccomp_25)],
        "seccompProfile_baseline",
    ),
];

impl Check {
    /// The revision of a version.
    fn at(&self, version: Version) -> Option<Find> {
        let mut revisions = self.revisions.iter().rev();
        let found = revisions.find(|(since, _)| Version::Minor(*since) <= version);
        found.map(|(_, find)| *find)
    }
}

/// Everything in which a pod does not keep to a standard.
pub(super) fn violations(standard: Standard, pod: &Pod<'_>) -> Vec<Violation> {
    let wanted = |check: &&Check| check.level <= standard.level;
    let active: Vec<(&Check, Find)> = CHECKS
        .iter()
        .filter(wanted)
        .filter_map(|check| Some((check, check.at(standard.version)?)))
        .collect();
    let replaced = |id: &str| active.iter().any(|(check, _)| check.instead_of == id);
    let left = active.iter().filter(|(check, _)| !replaced(check.id));
    left.filter_map(|(_, find)| find(pod)).collect()
}

/// `host ports (8080, 9090), privileged`.
pub(super) fn in_detail(violations: &[Violation]) -> String {
    let parts = violations.iter().map(|violation| {
        if violation.detail.is_empty() {
            violation.reason.clone()
        } else {
            format!("{} ({})", violation.reason, violation.detail)
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// `host ports, privileged`.
pub(super) fn in_short(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|v| v.reason.as_str()).collect();
    reasons.join(", ")
}
