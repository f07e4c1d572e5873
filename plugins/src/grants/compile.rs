//! From `Plugin.spec.grants` to a [`GrantSet`]: every value is parsed once, errors name the field.

use super::{CallLimits, Glob, GrantSet, MEMORY_BYTES, PodRoutes, RootGrant, Server};
use crate::plan::Root;
use davit_api::{Grants, HostPath, Limits, Quantity};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path};
use std::time::Duration;

/// A value in `spec.grants` that cannot be used. Editing the `Plugin` is the remedy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("spec.grants.{field}: {value:?}: {reason}")]
pub struct InvalidGrant {
    /// The field.
    pub field: String,
    /// The value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidGrant {
    fn new(field: &str, value: impl ToString, reason: impl ToString) -> Self {
        Self {
            field: field.to_owned(),
            value: value.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl GrantSet {
    /// Parses every value.
    ///
    /// # Errors
    /// The first value that is not an address range, an absolute path, a duration in bounds, …
    pub fn compile(grants: &Grants) -> Result<Self, InvalidGrant> {
        let globs = |list: &[String]| list.iter().map(Glob::new).collect::<Vec<_>>();
        let any_pod = grants.routes.pod.iter().any(|dst| dst == "any");
        Ok(Self {
            interfaces: grants.interfaces.iter().copied().collect(),
            subject_metadata: grants.subject_metadata,
            limits: limits(&grants.limits)?,
            links: globs(&grants.links.create),
            parents: globs(&grants.links.parents),
            kinds: grants.links.kinds.iter().copied().collect(),
            addresses: nets("addresses", &grants.addresses)?,
            host_routes: nets("routes.host", &grants.routes.host)?,
            pod_routes: if any_pod {
                PodRoutes::Any
            } else {
                PodRoutes::To(nets("routes.pod", &grants.routes.pod)?)
            },
            masquerade: nets("nft.masquerade", &grants.nft.masquerade)?,
            filter: grants.nft.filter,
            raw: grants.nft.raw,
            pod_sysctls: globs(&grants.sysctls.pod),
            host_sysctls: globs(&grants.sysctls.host),
            host_ports: grants.host_ports,
            roots: roots(&grants.host_paths)?,
            fs_types: grants.mounts.fs_types.iter().cloned().collect(),
            remote: grants
                .mounts
                .remote
                .iter()
                .map(|text| server(text))
                .collect(),
            devices: globs(&grants.devices),
            mkfs: grants.mkfs.iter().cloned().collect(),
        })
    }
}

fn nets(field: &str, list: &[String]) -> Result<Vec<IpNet>, InvalidGrant> {
    let parse = |text: &String| {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| net.trunc())
            .map_err(|_| InvalidGrant::new(field, text, "not an address range such as 10.0.0.0/8"))
    };
    list.iter().map(parse).collect()
}

fn server(text: &str) -> Server {
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_or_else(|_| Server::Name(Glob::new(text)), Server::Net)
}

fn roots(list: &[HostPath]) -> Result<BTreeMap<String, RootGrant>, InvalidGrant> {
    let mut roots = BTreeMap::new();
    for HostPath {
        name,
        path,
        access,
        max_bytes,
    } in list
    {
        let invalid = |reason: &str| InvalidGrant::new("hostPaths", path, reason);
        let absolute = Path::new(path);
        let plain = absolute
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !absolute.is_absolute() || !plain {
            return Err(invalid("must be an absolute path without `..`"));
        }
        if absolute.parent().is_none() {
            return Err(invalid("the whole file system cannot be granted"));
        }
        let grant = RootGrant {
            root: Root {
                name: name.clone(),
                path: absolute.to_owned(),
            },
            access: *access,
            max_bytes: max_bytes.map(|quantity| quantity.bytes()),
        };
        if roots.insert(name.clone(), grant).is_some() {
            return Err(InvalidGrant::new(
                "hostPaths",
                name,
                "two entries have this name",
            ));
        }
    }
    Ok(roots)
}

fn limits(limits: &Limits) -> Result<CallLimits, InvalidGrant> {
    let default = CallLimits::default();
    let bytes = |field: &str, value: Option<Quantity>, default: usize, most: usize| match value {
        None => Ok(default),
        Some(quantity) => match usize::try_from(quantity.bytes()) {
            Ok(bytes) if (1..=most).contains(&bytes) => Ok(bytes),
            _ => Err(InvalidGrant::new(
                field,
                quantity,
                format!(
                    "must be above 0 and at most {}",
                    Quantity::from_bytes(most as u64)
                ),
            )),
        },
    };
    let count = |field: &str, value: Option<u32>, default: usize, most: u32| match value {
        None => Ok(default),
        Some(n) if (1..=most).contains(&n) => Ok(n as usize),
        Some(n) => Err(InvalidGrant::new(
            field,
            n,
            format!("must be between 1 and {most}"),
        )),
    };
    Ok(CallLimits {
        memory: bytes("limits.memory", limits.memory, default.memory, MEMORY_BYTES)?,
        cpu: duration("limits.cpu", limits.cpu, default.cpu)?,
        attach: duration(
            "limits.timeout.attach",
            limits.timeout.attach,
            default.attach,
        )?,
        node_up: duration(
            "limits.timeout.nodeUp",
            limits.timeout.node_up,
            default.node_up,
        )?,
        create: duration(
            "limits.timeout.create",
            limits.timeout.create,
            default.create,
        )?,
        concurrency: count(
            "limits.concurrency",
            limits.concurrency,
            default.concurrency,
            64,
        )?,
        state_bytes: bytes(
            "limits.stateBytes",
            limits.state_bytes,
            default.state_bytes,
            MEMORY_BYTES,
        )?,
        plan_ops: count("limits.planOps", limits.plan_ops, default.plan_ops, 100_000)?,
    })
}

fn duration(
    field: &str,
    value: Option<kube::core::Duration>,
    default: Duration,
) -> Result<Duration, InvalidGrant> {
    let Some(value) = value else {
        return Ok(default);
    };
    let wanted = Duration::from(value);
    if value.is_negative() || wanted.is_zero() || wanted > Duration::from_secs(600) {
        return Err(InvalidGrant::new(
            field,
            value,
            "must be above 0 and at most 10m",
        ));
    }
    Ok(wanted)
}
