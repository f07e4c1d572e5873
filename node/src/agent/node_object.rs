//! The Node object: what it says of this machine. Pure.
use std::collections::BTreeMap;
use std::net::IpAddr;

use davit_api::Quantity;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::machine::{Health, Machine};
use crate::image::Image;

/// The version of Kubernetes' API that this node speaks.
const KUBELET_VERSION: &str = concat!("v1.37.0+davit-", env!("CARGO_PKG_VERSION"));
const RUNTIME_VERSION: &str = concat!("davit://", env!("CARGO_PKG_VERSION"));

/// Memory kept free for the machine itself, and the share of its disk: less than kubelet's 10 %, since a laptop's disk is
/// often nearly full and images leave room of their own.
const RESERVED_MEMORY: u64 = 100 << 20;
const RESERVED_DISK_PERCENT: u64 = 5;
const RESERVED_FILES_PERCENT: u64 = 5;
const RESERVED_PROCESSES_PERCENT: u64 = 5;
/// Most images listed in the status.
const MOST_IMAGES: usize = 50;

/// What the Node object is made from.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    pub(super) machine: &'a Machine,
    pub(super) health: Health,
    pub(super) addresses: &'a [IpAddr],
    pub(super) port: u16,
    pub(super) max_pods: u32,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) images: &'a [Image],
    /// Why pods cannot be given a network yet.
    pub(super) network_problem: Option<&'a str>,
}

impl Facts<'_> {
    /// Labels every node has, and the configured ones.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let own = [
            ("kubernetes.io/hostname", self.name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", &self.machine.architecture),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", &self.machine.architecture),
        ];
        let mut labels = self.labels.clone();
        labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        labels
    }

    /// The object a node that was never seen registers as.
    pub(super) fn node(&self, now: Timestamp) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                labels: Some(self.labels()),
                ..ObjectMeta::default()
            },
            spec: None,
            status: Some(self.status(&NodeStatus::default(), now)),
        }
    }

    /// The node's status; conditions of `old` keep their transition times.
    pub(super) fn status(&self, old: &NodeStatus, now: Timestamp) -> NodeStatus {
        // Resources that somebody else says the node has: pods can have all of them.
        let more = extended(old.capacity.as_ref());
        let with_more = |own: BTreeMap<String, Quantity>| {
            let mut all = quantities(&own);
            all.extend(more.clone());
            all
        };
        NodeStatus {
            addresses: Some(self.addresses()),
            allocatable: Some(with_more(self.allocatable())),
            capacity: Some(with_more(self.capacity())),
            conditions: Some(self.conditions(old, now)),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: i32::from(self.port),
                }),
            }),
            images: Some(self.images()),
            node_info: Some(self.info()),
            runtime_handlers: Some(vec![NodeRuntimeHandler {
                name: Some(String::new()),
                features: None,
            }]),
            ..NodeStatus::default()
        }
    }

    fn capacity(&self) -> BTreeMap<String, Quantity> {
        BTreeMap::from([
            (
                "cpu".to_owned(),
                Quantity::from_int(i64::try_from(self.machine.cpus).unwrap_or(i64::MAX)),
            ),
            (
                "memory".to_owned(),
                Quantity::from_bytes(self.machine.memory_bytes),
            ),
            (
                "ephemeral-storage".to_owned(),
                Quantity::from_bytes(self.health.disk.bytes),
            ),
            (
                "pods".to_owned(),
                Quantity::from_int(i64::from(self.max_pods)),
            ),
        ])
    }

    /// What pods can have: the capacity without what the machine keeps for itself.
    pub(super) fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let mut amounts = self.capacity();
        let memory = self.machine.memory_bytes.saturating_sub(RESERVED_MEMORY);
        amounts.insert("memory".to_owned(), Quantity::from_bytes(memory));
        let disk = self.health.disk.bytes / 100 * (100 - RESERVED_DISK_PERCENT);
        amounts.insert("ephemeral-storage".to_owned(), Quantity::from_bytes(disk));
        amounts
    }

    fn addresses(&self) -> Vec<NodeAddress> {
        let internal = self.addresses.iter().map(|ip| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.to_string(),
        });
        let hostname = NodeAddress {
            type_: "Hostname".into(),
            address: self.name.to_owned(),
        };
        internal.chain([hostname]).collect()
    }

    fn info(&self) -> NodeSystemInfo {
        let machine = self.machine;
        NodeSystemInfo {
            architecture: machine.architecture.clone(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: RUNTIME_VERSION.to_owned(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }
    }

    fn images(&self) -> Vec<ContainerImage> {
        let mut images: Vec<&Image> = self.images.iter().collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        let listed = images
            .into_iter()
            .take(MOST_IMAGES)
            .map(|image| ContainerImage {
                names: Some(
                    image
                        .repo_digests
                        .iter()
                        .chain(&image.names)
                        .cloned()
                        .collect(),
                ),
                size_bytes: i64::try_from(image.size).ok(),
            });
        listed.collect()
    }

    fn conditions(&self, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
        let Health {
            memory_available,
            disk,
            processes,
            most_processes,
        } = self.health;
        let scarce = |left: u64, all: u64, percent: u64| all > 0 && left < all / 100 * percent;
        let memory = memory_available < RESERVED_MEMORY;
        let space = scarce(disk.bytes_available, disk.bytes, RESERVED_DISK_PERCENT)
            || scarce(disk.files_available, disk.files, RESERVED_FILES_PERCENT);
        let pids = scarce(
            most_processes.saturating_sub(processes),
            most_processes,
            RESERVED_PROCESSES_PERCENT,
        );
        let pressure = |type_: &str, is: bool, yes: &str, no: &str, what: &str| {
            let (reason, has) = if is {
                (yes, "insufficient")
            } else {
                (no, "sufficient")
            };
            let message = format!("kubelet has {has} {what} available");
            (type_.to_owned(), is, reason.to_owned(), message)
        };
        let mut all = vec![
            pressure(
                "MemoryPressure",
                memory,
                "KubeletHasInsufficientMemory",
                "KubeletHasSufficientMemory",
                "memory",
            ),
            pressure(
                "DiskPressure",
                space,
                "KubeletHasDiskPressure",
                "KubeletHasNoDiskPressure",
                "disk space",
            ),
            pressure(
                "PIDPressure",
                pids,
                "KubeletHasInsufficientPID",
                "KubeletHasSufficientPID",
                "PID",
            ),
        ];
        all.push(match self.network_problem {
            None => (
                "Ready".into(),
                true,
                "KubeletReady".into(),
                "davit's node is ready for pods".into(),
            ),
            Some(problem) => {
                let message = format!("container runtime network not ready: {problem}");
                ("Ready".into(), false, "KubeletNotReady".into(), message)
            }
        });
        all.into_iter()
            .map(|condition| kept(condition, old, now))
            .collect()
    }
}

fn kept(
    (type_, status, reason, message): (String, bool, String, String),
    old: &NodeStatus,
    now: Timestamp,
) -> NodeCondition {
    let status = if status { "True" } else { "False" }.to_owned();
    let before = old
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_ && condition.status == status);
    NodeCondition {
        last_transition_time: before
            .and_then(|before| before.last_transition_time.clone())
            .or(Some(Time(now))),
        last_heartbeat_time: Some(Time(now)),
        type_,
        status,
        reason: Some(reason),
        message: Some(message),
    }
}

