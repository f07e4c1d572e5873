//! Networks: says how many nodes serve each, and removes what nodes and networks that are gone left of it.
//!
//! The nodes' agents write their own `NetworkNode`; somebody else has to delete those of the dead, or their ranges stay taken and
//! their peers keep routes to them.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use davit_api::{Network, NetworkNode};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found, is_not_found};
use crate::meta::{Key, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};
use plan::{Plan, Seen, plan};

const WORKERS: usize = 2;
/// How long a node must be missing before its part is given up, as with its pods.
const QUARANTINE: Duration = Duration::from_secs(40);

/// # Guarantees
/// A node's part is deleted only after the server itself said that its network is gone, or said so of its node that had been
/// missing for a while.
struct Networks {
    client: Client,
    caches: Arc<Caches>,
    /// Since when parts have been without their node, by UID.
    missing: Mutex<HashMap<String, Instant>>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches
        .networks
        .on_change(move |network| wake.add(Key::of(network)));
    let wake = queue.clone();
    caches
        .network_nodes
        .on_change(move |part| wake.add(Key::cluster(&part.spec.network)));
    let (wake, nodes, known) = (queue.clone(), Mutex::new(HashMap::new()), caches.clone());
    caches.nodes.on_change(move |node| {
        // Nodes are written all the time; only whether there is one makes a difference.
        let name = node.name_any();
        let now = known
            .nodes
            .get(&Key::cluster(&name))
            .and_then(|node| node.uid());
        let changed = match now {
            Some(now) => nodes.lock().insert(name, now.clone()) != Some(now),
            None => nodes.lock().remove(&name).is_some(),
        };
        if !changed {
            return;
        }
        let networks = known.networks.all();
        networks
            .iter()
            .for_each(|network| wake.add(Key::of(&**network)));
    });
    let networks = Networks {
        client: client.clone(),
        caches: caches.clone(),
        missing: Mutex::default(),
    };
    tasks.reconcile(Arc::new(networks), &queue, WORKERS);
}

impl Reconcile for Networks {
    const NAME: &'static str = "network";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.networks.synced().await;
        self.caches.network_nodes.synced().await;
        self.caches.nodes.synced().await;
        let parts = self.caches.network_nodes.all();
        let parts: Vec<Arc<NetworkNode>> = parts
            .into_iter()
            .filter(|part| part.spec.network == key.name)
            .collect();
        let Some(network) = self.caches.networks.get(key) else {
            if !parts.is_empty() && self.is_gone::<Network>(&key.name).await? {
                for part in &parts {
                    self.delete(part).await?;
                }
            }
            return Ok(Next::Await);
        };
        let nodes = self.caches.nodes.all();
        let nodes: Vec<String> = nodes.iter().map(|node| node.name_any()).collect();
        let Plan {
            status,
            orphans,
            wait,
        } = plan(&Seen {
            network: &network,
            parts: &parts,
            nodes: &nodes,
            missing: &self.missing_for(&parts, &nodes),
            quarantine: QUARANTINE,
        });
        for part in orphans {
            if self.is_gone::<Node>(&part.spec.node).await? {
                self.delete(&part).await?;
            }
        }
        if let Some(status) = status {
            let networks: Api<Network> = Api::all(self.client.clone());
            let patch =
                Patch::Merge(json!({"metadata": {"uid": uid(&*network)}, "status": status}));
            let written = networks
                .patch_status(&key.name, &PatchParams::default(), &patch)
                .await;
            ignore_not_found(written)
                .map(drop)
                .map_err(Error::api("write status of network", &key.name))?;
        }
        Ok(wait.map_or(Next::Await, Next::After))
    }
}

impl Networks {
    /// How long the nodes of parts have been missing, by the parts' UIDs.
    fn missing_for(
        &self,
        parts: &[Arc<NetworkNode>],
        nodes: &[String],
    ) -> HashMap<String, Duration> {
        let mut missing = self.missing.lock();
        let mut waited = HashMap::new();
        for part in parts {
            let uid = uid(&**part).to_owned();
            if nodes.contains(&part.spec.node) {
                missing.remove(&uid);
            } else {
                let since = *missing.entry(uid.clone()).or_insert_with(Instant::now);
                waited.insert(uid, since.elapsed());
            }
        }
        waited
    }

    async fn is_gone<K>(&self, name: &str) -> Result<bool, Error>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        match api.get_metadata(name).await {
            Ok(_) => Ok(false),
            Err(error) if is_not_found(&error) => Ok(true),
            Err(error) => Err(Error::api("look up", name)(error)),
        }
    }

    async fn delete(&self, part: &NetworkNode) -> Result<(), Error> {
        let parts: Api<NetworkNode> = Api::all(self.client.clone());
        let only_this = Preconditions {
            uid: part.uid(),
            resource_version: None,
        };
        let params = DeleteParams::default().preconditions(only_this);
        ignore_not_found(parts.delete(&part.name_any(), &params).await)
            .map_err(Error::api("delete", part.name_any()))?;
        self.missing.lock().remove(uid(part));
        Ok(())
    }
}
