//! The checks of the baseline standard: what is known to lead out of a container.

use serde_json::Value;

use super::checks::Violation;
use super::pod::{Pod, Who, Words, items, plural, quoted, security, text};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Kernel parameters that reach no further than the pod, in the order in which versions added them.
const SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];
const SE_LINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Whether a seccomp or AppArmor profile is one that protects.
pub(super) fn is_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Words::new();
    let mut who = Who::of(pod, |owner| {
        let profile = security(owner, "appArmorProfile");
        let kind = text(profile, "type");
        let bad = !profile.is_null() && !is_profile(kind);
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    });
    let annotations = pod.annotations().filter(|(key, value)| {
        let allowed = ["", "runtime/default"].contains(value) || value.starts_with("localhost/");
        key.starts_with(APP_ARMOR) && !allowed
    });
    let annotations: Words = annotations.map(|(k, v)| format!("{k}={v:?}")).collect();
    if !annotations.is_empty() {
        who.also(plural(annotations.len(), "annotation", "annotations"));
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let one = "forbidden AppArmor profile";
    let reason = plural(values.len(), one, "forbidden AppArmor profiles");
    let (who, values) = (who.all(), quoted(&values));
    Violation::new(
        reason,
        format!("{who} must not set AppArmor profile type to {values}"),
    )
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let (who, added) = adding(pod, |capability| CAPABILITIES.contains(&capability));
    if who.is_empty() {
        return None;
    }
    Violation::new("non-default capabilities", added_detail(&who, &added))
}

/// The containers that add capabilities which are not allowed, and which ones.
pub(super) fn adding(pod: &Pod<'_>, allowed: impl Fn(&str) -> bool) -> (Who, Words) {
    let mut added = Words::new();
    let who = Who::containers_of(pod, |container| {
        let bad = items(&security(container, "capabilities")["add"]).filter_map(Value::as_str);
        let bad: Vec<&str> = bad.filter(|capability| !allowed(capability)).collect();
        added.extend(bad.iter().map(|capability| (*capability).to_owned()));
        !bad.is_empty()
    });
    (who, added)
}

pub(super) fn added_detail(who: &Who, added: &Words) -> String {
    let (who, added) = (who.containers(), quoted(added));
    format!("{who} must not include {added} in securityContext.capabilities.add")
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let shared = fields.iter().filter(|field| pod.spec[**field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = items(&pod.spec["volumes"]).filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
    if names.is_empty() {
        return None;
    }
    let word = plural(names.len(), "volume", "volumes");
    Violation::new("hostPath volumes", format!("{word} {}", quoted(names)))
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = Words::new();
    let who = Who::containers_of(pod, |container| {
        let used = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        let used: Vec<i64> = used.filter(|port| *port != 0).collect();
        ports.extend(used.iter().map(i64::to_string));
        !used.is_empty()
    });
    if who.is_empty() {
        return None;
    }
    let word = plural(ports.len(), "hostPort", "hostPorts");
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    let detail = format!("{} {} {word} {ports}", who.containers(), who.uses());
    Violation::new("hostPort", detail)
}

pub(super) fn hook_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = Words::new();
    let mut names = Words::new();
    for container in pod.containers() {
        let hooks = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        let actions = hooks
            .iter()
            .flat_map(|hook| [&hook["httpGet"], &hook["tcpSocket"]]);
        let used = actions.map(|action| text(action, "host"));
        for host in used.filter(|host| !host.is_empty()) {
            hosts.insert(host.to_owned());
            names.insert(text(container, "name").to_owned());
        }
    }
    if names.is_empty() {
        return None;
    }
    let word = plural(names.len(), "container", "containers");
    let uses = plural(names.len(), "uses", "use");
    let one = "probe or lifecycle host";
    let what = plural(hosts.len(), one, "probe or lifecycle hosts");
    let (names, hosts) = (quoted(&names), quoted(&hosts));
    Violation::new(one, format!("{word} {names} {uses} {what} {hosts}"))
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let who = Who::containers_of(pod, |container| *security(container, "privileged") == true);
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        who.containers()
    );
    Violation::new("privileged", detail)
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Words::new();
    let who = Who::containers_of(pod, |container| {
        let kind = security(container, "procMount").as_str();
        let bad = kind.filter(|kind| *kind != "Default");
        kinds.extend(bad.map(str::to_owned));
        bad.is_some()
    });
    if who.is_empty() {
        return None;
    }
    let (who, kinds) = (who.containers(), quoted(&kinds));
    Violation::new(
        "procMount",
        format!("{who} must not set securityContext.procMount to {kinds}"),
    )
}