/// Resources that are not Kubernetes' own (`IsExtendedResourceName`).
fn extended(capacity: Option<&BTreeMap<String, ApiQuantity>>) -> BTreeMap<String, ApiQuantity> {
    let is_extended = |name: &str| {
        let domain = name.split_once('/').map(|(domain, _)| domain);
        let native = |domain: &str| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
        domain.is_some_and(|domain| !native(domain)) && !name.starts_with("requests.")
    };
    let all = capacity.into_iter().flatten();
    let extended = all.filter(|(name, amount)| {
        let readable = amount.0.parse::<Quantity>();
        is_extended(name) && readable.is_ok_and(|amount| !amount.is_negative())
    });
    extended
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect()
}

/// What pods can have by a status; what cannot be read counts as nothing.
pub(super) fn allocatable_of(status: &NodeStatus) -> BTreeMap<String, Quantity> {
    let all = status.allocatable.iter().flatten();
    let readable = all.filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?)));
    readable.collect()
}

fn quantities(amounts: &BTreeMap<String, Quantity>) -> BTreeMap<String, ApiQuantity> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), (*amount).into()))
        .collect()
}

/// Whether two statuses say the same, heartbeats and the coming and going of free memory aside.
pub(super) fn is_same(old: &NodeStatus, new: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        // Others report in these.
        status.volumes_attached = None;
        status.volumes_in_use = None;
        let mut conditions = status.conditions.take().unwrap_or_default();
        conditions.retain(|condition| OWN.contains(&condition.type_.as_str()));
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        (status, conditions)
    };
    still(old) == still(new)
}

