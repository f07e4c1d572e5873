//! From an OCI runtime spec to the steps the shim carries out: pure.
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capability, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespaceType, Mount as OciMount, Spec,
};

use super::{ContainerConfig, Error, Mount, MountKind, SandboxConfig};
use crate::cgroup::{Access, DeviceKind, DeviceRule};
use crate::kernel::mount::attr;
use crate::kernel::path::{normal_absolute, normal_relative};
use crate::shim::protocol::{
    CapabilityBits, DeviceNode, Launch, LogPlan, MountSource, MountStep, ProcessPlan, SpreadPlan,
};

/// Devices in every container's `/dev`: name, major, minor.
const STANDARD_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The plan for one container. `bundle` is the directory of its records.
///
/// # Errors
/// [`Error::Invalid`] for what no container can have.
pub(crate) fn plan(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    spec: &Spec,
    group: &str,
    bundle: PathBuf,
) -> Result<Launch, Error> {
    check(config)?;
    let linux = spec.linux().as_ref();
    let namespaces = linux
        .and_then(|l| l.namespaces().as_deref())
        .unwrap_or_default();
    let paths = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    Ok(Launch {
        id: config.id.clone(),
        name: config.name.clone(),
        attempt: config.attempt,
        bundle,
        rootfs: config.rootfs.clone(),
        mounts: mount_steps(sandbox, config, spec)?,
        devices: device_nodes(spec),
        masked_paths: paths(linux.and_then(|l| l.masked_paths().as_ref())),
        readonly_paths: paths(linux.and_then(|l| l.readonly_paths().as_ref())),
        own_pid_namespace: namespaces
            .iter()
            .any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none()),
        among: config
            .among
            .clone()
            .filter(|_| !sandbox.share_pid && !sandbox.host_pid),
        group: group.to_owned(),
        resources: config.resources.clone(),
        device_rules: device_rules(spec),
        process: process_plan(sandbox, config, spec)?,
        log: LogPlan {
            path: config.log_path.clone(),
            max_bytes: config.log_max_bytes,
            max_files: config.log_max_files,
        },
    })
}

fn invalid(config: &ContainerConfig, field: &str, problem: impl Into<String>) -> Error {
    Error::Invalid {
        object: format!("container {}", config.name),
        field: field.to_owned(),
        problem: problem.into(),
    }
}

/// What would otherwise fail late or act on something else than was meant.
fn check(config: &ContainerConfig) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if config.id.is_empty() || config.id.starts_with('.') || !config.id.chars().all(plain) {
        return Err(invalid(
            config,
            "id",
            "must be letters, digits, '-', '_' and '.'",
        ));
    }
    if config.args.first().is_none_or(String::is_empty) {
        return Err(invalid(
            config,
            "command",
            "is empty, and so is the image's; name a program",
        ));
    }
    if !config.cwd.starts_with('/') {
        return Err(invalid(config, "workingDir", "must be an absolute path"));
    }
    if config.rootfs.lower.is_empty() {
        return Err(invalid(config, "rootfs", "has no layer"));
    }
    let texts = config
        .args
        .iter()
        .chain(config.env.iter().flat_map(|(k, v)| [k, v]));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(invalid(config, "command or env", "holds a NUL character"));
    }
    if config
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(invalid(
            config,
            "env",
            "has a name that is empty or holds '='",
        ));
    }
    for mount in &config.mounts {
        check_mount(mount).map_err(|problem| invalid(config, "mountPath", problem))?;
    }
    Ok(())
}

/// Paths come here in their one form; in any other they would be checked as one place and used as another.
fn check_mount(mount: &Mount) -> Result<(), String> {
    let destination = mount.destination.as_str();
    let path = Path::new(destination);
    // As text: paths compare by their steps, which would be the very thing asked.
    if path.as_os_str() != normal_absolute(destination).as_os_str() {
        return Err(format!(
            "is {destination:?}, which has steps that lead nowhere"
        ));
    }
    if path == Path::new("/") || path.starts_with("/proc") {
        return Err(format!(
            "cannot be {destination:?}: not the root, nor in /proc"
        ));
    }
    let MountKind::Bind {
        sub_path: Some(beneath),
        ..
    } = &mount.kind
    else {
        return Ok(());
    };
    match beneath.to_str().and_then(normal_relative) {
        Some(normal) if normal.as_os_str() == beneath.as_os_str() => Ok(()),
        _ => Err(format!(
            "{destination:?} shows {beneath:?}, which leads out of its volume"
        )),
    }
}

fn mount_steps(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    spec: &Spec,
) -> Result<Vec<MountStep>, Error> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts
        .iter()
        .map(|mount| {
            let mut step = mount_step(mount)
                .map_err(|option| invalid(config, "mount", format!("has option {option:?}")))?;
            let shared = mount.source().as_deref() == Some(Path::new("shm"));
            if shared && step.target == "/dev/shm" && !sandbox.host_ipc {
                step.source = MountSource::SharedMemory;
            }
            restore_source(config, &mut step);
            Ok(step)
        })
        .collect()
}

/// The spec has no words for two things: a sub-path is joined to its source there, and resolving it safely needs both
/// parts; and what the root itself has at a place looks like a path of the host.
fn restore_source(config: &ContainerConfig, step: &mut MountStep) {
    let wish = config
        .mounts
        .iter()
        .find(|wish| wish.destination == step.target);
    let (base, beneath) = match wish.map(|w| &w.kind) {
        Some(MountKind::Bind {
            source: base,
            sub_path: Some(beneath),
        }) => (base, beneath),
        Some(MountKind::OwnRoot) => {
            step.source = MountSource::OwnRoot;
            return;
        }
        _ => return,
    };
    if let MountSource::Bind {
        source, sub_path, ..
    } = &mut step.source
    {
        *source = base.clone();
        *sub_path = Some(beneath.clone());
    }
}