pub(super) fn proc_mount_35(pod: &Pod<'_>) -> Option<Violation> {
    proc_mount(pod).filter(|_| !pod.has_user_namespace())
}

pub(super) fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    se_linux_of(pod, 4)
}

pub(super) fn se_linux_31(pod: &Pod<'_>) -> Option<Violation> {
    se_linux_of(pod, 5)
}

fn se_linux_of(pod: &Pod<'_>, types: usize) -> Option<Violation> {
    let mut bad_types = Words::new();
    let (mut user, mut role) = (false, false);
    let who = Who::of(pod, |owner| {
        let options = security(owner, "seLinuxOptions");
        let kind = text(options, "type");
        let bad_type = !SE_LINUX_TYPES
            .iter()
            .take(types)
            .any(|known| *known == kind);
        let (has_user, has_role) = (
            !text(options, "user").is_empty(),
            !text(options, "role").is_empty(),
        );
        if bad_type {
            bad_types.insert(kind.to_owned());
        }
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    });
    if who.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !bad_types.is_empty() {
        let word = plural(bad_types.len(), "type", "types");
        what.push(format!("{word} {}", quoted(&bad_types)));
    }
    what.extend(user.then(|| "user may not be set".to_owned()));
    what.extend(role.then(|| "role may not be set".to_owned()));
    let (who, what) = (who.all(), what.join("; "));
    Violation::new(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let containers: Vec<String> = pod
        .containers()
        .map(|container| format!("{SECCOMP_CONTAINER}{}", text(container, "name")))
        .collect();
    let bad = pod.annotations().filter(|(key, value)| {
        let about = *key == SECCOMP_POD || containers.iter().any(|name| name == key);
        let allowed = ["runtime/default", "docker/default"].contains(value);
        about && !allowed && !value.starts_with("localhost/")
    });
    let bad: Words = bad.map(|(key, value)| format!("{key}={value:?}")).collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural(bad.len(), "annotation", "annotations");
    let bad = bad.into_iter().collect::<Vec<_>>().join(", ");
    Violation::new("seccompProfile", format!("forbidden {word} {bad}"))
}

pub(super) fn seccomp_19(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Words::new();
    let who = Who::of(pod, |owner| {
        let profile = security(owner, "seccompProfile");
        let kind = text(profile, "type");
        let bad = !profile.is_null() && !is_profile(kind);
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    });
    if who.is_empty() {
        return None;
    }
    let (who, kinds) = (who.all(), quoted(&kinds));
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {kinds}");
    Violation::new("seccompProfile", detail)
}

pub(super) fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_of(pod, 5)
}

pub(super) fn sysctls_27(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_of(pod, 6)
}

pub(super) fn sysctls_29(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_of(pod, 10)
}

pub(super) fn sysctls_32(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_of(pod, 12)
}

pub(super) fn sysctls_37(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_of(pod, 14)
}

fn sysctls_of(pod: &Pod<'_>, known: usize) -> Option<Violation> {
    let names = items(pod.security("sysctls")).map(|sysctl| text(sysctl, "name"));
    let bad = names.filter(|name| !SYSCTLS.iter().take(known).any(|safe| safe == name));
    let bad: Vec<&str> = bad.collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let who = Who::of(pod, |owner| {
        security(owner, "windowsOptions")["hostProcess"] == true
    });
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        who.all()
    );
    Violation::new("hostProcess", detail)
}
