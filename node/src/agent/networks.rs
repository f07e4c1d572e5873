//! Networks on this node: brought up as their objects say, and given to pods.
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use davit_plugins::executor::{AttachPod, Attached, Host, NetworkAttachment};
use davit_plugins::network::{Attachment, Network, Node};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use crate::network::namespace;
use crate::pod::config::host_network;
use crate::pod::members;
use crate::pod::observed::Problem;
use crate::pod::services::{NetworkService, PodNetwork, chain};
use crate::runtime::NetnsMode;

/// Further networks of a pod, in order, separated by commas.
const NETWORKS: &str = "davit.dev/networks";

/// A network that is up on this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Up {
    pub(super) network: Network,
    pub(super) node: Node,
    pub(super) peers: Vec<Node>,
    pub(super) is_default: bool,
    /// The driver's code, grants and configuration that it was brought up with.
    pub(super) revision: Option<String>,
}

/// The networks that are up, by name.
pub(super) type UpNetworks = Arc<RwLock<HashMap<String, Up>>>;

/// Whether a client belongs to this node: it is this machine, or a pod of a network that is up here. `own` is the address
/// of this machine that it came to; nobody comes to a loopback address, or from it, but this machine itself.
pub(super) fn is_near(up: &UpNetworks, peer: IpAddr, own: IpAddr) -> bool {
    let up = up.read();
    let mut subnets = up.values().flat_map(|up| &up.network.subnets);
    peer.is_loopback()
        || own.is_loopback()
        || own == peer
        || subnets.any(|subnet| subnet.contains(&peer))
}

/// Gives pods their networks.
pub(super) struct Networks {
    pub(super) host: Arc<Host>,
    pub(super) up: UpNetworks,
    /// Holds the pinned namespaces, one file a pod.
    pub(super) namespaces: PathBuf,
}

#[async_trait]
impl NetworkService for Networks {
    async fn attach(&self, pod: &Pod) -> Result<PodNetwork, Problem> {
        if host_network(pod) {
            return Ok(PodNetwork {
                netns: NetnsMode::Host,
                ips: Vec::new(),
                dns: None,
            });
        }
        let wanted = self.wanted(pod)?;
        let netns = self.namespaces.join(members::uid(pod));
        std::fs::create_dir_all(&self.namespaces).map_err(|error| failed(&error))?;
        namespace::create(&netns)
            .await
            .map_err(|error| failed(&error))?;
        let attachments = wanted
            .iter()
            .enumerate()
            .map(|(index, up)| attachment(pod, up, index))
            .collect();
        let request = AttachPod {
            netns: netns.clone(),
            attachments,
        };
        let attached = self
            .host
            .attach_pod(request)
            .await
            .map_err(|error| failed(&error))?;
        Ok(PodNetwork {
            netns: NetnsMode::Path(netns),
            ips: pod_ips(&attached),
            dns: dns(&attached),
        })
    }

    async fn release(&self, pod_uid: &str) -> Result<(), Problem> {
        if self.host.holds_devices(pod_uid) {
            // A device of the host goes back under its own name only while the namespace is there.
            let given_back = self.host.release_pod(pod_uid).await;
            given_back.map_err(|error| failed(&error))?;
        }
        // With the namespace everything in it goes at once, which is quicker than link by link.
        namespace::remove(&self.namespaces.join(pod_uid)).map_err(|error| failed(&error))?;
        self.host
            .release_pod(pod_uid)
            .await
            .map_err(|error| failed(&error))
    }
}

impl Networks {
    /// The default network, then those the pod asks for.
    fn wanted(&self, pod: &Pod) -> Result<Vec<Up>, Problem> {
        let up = self.up.read();
        let default = up
            .values()
            .filter(|up| up.is_default)
            .min_by(|a, b| a.network.name.cmp(&b.network.name));
        let default = default.cloned().ok_or_else(|| {
            Problem::new(
                "NetworkNotReady",
                "network is not ready: no Network with isDefault is up on this node",
            )
        })?;
        let asked = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(NETWORKS));
        let mut wanted = vec![default];
        for name in asked
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let more = up.get(name).cloned();
            wanted.push(more.ok_or_else(|| {
                let message =
                    format!("network \"{name}\" of annotation {NETWORKS} is not up on this node");
                Problem::new("NetworkNotReady", message)
            })?);
        }
        Ok(wanted)
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new("NetworkFailed", chain(error))
}

fn attachment(pod: &Pod, up: &Up, index: usize) -> NetworkAttachment {
    let attachment = Attachment {
        pod: driver_pod(pod),
        network: up.network.clone(),
        ifname: format!("eth{index}"),
        default_route: index == 0,
        ..Attachment::default()
    };
    NetworkAttachment {
        attachment,
        node: up.node.clone(),
    }
}

/// The pod as drivers see it.
pub(super) fn driver_pod(pod: &Pod) -> davit_plugins::network::Pod {
    davit_plugins::network::Pod {
        namespace: members::namespace(pod).to_owned(),
        name: members::name(pod).to_owned(),
        uid: members::uid(pod).to_owned(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
    }
}

/// The pod's addresses are those on its default network, one a family.
fn pod_ips(attached: &[Attached]) -> Vec<std::net::IpAddr> {
    let Some(default) = attached
        .iter()
        .find(|attached| attached.default_route)
        .or_else(|| attached.first())
    else {
        return Vec::new();
    };
    let mut ips: Vec<std::net::IpAddr> = Vec::new();
    for ip in default.addresses.iter().map(ipnet::IpNet::addr) {
        if !ips.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            ips.push(ip);
        }
    }
    ips
}

fn dns(attached: &[Attached]) -> Option<davit_plugins::network::Dns> {
    attached.iter().find_map(|attached| attached.dns.clone())
}
