//! A container's OCI runtime spec, worked out from what the agent asks for: pure, so that it can be read in tests.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use caps::CapsHashSet;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, Linux, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDevice,
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompBuilder,
    LinuxSyscallBuilder, Mount as OciMount, MountBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::{
    CPU_PERIOD_US, ContainerConfig, Error, Mount, MountKind, NetnsMode, Propagation, Resources,
    SandboxConfig, Seccomp,
};
use crate::seccomp;

/// What of the host goes into a spec.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostFacts {
    /// Devices named by the container, or all of them for a privileged one.
    pub(crate) devices: Vec<LinuxDevice>,
    /// Capabilities the container is granted.
    pub(crate) capabilities: CapsHashSet,
    /// Process whose namespaces are the pod's.
    pub(crate) shim_pid: i32,
    /// Process whose pid namespace the container is born in, where that is another container's.
    pub(crate) among: Option<i32>,
}

/// Files that tell of the host or of other containers, or let a process do harm.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Settings of the host that may be looked at.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The spec of one container.
pub(crate) fn build(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    group: &str,
    facts: &HostFacts,
) -> Result<Spec, Error> {
    assemble(sandbox, config, group, facts).map_err(|error| Error::Invalid {
        object: format!("container {}", config.name),
        field: "spec".to_owned(),
        problem: format!("gives no OCI runtime spec: {error}"),
    })
}

fn assemble(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    group: &str,
    facts: &HostFacts,
) -> Result<Spec, OciSpecError> {
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(config.rootfs.read_only)
        .build()?;
    SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .hostname(sandbox.hostname.as_str())
        .process(process(config, &facts.capabilities)?)
        .mounts(mounts(sandbox, config)?)
        .linux(linux(sandbox, config, group, facts)?)
        .build()
}

fn process(config: &ContainerConfig, capabilities: &CapsHashSet) -> Result<Process, OciSpecError> {
    let user = UserBuilder::default()
        .uid(config.user.uid.unwrap_or(0))
        .gid(config.user.gid.unwrap_or(0))
        .additional_gids(config.user.additional_gids.clone())
        .build()?;
    let granted: std::collections::HashSet<Capability> = capabilities
        .iter()
        .filter_map(|c| c.to_string().trim_start_matches("CAP_").parse().ok())
        .collect();
    let none = std::collections::HashSet::<Capability>::new;
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(granted.clone())
        .effective(granted.clone())
        .permitted(granted)
        .inheritable(none())
        .ambient(none())
        .build()?;
    let mut builder = ProcessBuilder::default()
        .terminal(config.tty)
        .user(user)
        .args(config.args.clone())
        .env(
            config
                .env
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>(),
        )
        .cwd(config.cwd.as_str())
        .capabilities(capabilities)
        .no_new_privileges(config.security.no_new_privileges)
        .rlimits(rlimits(config)?);
    if let Some(adjustment) = config.resources.oom_score_adj {
        builder = builder.oom_score_adj(adjustment);
    }
    builder.build()
}

fn rlimits(config: &ContainerConfig) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let one = |(name, soft, hard): &(String, u64, u64)| {
        let kind: PosixRlimitType = name
            .parse()
            .map_err(|_| OciSpecError::Other(format!("no resource limit is named {name}")))?;
        PosixRlimitBuilder::default()
            .typ(kind)
            .soft(*soft)
            .hard(*hard)
            .build()
    };
    config.rlimits.iter().map(one).collect()
}

/// What every container has, then what the pod asks for; a wish for the same place wins, outer places come first.
fn mounts(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
) -> Result<Vec<OciMount>, OciSpecError> {
    let asked: BTreeSet<&Path> = config
        .mounts
        .iter()
        .map(|m| Path::new(m.destination.as_str()))
        .collect();
    let mut all: Vec<OciMount> = standard_mounts(sandbox, config)?
        .into_iter()
        .filter(|mount| !asked.contains(mount.destination().as_path()))
        .collect();
    let mut wishes: Vec<&Mount> = config.mounts.iter().collect();
    wishes.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    for wish in wishes {
        all.push(volume_mount(wish)?);
    }
    Ok(all)
}