/// Condition types that the node itself reports.
const OWN: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::machine::Disk;

    const ADDRESSES: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn facts<'a>(
        machine: &'a Machine,
        labels: &'a BTreeMap<String, String>,
        problem: Option<&'a str>,
    ) -> Facts<'a> {
        let disk = Disk {
            bytes: 1000,
            bytes_available: 500,
            files: 1000,
            files_available: 900,
        };
        Facts {
            name: "n",
            machine,
            health: Health {
                memory_available: 1 << 30,
                disk,
                processes: 10,
                most_processes: 1000,
            },
            addresses: &ADDRESSES,
            port: 10250,
            max_pods: 110,
            labels,
            images: &[],
            network_problem: problem,
        }
    }

    fn true_conditions(status: &NodeStatus) -> Vec<&str> {
        let all = status.conditions.iter().flatten();
        all.filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect()
    }

    #[test]
    fn a_healthy_node() {
        let machine = Machine {
            cpus: 2,
            memory_bytes: 1 << 30,
            architecture: "amd64".into(),
            ..Machine::default()
        };
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let node = facts(&machine, &labels, None).node(at(0));
        let labels = node.metadata.labels.unwrap();
        assert_eq!(
            (
                labels["kubernetes.io/hostname"].as_str(),
                labels["zone"].as_str()
            ),
            ("n", "a")
        );
        let status = node.status.unwrap();
        assert_eq!(true_conditions(&status), ["Ready"]);
        let capacity = status.capacity.as_ref().unwrap();
        assert_eq!(
            (
                capacity["cpu"].0.as_str(),
                capacity["memory"].0.as_str(),
                capacity["pods"].0.as_str()
            ),
            ("2", "1Gi", "110")
        );
        assert_eq!(status.allocatable.as_ref().unwrap()["memory"].0, "924Mi");
        assert_eq!(
            status
                .daemon_endpoints
                .unwrap()
                .kubelet_endpoint
                .unwrap()
                .port,
            10250
        );
    }

    #[test]
    fn pressure_and_a_missing_network_show() {
        let (machine, labels) = (Machine::default(), BTreeMap::new());
        let mut facts = facts(&machine, &labels, Some("no default Network"));
        facts.health.memory_available = 1;
        facts.health.disk.files_available = 1;
        facts.health.processes = 990;
        let status = facts.status(&NodeStatus::default(), at(0));
        assert_eq!(
            true_conditions(&status),
            ["MemoryPressure", "DiskPressure", "PIDPressure"]
        );
    }

    #[test]
    fn resources_that_others_added_are_allocatable() {
        let (machine, labels) = (Machine::default(), BTreeMap::new());
        let facts = facts(&machine, &labels, None);
        let mut old = facts.status(&NodeStatus::default(), at(0));
        let text = |text: &str| ApiQuantity(text.to_owned());
        let capacity = old.capacity.as_mut().unwrap();
        capacity.insert("example.com/dongle".into(), text("4"));
        capacity.insert("kubernetes.io/odd".into(), text("1"));
        capacity.insert("cpu".into(), text("99"));
        let new = facts.status(&old, at(60));
        assert!(!is_same(&old, &new));
        let (capacity, allocatable) = (new.capacity.as_ref(), new.allocatable.as_ref());
        for amounts in [capacity.unwrap(), allocatable.unwrap()] {
            assert_eq!(amounts["example.com/dongle"], text("4"));
            assert!(!amounts.contains_key("kubernetes.io/odd"));
            assert_eq!(amounts["cpu"], text("0"));
        }
        assert_eq!(
            allocatable_of(&new)["example.com/dongle"],
            Quantity::from_int(4)
        );
        // And go with the capacity.
        let mut without = new;
        without
            .capacity
            .as_mut()
            .unwrap()
            .remove("example.com/dongle");
        let last = facts.status(&without, at(120));
        assert!(!last.allocatable.unwrap().contains_key("example.com/dongle"));
    }

    #[test]
    fn heartbeats_alone_are_no_change() {
        let (machine, labels) = (Machine::default(), BTreeMap::new());
        let mut facts = facts(&machine, &labels, None);
        let old = facts.status(&NodeStatus::default(), at(0));
        let new = facts.status(&old, at(60));
        assert!(is_same(&old, &new));
        assert_eq!(
            new.conditions.as_ref().unwrap()[0].last_transition_time,
            Some(Time(at(0)))
        );
        facts.network_problem = Some("x");
        assert!(!is_same(&old, &facts.status(&old, at(60))));
    }
}