/// Reads a mount of the spec; a word that means nothing to a bind mount is the error.
fn mount_step(mount: &OciMount) -> Result<MountStep, String> {
    let mut step = MountStep {
        target: mount.destination().to_string_lossy().into_owned(),
        source: MountSource::Cgroups,
        attributes: 0,
        recursive: false,
        spread: SpreadPlan::Private,
    };
    let mut parameters = Vec::new();
    let mut alone = true;
    for option in mount.options().as_deref().unwrap_or_default() {
        match option.as_str() {
            "ro" => step.attributes |= attr::READ_ONLY,
            "rro" => {
                step.attributes |= attr::READ_ONLY;
                step.recursive = true;
            }
            "nosuid" => step.attributes |= attr::NO_SUID,
            "nodev" => step.attributes |= attr::NO_DEV,
            "noexec" => step.attributes |= attr::NO_EXEC,
            "bind" => {}
            "rbind" => alone = false,
            "rprivate" | "private" => step.spread = SpreadPlan::Private,
            "rslave" | "slave" => step.spread = SpreadPlan::Slave,
            "rshared" | "shared" => step.spread = SpreadPlan::Shared,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "strictatime" => {}
            other => parameters.push(match other.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (other.to_owned(), None),
            }),
        }
    }
    step.source = match mount.typ().as_deref() {
        Some("cgroup" | "cgroup2") => MountSource::Cgroups,
        Some("bind") | None => match parameters.into_iter().next() {
            Some((option, _)) => return Err(option),
            None => MountSource::Bind {
                source: mount.source().clone().unwrap_or_default(),
                sub_path: None,
                alone,
            },
        },
        Some(kind) => MountSource::FileSystem {
            kind: kind.to_owned(),
            parameters,
        },
    };
    Ok(step)
}

fn device_nodes(spec: &Spec) -> Vec<DeviceNode> {
    let standard = STANDARD_DEVICES
        .iter()
        .map(|(path, major, minor)| DeviceNode {
            path: (*path).to_owned(),
            block: false,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    let asked = spec
        .linux()
        .iter()
        .flat_map(|l| l.devices().as_deref().unwrap_or_default());
    let asked = asked
        .filter(|device| matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C))
        .map(|device| DeviceNode {
            path: device.path().to_string_lossy().into_owned(),
            block: device.typ() == LinuxDeviceType::B,
            major: u32::try_from(device.major()).unwrap_or(0),
            minor: u32::try_from(device.minor()).unwrap_or(0),
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    let mut known = HashSet::new();
    standard
        .chain(asked)
        .filter(|node| known.insert(node.path.clone()))
        .collect()
}

/// The allow list; none when the spec allows everything.
fn device_rules(spec: &Spec) -> Option<Vec<DeviceRule>> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    let rules = resources.devices().as_deref()?;
    let everything = |rule: &LinuxDeviceCgroup| {
        rule.allow() && rule.typ() == Some(LinuxDeviceType::A) && rule.major().is_none()
    };
    if rules.iter().any(everything) {
        return None;
    }
    Some(
        rules
            .iter()
            .filter(|rule| rule.allow())
            .map(device_rule)
            .collect(),
    )
}

fn device_rule(rule: &LinuxDeviceCgroup) -> DeviceRule {
    let words = rule.access().as_deref().unwrap_or("rwm");
    let flags = [
        ('r', Access::READ),
        ('w', Access::WRITE),
        ('m', Access::MKNOD),
    ];
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    DeviceRule {
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => DeviceKind::Block,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
            _ => DeviceKind::Any,
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: flags
            .into_iter()
            .filter(|(letter, _)| words.contains(*letter))
            .fold(Access::default(), |access, (_, flag)| access | flag),
    }
}

fn process_plan(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    spec: &Spec,
) -> Result<ProcessPlan, Error> {
    let process = spec.process().as_ref();
    let capabilities = process.and_then(|p| p.capabilities().as_ref());
    let bits = |set: Option<&HashSet<Capability>>| set.map_or(0, capability_bits);
    let mut rlimits = Vec::new();
    for limit in process
        .and_then(|p| p.rlimits().as_deref())
        .unwrap_or_default()
    {
        let number = rlimit_number(&limit.typ().to_string())
            .ok_or_else(|| invalid(config, "rlimits", format!("name {}", limit.typ())))?;
        rlimits.push((number, limit.soft(), limit.hard()));
    }
    let mut env = vec![("HOSTNAME".to_owned(), sandbox.hostname.clone())];
    env.extend(config.env.iter().cloned());
    Ok(ProcessPlan {
        args: config.args.clone(),
        env,
        cwd: config.cwd.clone(),
        user: config.user.clone(),
        capabilities: CapabilityBits {
            bounding: bits(capabilities.and_then(|c| c.bounding().as_ref())),
            effective: bits(capabilities.and_then(|c| c.effective().as_ref())),
            inheritable: bits(capabilities.and_then(|c| c.inheritable().as_ref())),
            ambient: bits(capabilities.and_then(|c| c.ambient().as_ref())),
        },
        no_new_privileges: config.security.no_new_privileges,
        rlimits,
        oom_score_adj: config.resources.oom_score_adj,
        terminal: config.tty,
        stdin: config.stdin,
    })
}

fn capability_bits<S: BuildHasher>(set: &HashSet<Capability, S>) -> u64 {
    set.iter()
        .filter_map(|capability| {
            let name = format!("CAP_{capability}");
            name.parse::<caps::Capability>().ok()
        })
        .fold(0, |bits, capability| bits | capability.bitmask())
}

fn rlimit_number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
