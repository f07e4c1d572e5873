//! From `Network` and `NetworkNode` objects to networks that are up on this node, and back to their status.
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use davit_api::status::merge_patch;
use davit_api::{Network, NetworkNode, NetworkNodeSpec, NetworkNodeStatus};
use davit_plugins::Registry;
use davit_plugins::executor::{Host, NodeUp};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caches::Cache;
use super::networks::{Up, UpNetworks};
use crate::pod::backoff::{Backoff, SETUP};
use crate::pod::services::chain;

mod plan;

use plan::{Change, Here, plan};

/// Brings networks up and down.
pub(super) struct NetworkObjects {
    pub(super) client: Client,
    pub(super) node: Arc<str>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host: Arc<Host>,
    pub(super) registry: Arc<Registry>,
    pub(super) up: UpNetworks,
    pub(super) networks: Cache<Network>,
    pub(super) nodes: Cache<NetworkNode>,
    /// Why pods cannot be given a network yet.
    pub(super) problem: watch::Sender<Option<String>>,
    /// Wakes this loop when a driver has come or gone.
    pub(super) drivers: watch::Receiver<u64>,
    /// True when the drivers of this cluster had their first chance to load; before, nothing can be brought up.
    pub(super) loaded: watch::Receiver<bool>,
}

impl NetworkObjects {
    /// Follows the objects until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut backoffs: HashMap<String, Backoff> = HashMap::new();
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = self.loaded.wait_for(|loaded| *loaded) => {}
        }
        // Before the first lists every network would seem to be gone.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = async { self.networks.listed().await; self.nodes.listed().await } => {}
        }
        loop {
            let now = Timestamp::now();
            let retry = self.reconcile(&mut backoffs, now).await;
            self.tell();
            let timer = async {
                match retry {
                    Some(at) => {
                        tokio::time::sleep(
                            at.duration_since(Timestamp::now())
                                .try_into()
                                .unwrap_or_default(),
                        )
                        .await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.networks.changes.changed() => backoffs.clear(),
                Ok(()) = self.nodes.changes.changed() => {}
                Ok(()) = self.drivers.changed() => backoffs.clear(),
                () = timer => {}
            }
        }
    }

    /// One look at everything; when to look again although nothing changed.
    async fn reconcile(
        &self,
        backoffs: &mut HashMap<String, Backoff>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let up = self.up.read().clone();
        let scopes = self.host.scopes();
        let recorded = scopes.iter().filter(|scope| scope.scope.kind() == "node");
        let here = Here {
            me: &self.node,
            addresses: &self.addresses,
            up: &up,
            recorded: &recorded
                .filter_map(|scope| scope.scope.parts().next().map(str::to_owned))
                .collect(),
            revisions: &self.revisions(),
        };
        let changes = plan(
            &here,
            &objects(&self.networks.store),
            &objects(&self.nodes.store),
        );
        let mut retry: Option<Timestamp> = None;
        for change in changes {
            let backoff = backoffs.entry(change.network().to_owned()).or_default();
            if let Some(until) = backoff.holds_until(now) {
                retry = Some(retry.map_or(until, |other| other.min(until)));
                continue;
            }
            match self.act(&change).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(network = change.network(), error, "network not reconciled");
                    backoff.advance(now, now, SETUP);
                    retry = backoff.holds_until(now).into_iter().chain(retry).min();
                }
            }
        }
        retry
    }

    /// What the drivers are that serve networks here.
    fn revisions(&self) -> BTreeMap<String, String> {
        let drivers = self.registry.drivers().into_iter();
        let revision = |driver: String| Some((driver.clone(), self.registry.revision(&driver)?));
        drivers
            .filter_map(|driver| revision(driver.driver))
            .collect()
    }

    /// Tells the Node object whether pods can be given a network.
    fn tell(&self) {
        let ready = self.up.read().values().any(|up| up.is_default);
        let has_default = self
            .networks
            .store
            .state()
            .iter()
            .any(|network| network.spec.is_default);
        let problem = match (ready, has_default) {
            (true, _) => None,
            (false, true) => Some(
                "the default Network is not up yet; see its NetworkNode of this node".to_owned(),
            ),
            (false, false) => Some("there is no Network with isDefault: true".to_owned()),
        };
        self.problem
            .send_if_modified(|old| std::mem::replace(old, problem.clone()) != problem);
    }

    async fn act(&self, change: &Change) -> Result<(), String> {
        let nodes: Api<NetworkNode> = Api::all(self.client.clone());
        match change {
            Change::Claim { network, slices } => {
                let object = NetworkNode {
                    metadata: ObjectMeta {
                        name: Some(plan::node_object_name(network, &self.node)),
                        ..ObjectMeta::default()
                    },
                    spec: NetworkNodeSpec {
                        network: network.clone(),
                        node: self.node.to_string(),
                        slices: slices.clone(),
                    },
                    status: None,
                };
                match nodes.create(&PostParams::default(), &object).await {
                    // Made by the run before this one; the cache shows it in a moment.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                    other => other.map(drop).map_err(|error| chain(&error)),
                }
            }
            Change::GiveBack { object, .. } => nodes
                .delete(object, &Default::default())
                .await
                .map(drop)
                .map_err(|error| chain(&error)),
            Change::Up {
                request,
                is_default,
            } => self.bring_up(&nodes, request, *is_default).await,
            Change::Down { network } => {
                self.host
                    .node_down(network)
                    .await
                    .map_err(|error| chain(&error))?;
                self.up.write().remove(network);
                let name = plan::node_object_name(network, &self.node);
                match nodes.delete(&name, &Default::default()).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                    other => other.map(drop).map_err(|error| chain(&error)),
                }
            }
        }
    }

    async fn bring_up(
        &self,
        nodes: &Api<NetworkNode>,
        request: &NodeUp,
        is_default: bool,
    ) -> Result<(), String> {
        let network = request.network.name.clone();
        let name = plan::node_object_name(&network, &self.node);
        // Taken before the driver is asked: one that comes meanwhile is asked again.
        let revision = self.registry.revision(&request.network.driver);
        match self.host.node_up(request.clone()).await {
            Ok(result) => {
                let NodeUp {
                    network: wanted,
                    node,
                    peers,
                } = request.clone();
                let up = Up {
                    network: wanted,
                    node,
                    peers,
                    is_default,
                    revision,
                };
                self.up.write().insert(network, up);
                self.write_status(
                    nodes,
                    &name,
                    Some(result.published),
                    true,
                    "NetworkUp",
                    String::new(),
                )
                .await
            }
            Err(error) => {
                let message = chain(&error);
                self.write_status(nodes, &name, None, false, "NodeUpFailed", message.clone())
                    .await?;
                Err(message)
            }
        }
    }

    async fn write_status(
        &self,
        nodes: &Api<NetworkNode>,
        name: &str,
        published: Option<BTreeMap<String, String>>,
        ready: bool,
        reason: &str,
        message: String,
    ) -> Result<(), String> {
        let current = self
            .nodes
            .store
            .state()
            .into_iter()
            .find(|node| node.name_any() == name);
        let old = current
            .as_ref()
            .and_then(|node| node.status.clone())
            .unwrap_or_default();
        let condition = condition(
            &old,
            ready,
            reason,
            message,
            current.and_then(|node| node.metadata.generation),
        );
        let new = NetworkNodeStatus {
            published: published.unwrap_or_else(|| old.published.clone()),
            conditions: vec![condition],
            ..old.clone()
        };
        let Some(changes) = merge_patch(Some(&old), &new) else {
            return Ok(());
        };
        let patch = json!({ "status": changes });
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(|error| chain(&error))
    }
}

fn objects<K>(store: &Store<K>) -> Vec<Arc<K>>
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    store.state()
}

fn condition(
    old: &NetworkNodeStatus,
    ready: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
) -> Condition {
    let status = if ready { "True" } else { "False" }.to_owned();
    let before = old
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == status);
    Condition {
        last_transition_time: before.map_or_else(
            || Time(whole(Timestamp::now())),
            |before| before.last_transition_time.clone(),
        ),
        type_: "Ready".to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
    }
}

/// Objects keep whole seconds; a finer time would look like a change after the next read.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The ranges in `texts` that are ranges.
fn nets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