fn mount(to: &str, kind: &str, from: &str, options: &[&str]) -> Result<OciMount, OciSpecError> {
    MountBuilder::default()
        .destination(to)
        .typ(kind)
        .source(from)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
}

fn standard_mounts(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
) -> Result<Vec<OciMount>, OciSpecError> {
    let access = if config.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let locked = ["nosuid", "noexec", "nodev"];
    let with = |extra: &[&'static str]| [&locked[..], extra].concat();
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let shm = if sandbox.host_ipc {
        mount("/dev/shm", "bind", "/dev/shm", &with(&["rbind"]))?
    } else {
        let size = format!("size={}", sandbox.shm_bytes);
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        mount("/dev/shm", "tmpfs", "shm", &options)?
    };
    Ok(vec![
        mount("/proc", "proc", "proc", &locked)?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount("/dev/pts", "devpts", "devpts", &pts)?,
        shm,
        mount("/dev/mqueue", "mqueue", "mqueue", &locked)?,
        mount("/sys", "sysfs", "sysfs", &with(&[access]))?,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &with(&["relatime", access]),
        )?,
    ])
}

fn volume_mount(wish: &Mount) -> Result<OciMount, OciSpecError> {
    let propagation = match wish.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (wish.read_only, wish.recursive_read_only) {
        (false, _) => "rw",
        (true, false) => "ro",
        (true, true) => "rro",
    };
    match &wish.kind {
        MountKind::Bind { source, sub_path } => {
            let source: PathBuf = match sub_path {
                Some(beneath) => source.join(beneath),
                None => source.clone(),
            };
            MountBuilder::default()
                .destination(wish.destination.as_str())
                .typ("bind")
                .source(source)
                .options(vec![
                    "rbind".to_owned(),
                    propagation.to_owned(),
                    access.to_owned(),
                ])
                .build()
        }
        MountKind::OwnRoot => mount(
            &wish.destination,
            "bind",
            &wish.destination,
            &["bind", propagation, access],
        ),
        MountKind::Tmpfs { size_bytes, mode } => {
            let mode = format!("mode={mode:o}");
            let size = size_bytes.map(|bytes| format!("size={bytes}"));
            let mut options = vec!["nosuid", "nodev", access, propagation, &mode];
            options.extend(size.as_deref());
            mount(&wish.destination, "tmpfs", "tmpfs", &options)
        }
    }
}

fn linux(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    group: &str,
    facts: &HostFacts,
) -> Result<Linux, OciSpecError> {
    let security = &config.security;
    let open = security.privileged || security.unmasked_proc;
    let list = |paths: &[&str]| {
        if open {
            Vec::new()
        } else {
            paths.iter().map(|p| (*p).to_owned()).collect()
        }
    };
    let mut builder = LinuxBuilder::default()
        .namespaces(namespaces(sandbox, facts)?)
        .cgroups_path(format!("/{group}"))
        .resources(resources(config, facts)?)
        .devices(facts.devices.clone())
        .masked_paths(list(&MASKED))
        .readonly_paths(list(&READ_ONLY))
        .rootfs_propagation("rprivate");
    if let Some(profile) = seccomp_section(config, &facts.capabilities)? {
        builder = builder.seccomp(profile);
    }
    builder.build()
}

