//! Watches nodes' heartbeats: marks silent nodes, taints by condition, evicts what does not
//! tolerate it.

mod plan;

pub(crate) use plan::{is_schedulable, tolerates};

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::event::Events;
use crate::meta::{Key, is_terminating, now, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 2;

/// # Guarantees
/// A node is called unreachable only after its Lease and status were both silent for the grace
/// period, and pods are evicted only by `NoExecute` taints that they do not tolerate (any longer).
struct NodeLifecycle {
    client: Client,
    caches: Arc<Caches>,
    events: Events,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches.nodes.on_change(move |node| wake.add(Key::of(node)));
    let wake = queue.clone();
    caches.leases.on_change(move |lease| {
        // A renewal only moves the deadline, which the next look at the node finds out by itself.
        if lease.metadata.deletion_timestamp.is_some() {
            wake.add(Key::cluster(lease.name_any()));
        }
    });
    let wake = queue.clone();
    caches.pods.on_change(move |pod| {
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())
            && !is_terminating(pod)
        {
            wake.add(Key::cluster(node));
        }
    });
    let lifecycle = NodeLifecycle {
        client: client.clone(),
        caches: caches.clone(),
        events: Events::new(client, "node-controller"),
    };
    tasks.reconcile(Arc::new(lifecycle), &queue, WORKERS);
}

impl Reconcile for NodeLifecycle {
    const NAME: &'static str = "node-lifecycle";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.leases.synced().await;
        self.caches.pods.synced().await;
        let Some(node) = self.caches.nodes.get(key) else {
            return Ok(Next::Await);
        };
        let lease = self
            .caches
            .leases
            .get(&Key::new(crate::caches::NODE_LEASES, &key.name));
        let now = jiff::Timestamp::now();
        let health = plan::health(&node, lease.as_deref(), now);
        if health.silent {
            self.mark_unknown(&node).await?;
        }
        let taints = plan::taints(&node, health.silent, now);
        if let Some(taints) = &taints {
            self.write_taints(&node, taints).await?;
        }
        let current = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let taints = taints.or(current).unwrap_or_default();
        let mut wait = health.check_after;
        for pod in self.pods_of(&key.name) {
            match plan::eviction(&pod, &taints, now) {
                plan::Eviction::Stay => {}
                plan::Eviction::In(left) => wait = wait.min(left),
                plan::Eviction::Now => self.evict(&pod).await?,
            }
        }
        Ok(Next::After(wait.max(Duration::from_secs(1))))
    }
}

impl NodeLifecycle {
    fn pods_of(&self, node: &str) -> Vec<Arc<Pod>> {
        let on_node = |pod: &Pod| {
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.as_deref() == Some(node))
        };
        let mut pods = self.caches.pods.all();
        pods.retain(|pod| on_node(pod) && !is_terminating(&**pod));
        pods
    }

    async fn mark_unknown(&self, node: &Node) -> Result<(), Error> {
        let Some(conditions) = plan::unknown_conditions(node) else {
            return Ok(());
        };
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = node.name_any();
        let patch = json!({"metadata": {"uid": uid(node)}, "status": {"conditions": conditions}});
        let patch = Patch::Strategic(patch);
        ignore_not_found(
            nodes
                .patch_status(&name, &PatchParams::default(), &patch)
                .await,
        )
        .map_err(Error::api("mark node", name.clone()))?;
        let note = format!("Node {name} status is now: NodeNotReady");
        self.events
            .normal(node, "NodeNotReady", "Monitor", note)
            .await;
        for pod in self.pods_of(&name) {
            self.mark_not_ready(&pod).await?;
        }
        Ok(())
    }

    /// Endpoints must not point at pods nobody has heard of.
    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        if crate::replica_set::ready_since(pod).is_none() {
            return Ok(());
        }
        let pods: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = Patch::Strategic(json!({"metadata": {"uid": uid(pod)}, "status": {
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now()}]}}));
        ignore_not_found(
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch)
                .await,
        )
        .map(drop)
        .map_err(Error::api("mark pod", Key::of(pod).to_string()))
    }

    async fn write_taints(
        &self,
        node: &Node,
        taints: &[k8s_openapi::api::core::v1::Taint],
    ) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = node.name_any();
        // The version guards taints that a user sets meanwhile.
        let patch = Patch::Merge(json!({
            "metadata": {"uid": uid(node), "resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        }));
        ignore_not_found(nodes.patch(&name, &PatchParams::default(), &patch).await)
            .map(drop)
            .map_err(Error::api("taint node", name.clone()))
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let pods: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        let about = Key::of(pod).to_string();
        let note = format!("Marking for deletion Pod {about}");
        self.events
            .normal(pod, "TaintManagerEviction", "Evict", note)
            .await;
        let reason = Patch::Strategic(json!({"metadata": {"uid": uid(pod)}, "status": {
        "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now(),
        }]}}));
        ignore_not_found(
            pods.patch_status(&name, &PatchParams::default(), &reason)
                .await,
        )
        .map_err(Error::api("mark pod", about.clone()))?;
        let only_this = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams::default().preconditions(only_this);
        ignore_not_found(pods.delete(&name, &params).await)
            .map(drop)
            .map_err(Error::api("evict pod", about))
    }
}
