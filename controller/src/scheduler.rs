//! Gives every pod a node: filter, score, bind.

mod affinity;
mod cluster;
mod filter;
mod score;
mod select;
mod spread;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::event::Events;
use crate::meta::{Key, is_terminating, now, uid};
use crate::queue::Queue;
use crate::replica_set::is_finished;
use crate::runner::{Next, Reconcile, Tasks};
use crate::volume::{SELECTED_NODE, reference};
use cluster::Cluster;
use select::{Decision, VolumeStep};

/// Runs at once. Decisions are made one at a time under a lock; the writes overlap.
const WORKERS: usize = 16;
/// Pods of other schedulers are left to them.
const NAME: &str = "default-scheduler";
/// Longest wait between attempts at a pod that the cluster has no room for, while things change.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// # Guarantees
/// A pod is bound only to a node that passed every filter against a view of the cluster which
/// includes all bindings this scheduler made before.
struct Scheduler {
    client: Client,
    caches: Arc<Caches>,
    cluster: Arc<Mutex<Cluster>>,
    /// Pods without a node for now, with the number of attempts in vain.
    waiting: Arc<Mutex<BTreeMap<Key, u32>>>,
    events: Events,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let cluster = Arc::new(Mutex::new(Cluster::default()));
    let waiting = Arc::new(Mutex::new(BTreeMap::new()));
    let retry = {
        let (queue, waiting) = (queue.clone(), waiting.clone());
        Arc::new(move || retry_waiting(&queue, &waiting))
    };
    let (wake, view, moved, cache) = (
        queue.clone(),
        cluster.clone(),
        retry.clone(),
        caches.pods.clone(),
    );
    caches.pods.on_change(move |pod| {
        let key = Key::of(pod);
        let current = cache
            .get(&key)
            .filter(|current| uid(&**current) == uid(pod));
        if current.as_deref().is_some_and(is_pending) {
            wake.add(key);
        } else if view
            .lock()
            .observe_pod(uid(pod), current.filter(|pod| !is_finished(pod)))
        {
            moved();
        }
    });
    let (view, moved, cache) = (cluster.clone(), retry.clone(), caches.nodes.clone());
    caches.nodes.on_change(move |node| {
        if view
            .lock()
            .observe_node(&node.name_any(), cache.get(&Key::of(node)))
        {
            moved();
        }
    });
    let moved = retry.clone();
    caches.claims.on_change(move |_| moved());
    let moved = retry.clone();
    caches.volumes.on_change(move |_| moved());
    let moved = retry;
    caches.storage_classes.on_change(move |_| moved());
    let scheduler = Scheduler {
        client: client.clone(),
        caches: caches.clone(),
        cluster,
        waiting,
        events: Events::new(client, NAME),
    };
    tasks.reconcile(Arc::new(scheduler), &queue, WORKERS);
}

/// True for a pod that this scheduler has to find a node for.
fn is_pending(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME;
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    let unbound = spec.node_name.as_deref().unwrap_or_default().is_empty();
    ours && unbound && !gated && !is_terminating(pod) && !is_finished(pod)
}

/// Something moved in the cluster: pods that had no room get another try, those that tried often
/// a little later.
fn retry_waiting(queue: &Queue<Key>, waiting: &Mutex<BTreeMap<Key, u32>>) {
    for (key, attempts) in waiting.lock().iter() {
        if *attempts <= 1 {
            queue.add(key.clone());
        } else {
            let delay = Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(&9) - 1);
            queue.add_after(key.clone(), delay.min(MAX_WAIT));
        }
    }
}