/// Namespaces a container makes itself have no path; the pod's are those of its shim; the host's are left out.
fn namespaces(
    sandbox: &SandboxConfig,
    facts: &HostFacts,
) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let own = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    let at = |kind, path: String| {
        LinuxNamespaceBuilder::default()
            .typ(kind)
            .path(path)
            .build()
    };
    let pods = |kind, file: &str| at(kind, format!("/proc/{}/ns/{file}", facts.shim_pid));
    let mut all = vec![
        own(LinuxNamespaceType::Mount)?,
        own(LinuxNamespaceType::Cgroup)?,
    ];
    if !sandbox.host_pid {
        all.push(match facts.among {
            _ if sandbox.share_pid => {
                let holder = format!("/proc/{}/ns/pid_for_children", facts.shim_pid);
                at(LinuxNamespaceType::Pid, holder)?
            }
            Some(pid) => at(LinuxNamespaceType::Pid, format!("/proc/{pid}/ns/pid"))?,
            None => own(LinuxNamespaceType::Pid)?,
        });
    }
    if sandbox.netns != NetnsMode::Host {
        all.push(pods(LinuxNamespaceType::Network, "net")?);
        all.push(pods(LinuxNamespaceType::Uts, "uts")?);
    }
    if !sandbox.host_ipc {
        all.push(pods(LinuxNamespaceType::Ipc, "ipc")?);
    }
    Ok(all)
}

fn resources(config: &ContainerConfig, facts: &HostFacts) -> Result<LinuxResources, OciSpecError> {
    let Resources {
        memory_bytes,
        cpu_shares,
        cpu_quota_us,
        pids_max,
        ..
    } = config.resources;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut builder = LinuxResourcesBuilder::default().devices(device_rules(config, facts)?);
    if let Some(bytes) = memory_bytes {
        builder = builder.memory(LinuxMemoryBuilder::default().limit(signed(bytes)).build()?);
    }
    if cpu_shares.is_some() || cpu_quota_us.is_some() {
        let mut cpu = LinuxCpuBuilder::default();
        if let Some(shares) = cpu_shares {
            cpu = cpu.shares(shares);
        }
        if let Some(quota) = cpu_quota_us {
            cpu = cpu.quota(signed(quota)).period(CPU_PERIOD_US);
        }
        builder = builder.cpu(cpu.build()?);
    }
    if let Some(max) = pids_max {
        builder = builder.pids(LinuxPidsBuilder::default().limit(signed(max)).build()?);
    }
    builder.build()
}

/// Nodes may be made of any device, but only the harmless ones and those asked for can be opened.
fn device_rules(
    config: &ContainerConfig,
    facts: &HostFacts,
) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    use LinuxDeviceType::{A, B, C};
    let rule = |kind, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut builder = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .access(access);
        if let Some(major) = major {
            builder = builder.major(major);
        }
        if let Some(minor) = minor {
            builder = builder.minor(minor);
        }
        builder.build()
    };
    if config.security.privileged {
        return Ok(vec![rule(A, None, None, "rwm")?]);
    }
    let deny = LinuxDeviceCgroupBuilder::default()
        .allow(false)
        .typ(A)
        .access("rwm")
        .build()?;
    let mut rules = vec![deny, rule(C, None, None, "m")?, rule(B, None, None, "m")?];
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        rules.push(rule(C, Some(major), Some(minor), "rwm")?);
    }
    rules.push(rule(C, Some(136), None, "rwm")?);
    for device in &facts.devices {
        rules.push(rule(
            device.typ(),
            Some(device.major()),
            Some(device.minor()),
            "rwm",
        )?);
    }
    Ok(rules)
}

/// The filter in the words of OCI, for other runtimes; davit's shim gets it compiled.
fn seccomp_section(
    config: &ContainerConfig,
    capabilities: &CapsHashSet,
) -> Result<Option<LinuxSeccomp>, OciSpecError> {
    if config.security.privileged {
        return Ok(None);
    }
    match &config.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Profile(json) => serde_json::from_value(json.clone())
            .map(Some)
            .map_err(OciSpecError::SerDe),
        Seccomp::RuntimeDefault => {
            let allowed = LinuxSyscallBuilder::default()
                .names(seccomp::default_allowed(capabilities))
                .action(LinuxSeccompAction::ScmpActAllow)
                .build()?;
            LinuxSeccompBuilder::default()
                .default_action(LinuxSeccompAction::ScmpActErrno)
                .syscalls(vec![allowed])
                .build()
                .map(Some)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
