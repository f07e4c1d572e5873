//! Signs of life: the node's Lease every ten seconds, its Node object when it changed and every five minutes.
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::AgentConfig;
use super::caches::Cache;
use super::events::Recorder;
use super::machine::{Health, Machine};
use super::node_object::{Facts, allocatable_of, is_same};
use crate::image::ImageStore;
use crate::pod::room::Room;
use crate::pod::services::{Severity, chain};

const PERIOD: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// How often a status that did not change is written all the same.
const REPORT_EVERY: Duration = Duration::from_secs(5 * 60);
const LEASES: &str = "kube-node-lease";

/// Keeps the node's Lease and Node object.
pub(super) struct Heartbeat {
    pub(super) client: Client,
    pub(super) config: Arc<AgentConfig>,
    pub(super) machine: Machine,
    pub(super) addresses: Vec<std::net::IpAddr>,
    pub(super) port: u16,
    pub(super) images: ImageStore,
    /// Why pods cannot be given a network yet.
    pub(super) network: watch::Receiver<Option<String>>,
    pub(super) recorder: Recorder,
    /// Shows what others write to the Node object.
    pub(super) nodes: Cache<Node>,
    pub(super) room: Arc<Room>,
}

impl Heartbeat {
    /// Beats until shutdown; a server that is away is tried again at the next beat.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut beat = tokio::time::interval(PERIOD);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut node: Option<Node> = None;
        let mut reported = None;
        let mut started = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = beat.tick() => {}
                Ok(()) = self.network.changed() => {}
                Ok(()) = self.nodes.changes.changed() => match self.news(node.as_ref()) {
                    Some(newer) => node = Some(newer),
                    None => continue,
                },
            }
            let due = reported.is_none_or(|at: tokio::time::Instant| at.elapsed() >= REPORT_EVERY);
            match self.report(node.take(), due).await {
                Ok((seen, wrote)) => {
                    if !std::mem::replace(&mut started, true) {
                        self.recorder.about_node(
                            Severity::Normal,
                            "Starting",
                            "Starting davit's node agent.".into(),
                        );
                    }
                    node = Some(seen);
                    if wrote {
                        reported = Some(tokio::time::Instant::now());
                    }
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "the Node object could not be written"
                ),
            }
            if let Err(error) = self.renew(node.as_ref()).await {
                tracing::warn!(
                    error = chain(&error),
                    "the node's Lease could not be renewed"
                );
            }
        }
    }

    /// The Node object, if others have written it since it was read. News of other nodes are none.
    fn news(&self, known: Option<&Node>) -> Option<Node> {
        let key = ObjectRef::new(&self.config.node_name);
        let seen = self.nodes.store.get(&key)?;
        let known = known?;
        (seen.metadata.uid == known.metadata.uid && is_newer(&seen, known)).then(|| (*seen).clone())
    }

    /// Writes the Node object if it is missing, changed, or `due`; whether it did.
    async fn report(&self, known: Option<Node>, due: bool) -> Result<(Node, bool), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let images = self.images.list();
        let network = self.network.borrow().clone();
        let facts = Facts {
            name: &self.config.node_name,
            machine: &self.machine,
            health: Health::read(&self.config.data_dir),
            addresses: &self.addresses,
            port: self.port,
            max_pods: self.config.max_pods,
            labels: &self.config.labels,
            images: &images,
            network_problem: network.as_deref(),
        };
        let now = Timestamp::now();
        let current = match known.filter(|_| !due) {
            Some(node) => node,
            None => match nodes.get_opt(facts.name).await? {
                Some(node) => self.labelled(&nodes, node, &facts).await?,
                None => return Ok((self.create(&nodes, &facts.node(now)).await?, true)),
            },
        };
        let old = current.status.clone().unwrap_or_default();
        let new = facts.status(&old, now);
        self.room.offer(&allocatable_of(&new));
        if is_same(&old, &new) && !due {
            return Ok((current, false));
        }
        Ok((self.write_status(&nodes, &old, &new).await?, true))
    }

    async fn create(&self, nodes: &Api<Node>, node: &Node) -> Result<Node, kube::Error> {
        nodes.create(&PostParams::default(), node).await?;
        // Status does not come with creation where it is a subresource.
        self.write_status(
            nodes,
            &NodeStatus::default(),
            node.status.as_ref().unwrap_or(&NodeStatus::default()),
        )
        .await
    }

    async fn write_status(
        &self,
        nodes: &Api<Node>,
        old: &NodeStatus,
        status: &NodeStatus,
    ) -> Result<Node, kube::Error> {
        let mut patch = json!({ "status": status });
        let gone = [
            ("capacity", &old.capacity, &status.capacity),
            ("allocatable", &old.allocatable, &status.allocatable),
        ];
        for (field, old, new) in gone {
            let still = |name: &String| new.as_ref().is_some_and(|new| new.contains_key(name));
            for name in old
                .iter()
                .flatten()
                .map(|(name, _)| name)
                .filter(|name| !still(name))
            {
                patch["status"][field][name] = Value::Null;
            }
        }
        // Addresses are merged by type, of which there may be several: the list is replaced.
        if let Some(addresses) = patch
            .pointer_mut("/status/addresses")
            .and_then(Value::as_array_mut)
        {
            addresses.insert(0, json!({ "$patch": "replace" }));
        }
        nodes
            .patch_status(
                &self.config.node_name,
                &PatchParams::default(),
                &Patch::Strategic(&patch),
            )
            .await
    }

    async fn labelled(
        &self,
        nodes: &Api<Node>,
        node: Node,
        facts: &Facts<'_>,
    ) -> Result<Node, kube::Error> {
        let wanted = facts.labels();
        if wanted
            .iter()
            .all(|(key, value)| node.labels().get(key) == Some(value))
        {
            return Ok(node);
        }
        let patch = json!({ "metadata": { "labels": wanted } });
        nodes
            .patch(facts.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
    }

    async fn renew(&self, node: Option<&Node>) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let name = &self.config.node_name;
        let now = MicroTime(Timestamp::now());
        let patch = json!({ "spec": { "renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS } });
        match leases
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => return other.map(drop),
        }
        let owner = node.and_then(|node| {
            Some(OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: node.uid()?,
                ..OwnerReference::default()
            })
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        leases
            .create(&PostParams::default(), &lease)
            .await
            .map(drop)
    }
}

/// Versions of one object are compared as numbers (KEP-5504); one that is no number is news.
fn is_newer(seen: &Node, known: &Node) -> bool {
    let version = |node: &Node| node.resource_version().and_then(|v| v.parse::<u64>().ok());
    match (version(seen), version(known)) {
        (Some(seen), Some(known)) => seen > known,
        _ => true,
    }
}