impl Reconcile for Scheduler {
    const NAME: &'static str = "scheduler";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.nodes.synced().await;
        self.caches.pods.synced().await;
        self.caches.claims.synced().await;
        self.caches.volumes.synced().await;
        self.caches.storage_classes.synced().await;
        let Some(pod) = self.caches.pods.get(key).filter(|pod| is_pending(pod)) else {
            self.waiting.lock().remove(key);
            return Ok(Next::Await);
        };
        if self.cluster.lock().has(uid(&*pod)) {
            // Bound already; the watch has yet to show it.
            return Ok(Next::Await);
        }
        let storage = volumes::observe(&pod, &self.caches);
        let decision = {
            let mut cluster = self.cluster.lock();
            let decision = select::select(&pod, &cluster, &storage);
            if let Decision::Bind(node) = &decision {
                cluster.assume(&pod, node);
            }
            decision
        };
        match decision {
            Decision::Bind(node) => self.bind(&pod, &node).await?,
            Decision::Volumes { node, steps } => self.prepare_volumes(&pod, &node, &steps).await?,
            Decision::Wait(message) => self.wait(key, &pod, message).await?,
        }
        Ok(Next::Await)
    }
}

impl Scheduler {
    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Error> {
        let key = Key::of(pod);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/binding",
            key.namespace, key.name
        );
        let outcome = match post(&path, &binding) {
            Ok(request) => self.client.request::<Status>(request).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.cluster.lock().forget(uid(pod));
            return match ignore_not_found::<Status>(Err(error)) {
                Ok(_) => Ok(()),
                Err(error) => Err(Error::api("bind pod", key.to_string())(error)),
            };
        }
        self.waiting.lock().remove(&key);
        let note = format!("Successfully assigned {key} to {node}");
        self.events.normal(pod, "Scheduled", "Binding", note).await;
        Ok(())
    }

    /// Reserves volumes on the chosen node, or asks for them; the pod is looked at again when the
    /// claims are bound.
    async fn prepare_volumes(
        &self,
        pod: &Pod,
        node: &str,
        steps: &[VolumeStep],
    ) -> Result<(), Error> {
        let key = Key::of(pod);
        self.waiting.lock().entry(key.clone()).or_insert(0);
        for step in steps {
            match step {
                VolumeStep::Reserve { volume, claim } => {
                    let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
                    let patch = Patch::Merge(json!({
                        "metadata": {"uid": uid(&**volume),
                            "resourceVersion": volume.resource_version()},
                        "spec": {"claimRef": reference(claim)}}));
                    volumes
                        .patch(&volume.name_any(), &PatchParams::default(), &patch)
                        .await
                        .map_err(Error::api("reserve a volume for pod", key.to_string()))?;
                }
                VolumeStep::SelectNode { claim } => {
                    let claims: Api<PersistentVolumeClaim> =
                        Api::namespaced(self.client.clone(), &key.namespace);
                    let patch = Patch::Merge(json!({"metadata": {"uid": uid(&**claim),
                        "annotations": {SELECTED_NODE: node}}}));
                    claims
                        .patch(&claim.name_any(), &PatchParams::default(), &patch)
                        .await
                        .map_err(Error::api("ask for a volume for pod", key.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// Says on the pod why it has no node; a change of the cluster brings it back.
    async fn wait(&self, key: &Key, pod: &Pod, message: String) -> Result<(), Error> {
        let attempts = {
            let mut waiting = self.waiting.lock();
            let attempts = waiting.entry(key.clone()).or_insert(0);
            *attempts = attempts.saturating_add(1);
            *attempts
        };
        let said = unschedulable_message(pod);
        if said == Some(message.as_str()) && attempts > 1 {
            return Ok(());
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Strategic(json!({"metadata": {"uid": uid(pod)}, "status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": message, "lastTransitionTime": now()}]}}));
        ignore_not_found(
            pods.patch_status(&key.name, &PatchParams::default(), &patch)
                .await,
        )
        .map_err(Error::api("report on pod", key.to_string()))?;
        self.events
            .warning(pod, "FailedScheduling", "Scheduling", message)
            .await;
        Ok(())
    }
}

fn unschedulable_message(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False")
        .then_some(scheduled.message.as_deref())
        .flatten()
}

fn post<T: serde::Serialize>(path: &str, body: &T) -> Result<Request<Vec<u8>>, kube::Error> {
    let body = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    Request::post(path)
        .header("content-type", "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)
}
