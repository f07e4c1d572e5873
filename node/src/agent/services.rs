//! Services, EndpointSlices and host ports followed: the packet rules of this node lead where they say.
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use davit_api::Network;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caches::Cache;
use super::dispatch::Pods;
use super::events::Recorder;
use super::networks::UpNetworks;
use crate::network::nft::conntrack::forget_stale;
use crate::network::nft::services::{Door, is_intact, replace};
use crate::pod::backoff::{Backoff, SETUP};
use crate::pod::services::{Severity, chain};
use crate::proxy::{Refused, Relay, View, host_port_doors, plan, refused};

/// Whether the kernel shows packets that stay on a bridge to the rules, in this network namespace.
const BRIDGES_SEEN: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Number of the transport protocol whose flows outlive their endpoints.
const UDP: u8 = 17;

/// Follows the objects.
pub(super) struct ServiceObjects {
    pub(super) node: Arc<str>,
    pub(super) services: Cache<Service>,
    pub(super) slices: Cache<EndpointSlice>,
    pub(super) networks: Cache<Network>,
    /// Addresses of this node.
    pub(super) addresses: Vec<IpAddr>,
    /// The networks as they are here, which know the addresses of other nodes.
    pub(super) up: UpNetworks,
    /// Ranges outside of the cluster that Services may take addresses from.
    pub(super) open: Vec<IpNet>,
    /// The pods of this node, and news of them; whether all of them are known.
    pub(super) pods: Pods,
    pub(super) pod_news: watch::Receiver<bool>,
    /// The table of this agent.
    pub(super) table: String,
    /// What this node serves by itself.
    pub(super) relays: Vec<Relay>,
    /// News of changes that others made in the table.
    pub(super) touched: watch::Receiver<()>,
    pub(super) recorder: Recorder,
}

/// The table of the agent with this run directory; each davit of a machine has its own. The name must not begin as those
/// of drivers' tables do, which are collected by the marks in them.
pub(super) fn table(run: &Path) -> String {
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    format!("services-of-{name}")
}

impl ServiceObjects {
    /// Follows the objects until shutdown. The rules stay in force afterwards, as the pods do.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut done: Option<Vec<Door>> = None;
        let mut told: HashSet<Refused> = HashSet::new();
        let mut backoff = Backoff::default();
        tokio::select! {
            () = shutdown.cancelled() => return,
            // The first lists; a table made of less would cut connections off.
            () = self.first() => {}
        }
        loop {
            let (wanted, refused) = self.doors();
            self.tell(&mut told, refused);
            if done.as_ref() != Some(&wanted) {
                match replace(&self.table, wanted.clone()).await {
                    Ok(()) => {
                        forget(done.take().unwrap_or_default(), wanted.clone()).await;
                        done = Some(wanted);
                        backoff.reset();
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "services are not reachable here");
                        let now = Timestamp::now();
                        backoff.advance(now, now, SETUP);
                    }
                }
            }
            let now = Timestamp::now();
            let retry = backoff.holds_until(now);
            let timer = async {
                match retry {
                    Some(at) => {
                        let wait = at.duration_since(now).try_into().unwrap_or_default();
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.services.changes.changed() => {}
                Ok(()) = self.slices.changes.changed() => {}
                Ok(()) = self.networks.changes.changed() => {}
                Ok(()) = self.pod_news.changed() => {}
                Ok(()) = self.touched.changed() => done = self.intact(done).await,
                () = timer => {}
            }
        }
    }

    /// The doors, if the table still has them; somebody else changed something in it.
    async fn intact(&self, done: Option<Vec<Door>>) -> Option<Vec<Door>> {
        let doors = done?;
        match is_intact(&self.table, doors.clone()).await {
            Ok(true) => return Some(doors),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(
                    error = chain(&error),
                    "the rules of services cannot be read"
                );
            }
        }
        let message = "packet rules of services were changed by somebody else; they are put back";
        tracing::warn!(table = self.table, "{message}");
        self.recorder
            .about_node(Severity::Warning, "NetworkDrift", message.to_owned());
        None
    }

    async fn first(&self) {
        self.services.listed().await;
        self.slices.listed().await;
        self.networks.listed().await;
        // An error is the end of the agent.
        let _ = self.pod_news.clone().wait_for(|known| *known).await;
    }

    /// Says on each Service what is not done for it, once.
    fn tell(&self, told: &mut HashSet<Refused>, refused: Vec<Refused>) {
        for one in refused.iter().filter(|one| !told.contains(one)) {
            let service = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Service".into()),
                namespace: Some(one.namespace.clone()),
                name: Some(one.name.clone()),
                uid: Some(one.uid.clone()),
                ..ObjectReference::default()
            };
            let (reason, message) = ("ExternalAddressRefused", one.message.clone());
            self.recorder
                .about(service, Severity::Warning, reason, message);
        }
        *told = refused.into_iter().collect();
    }

    fn doors(&self) -> (Vec<Door>, Vec<Refused>) {
        let mut services = self.services.store.state();
        services.sort_by(|a, b| {
            let key = |service: &Service| {
                let metadata = &service.metadata;
                (metadata.namespace.clone(), metadata.name.clone())
            };
            key(a).cmp(&key(b))
        });
        let slices = self.slices.store.state();
        let networks = self.networks.store.state();
        let subnets = networks.iter().flat_map(|network| &network.spec.subnets);
        let pods: Vec<IpNet> = subnets.filter_map(|net| net.parse().ok()).collect();
        let up = self.up.read().clone();
        let peers = up.values().flat_map(|up| &up.peers);
        let peers = peers.flat_map(|peer| peer.addresses.iter().copied());
        let nodes: Vec<IpAddr> = self.addresses.iter().copied().chain(peers).collect();
        let bridges_are_seen = bridges_are_seen();
        let here: Vec<Arc<Pod>> = {
            let live = self.pods.read();
            live.values().map(|live| Arc::clone(&live.pod)).collect()
        };
        let mut doors = host_port_doors(&here, &pods, bridges_are_seen);
        let view = View {
            node: &self.node,
            services: &services.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            slices: &slices.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            pods: &pods,
            nodes: &nodes,
            open: &self.open,
            bridges_are_seen,
            relays: &self.relays,
        };
        doors.extend(plan(&view));
        (doors, refused(&view))
    }
}

/// Lets UDP clients find other endpoints than those that are gone.
async fn forget(before: Vec<Door>, doors: Vec<Door>) {
    let udp = |doors: Vec<Door>| -> Vec<Door> {
        let is_udp = |door: &Door| door.protocol == UDP;
        doors.into_iter().filter(is_udp).collect()
    };
    let (before, doors) = (udp(before), udp(doors));
    if before == doors {
        return;
    }
    match forget_stale(before, doors).await {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "flows to endpoints that are gone were forgotten"),
        // Without the kernel's table of flows nothing is translated either.
        Err(error) => tracing::debug!(error = chain(&error), "flows are not known"),
    }
}

fn bridges_are_seen() -> bool {
    std::fs::read_to_string(BRIDGES_SEEN).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_apart_and_not_taken_for_those_of_drivers() {
        let (one, other) = (
            table(Path::new("/run/davit")),
            table(Path::new("/run/davit-x")),
        );
        assert_ne!(one, other);
        assert!(!one.starts_with("davit-"));
    }
}
