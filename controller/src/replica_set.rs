//! Keeps as many pods of a ReplicaSet or ReplicationController running as it declares.

mod kind;
mod plan;

pub(crate) use plan::is_finished;
pub(crate) use plan::ready_since;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use davit_api::named;
use davit_api::status::merge_patch;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use self::kind::Replicated;
use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::event::Events;
use crate::meta::{Key, controller_of, is_terminating, owned_by, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 8;

/// # Guarantees
/// Never more pods than declared exist for longer than it takes to delete them, and a pod is
/// deleted only while the object that owns it (same UID) declares fewer.
struct Replicas<K> {
    client: Client,
    caches: Arc<Caches>,
    events: Events,
    kind: PhantomData<K>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    start_kind::<ReplicaSet>(client, caches, tasks);
    start_kind::<ReplicationController>(client, caches, tasks);
}

fn start_kind<K: Replicated>(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let client = &named(client, crate::MANAGER, K::REPORTER);
    let queue = Arc::new(Queue::new());
    let sets = K::informer(caches).clone();
    let wake = queue.clone();
    sets.on_change(move |set| wake.add(Key::of(set)));
    let wake = queue.clone();
    caches.pods.on_change(move |pod| {
        let namespace = pod.namespace().unwrap_or_default();
        match controller_of(pod) {
            Some(owner) if owner.kind == K::kind(&()) => wake.add(Key::new(namespace, &owner.name)),
            Some(_) => {}
            None => plan::possible_owners(pod, &sets.in_namespace(&namespace))
                .into_iter()
                .for_each(|key| wake.add(key)),
        }
    });
    let replicas = Replicas::<K> {
        client: client.clone(),
        caches: caches.clone(),
        events: Events::new(client, K::REPORTER),
        kind: PhantomData,
    };
    tasks.reconcile(Arc::new(replicas), &queue, WORKERS);
}

impl<K: Replicated> Reconcile for Replicas<K> {
    const NAME: &'static str = K::NAME;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.pods.synced().await;
        let Some(set) = K::informer(&self.caches).get(key) else {
            return Ok(Next::Await);
        };
        let pods = self.caches.pods.in_namespace(&key.namespace);
        let observed = plan::observe(&*set, pods, jiff::Timestamp::now())?;
        let plan = plan::plan(&*set, &observed);
        self.claim(&set, &plan).await?;
        let failure = self.scale(&set, &plan).await.err();
        self.write_status(&set, &plan, failure.as_ref()).await?;
        match (failure, plan.look_again_after) {
            (Some(error), _) => Err(error),
            (None, Some(seconds)) => Ok(Next::After(Duration::from_secs(seconds))),
            (None, None) => Ok(Next::Await),
        }
    }
}

impl<K: Replicated> Replicas<K> {
    fn pods(&self, set: &K) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default())
    }

    async fn claim(&self, set: &K, plan: &plan::Plan) -> Result<(), Error> {
        let pods = self.pods(set);
        for pod in &plan.adopt {
            let patch =
                json!({"metadata": {"uid": uid(&**pod), "ownerReferences": [owned_by(set)]}});
            let adopted = pods
                .patch(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Strategic(patch),
                )
                .await;
            ignore_not_found(adopted)
                .map_err(Error::api("adopt pod", Key::of(&**pod).to_string()))?;
        }
        for pod in &plan.release {
            let patch = json!({"metadata": {"uid": uid(&**pod), "ownerReferences": [
                {"$patch": "delete", "uid": uid(set)}]}});
            let released = pods
                .patch(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Strategic(patch),
                )
                .await;
            ignore_not_found(released)
                .map_err(Error::api("release pod", Key::of(&**pod).to_string()))?;
        }
        Ok(())
    }

    async fn scale(&self, set: &K, plan: &plan::Plan) -> Result<(), Error> {
        self.delete(set, &plan.delete).await?;
        // Slow start: a rejected first pod (quota, admission) must not cost hundreds of requests.
        let (mut left, mut batch) = (plan.create, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| self.create(set))).await;
            results.into_iter().collect::<Result<Vec<()>, Error>>()?;
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn create(&self, set: &K) -> Result<(), Error> {
        let pod = plan::pod_of(set)?;
        match self.pods(set).create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                let name = pod.name_any();
                let seen = self.caches.pods.shows(&Key::of(&pod)).await;
                let note = format!("Created pod: {name}");
                self.events
                    .normal(set, "SuccessfulCreate", "Create", note)
                    .await;
                if seen {
                    Ok(())
                } else {
                    Err(Error::Behind {
                        object: Key::of(set).to_string(),
                    })
                }
            }
            Err(error) => {
                let note = format!("Error creating: {error}");
                self.events
                    .warning(set, "FailedCreate", "Create", note)
                    .await;
                Err(Error::api("create pod for", Key::of(set).to_string())(
                    error,
                ))
            }
        }
    }

    async fn delete(&self, set: &K, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let api = self.pods(set);
        let deletions = pods.iter().map(|pod| {
            let (api, name, key) = (api.clone(), pod.name_any(), Key::of(&**pod));
            async move {
                let only_this = Preconditions {
                    uid: pod.uid(),
                    resource_version: None,
                };
                let params = DeleteParams::default().preconditions(only_this);
                ignore_not_found(api.delete(&name, &params).await)
                    .map_err(Error::api("delete pod", key.to_string()))?;
                let note = format!("Deleted pod: {name}");
                self.events
                    .normal(set, "SuccessfulDelete", "Delete", note)
                    .await;
                if self.caches.pods.shows_deleted(&key).await {
                    Ok(())
                } else {
                    Err(Error::Behind {
                        object: key.to_string(),
                    })
                }
            }
        });
        join_all(deletions).await.into_iter().collect()
    }

    async fn write_status(
        &self,
        set: &K,
        plan: &plan::Plan,
        failure: Option<&Error>,
    ) -> Result<(), Error> {
        let status = plan::status(set, plan, failure.map(Error::chain));
        let changes = merge_patch(set.status().as_ref(), &status);
        let emptied = is_terminating(set) && plan.counts == plan::Counts::default();
        let Some(changes) = changes.filter(|_| !emptied) else {
            return Ok(());
        };
        let sets: Api<K> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"metadata": {"uid": uid(set)}, "status": changes}));
        let written = sets
            .patch_status(&set.name_any(), &PatchParams::default(), &patch)
            .await;
        ignore_not_found(written)
            .map(drop)
            .map_err(Error::api("write the status of", Key::of(set).to_string()))
    }
}
