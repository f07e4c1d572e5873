//! Deletes pods that no node will ever finish: bound to a node that is gone, or never bound.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found, is_not_found};
use crate::meta::{Key, is_terminating, now, uid};
use crate::queue::Queue;
use crate::replica_set::is_finished;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 2;
/// How long a node must be missing before its pods are given up.
const QUARANTINE: Duration = Duration::from_secs(40);

/// # Guarantees
/// A pod of a missing node is deleted only after the server itself said that the node is gone.
struct PodGarbage {
    client: Client,
    caches: Arc<Caches>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let (wake, nodes) = (queue.clone(), caches.nodes.clone());
    caches.pods.on_change(move |pod| match node_of(pod) {
        None if is_terminating(pod) => wake.add(Key::of(pod)),
        Some(node) if nodes.get(&Key::cluster(node)).is_none() => {
            wake.add_after(Key::of(pod), QUARANTINE);
        }
        _ => {}
    });
    let (wake, nodes, pods) = (queue.clone(), caches.nodes.clone(), caches.pods.clone());
    caches.nodes.on_change(move |node| {
        if nodes.get(&Key::of(node)).is_some() {
            return;
        }
        let name = node.name_any();
        for pod in pods.all().iter().filter(|pod| node_of(pod) == Some(&name)) {
            wake.add_after(Key::of(&**pod), QUARANTINE);
        }
    });
    let garbage = PodGarbage {
        client: client.clone(),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(garbage), &queue, WORKERS);
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .filter(|name| !name.is_empty())
}

impl Reconcile for PodGarbage {
    const NAME: &'static str = "pod-garbage-collector";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.nodes.synced().await;
        let Some(pod) = self.caches.pods.get(key) else {
            return Ok(Next::Await);
        };
        match node_of(&pod) {
            None if is_terminating(&*pod) => self.delete(&pod).await?,
            Some(node) if self.is_gone(node).await? => {
                self.mark(&pod).await?;
                self.delete(&pod).await?;
            }
            _ => {}
        }
        Ok(Next::Await)
    }
}

impl PodGarbage {
    async fn is_gone(&self, node: &str) -> Result<bool, Error> {
        if self.caches.nodes.get(&Key::cluster(node)).is_some() {
            return Ok(false);
        }
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        match nodes.get_metadata(node).await {
            Ok(_) => Ok(false),
            Err(error) if is_not_found(&error) => Ok(true),
            Err(error) => Err(Error::api("look up node", node)(error)),
        }
    }

    /// Leaves the reason where finalizers and watchers of the pod can still see it.
    async fn mark(&self, pod: &Pod) -> Result<(), Error> {
        if is_finished(pod) {
            return Ok(());
        }
        let pods: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": uid(pod)},
            "status": {"phase": "Failed", "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": now(),
            }]},
        }));
        let marked = pods
            .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await;
        ignore_not_found(marked)
            .map(drop)
            .map_err(Error::api("mark pod", Key::of(pod).to_string()))
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let pods: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let only_this = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(only_this);
        ignore_not_found(pods.delete(&pod.name_any(), &params).await)
            .map(drop)
            .map_err(Error::api("delete pod", Key::of(pod).to_string()))
    }
}
