//! Rolls a Deployment's pod template out through ReplicaSets.

mod conditions;
mod plan;
mod revision;
mod scale;

use std::sync::Arc;
use std::time::Duration;

use davit_api::status::merge_patch;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found, is_conflict};
use crate::event::Events;
use crate::meta::{Key, controller_of, is_terminating, owned_by, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};
use plan::Change;

const WORKERS: usize = 4;

/// # Guarantees
/// During a rolling update at most `maxSurge` pods more and `maxUnavailable` available pods fewer
/// than declared exist; a template once rolled out keeps its ReplicaSet within
/// `revisionHistoryLimit`, so that it can be rolled back to.
struct Deployments {
    client: Client,
    caches: Arc<Caches>,
    events: Events,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches
        .deployments
        .on_change(move |deployment| wake.add(Key::of(deployment)));
    let (wake, deployments) = (queue.clone(), caches.deployments.clone());
    caches.replica_sets.on_change(move |set| {
        let namespace = set.namespace().unwrap_or_default();
        match controller_of(set) {
            Some(owner) if owner.kind == "Deployment" => wake.add(Key::new(namespace, &owner.name)),
            Some(_) => {}
            None => plan::possible_owners(set, &deployments.in_namespace(&namespace))
                .into_iter()
                .for_each(|key| wake.add(key)),
        }
    });
    // A Recreate rollout waits for the last old pod to go, which no ReplicaSet event tells.
    let (wake, sets) = (queue.clone(), caches.replica_sets.clone());
    caches.pods.on_change(move |pod| {
        let Some(owner) = controller_of(pod).filter(|owner| owner.kind == "ReplicaSet") else {
            return;
        };
        let namespace = pod.namespace().unwrap_or_default();
        let set = sets.get(&Key::new(namespace.clone(), &owner.name));
        if let Some(owner) = set.as_deref().and_then(controller_of)
            && is_terminating(pod)
        {
            wake.add(Key::new(namespace, &owner.name));
        }
    });
    let events = Events::new(client, "deployment-controller");
    let deployments = Deployments {
        client: client.clone(),
        caches: caches.clone(),
        events,
    };
    tasks.reconcile(Arc::new(deployments), &queue, WORKERS);
}

impl Reconcile for Deployments {
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.replica_sets.synced().await;
        self.caches.pods.synced().await;
        let Some(deployment) = self.caches.deployments.get(key) else {
            return Ok(Next::Await);
        };
        let sets = self.caches.replica_sets.in_namespace(&key.namespace);
        let observed = plan::observe(
            &deployment,
            sets,
            |set| self.caches.pods.controlled_by(uid(set)),
            jiff::Timestamp::now(),
        )?;
        let plan = plan::plan(&deployment, &observed);
        for change in &plan.changes {
            self.act(&deployment, change).await?;
        }
        self.write_status(&deployment, &plan).await?;
        Ok(plan
            .look_again_after
            .map_or(Next::Await, |after| Next::After(Duration::from_secs(after))))
    }
}

impl Deployments {
    fn sets(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(
            self.client.clone(),
            &deployment.namespace().unwrap_or_default(),
        )
    }

    fn deployments(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(
            self.client.clone(),
            &deployment.namespace().unwrap_or_default(),
        )
    }

    async fn act(&self, deployment: &Deployment, change: &Change) -> Result<(), Error> {
        match change {
            Change::Create(set) => self.create(deployment, set).await,
            Change::Scale {
                set,
                replicas,
                annotations,
            } => {
                let from = set.spec.replicas.unwrap_or(0);
                let patch = json!({"metadata": {"uid": uid(&**set), "annotations": annotations},
                    "spec": {"replicas": replicas}});
                self.patch_set(deployment, set, patch).await?;
                let direction = if *replicas > from { "up" } else { "down" };
                let name = set.name_any();
                let note =
                    format!("Scaled {direction} replica set {name} from {from} to {replicas}");
                self.events
                    .normal(deployment, "ScalingReplicaSet", "Scale", note)
                    .await;
                Ok(())
            }
            Change::Annotate { set, annotations } => {
                let patch = json!({"metadata": {"uid": uid(&**set), "annotations": annotations}});
                self.patch_set(deployment, set, patch).await
            }
            Change::SetMinReady { set, seconds } => {
                let patch = json!({"metadata": {"uid": uid(&**set)},
                    "spec": {"minReadySeconds": seconds}});
                self.patch_set(deployment, set, patch).await
            }
            Change::Adopt(set) => {
                let owners = json!([owned_by(deployment)]);
                let patch = json!({"metadata": {"uid": uid(&**set), "ownerReferences": owners}});
                self.patch_set(deployment, set, patch).await
            }
            Change::Release(set) => {
                let owners = json!([{"$patch": "delete", "uid": uid(deployment)}]);
                let patch = json!({"metadata": {"uid": uid(&**set), "ownerReferences": owners}});
                self.patch_set(deployment, set, patch).await
            }
            Change::Delete(set) => self.delete(deployment, set).await,
            Change::SetRevision(revision) => {
                let annotations = json!({revision::REVISION: revision});
                let patch =
                    json!({"metadata": {"uid": uid(deployment), "annotations": annotations}});
                self.deployments(deployment)
                    .patch(
                        &deployment.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(patch),
                    )
                    .await
                    .map(drop)
                    .map_err(Error::api("annotate", Key::of(deployment).to_string()))
            }
        }
    }

    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let api = self.sets(deployment);
        match api.create(&PostParams::default(), set).await {
            Ok(created) => {
                let key = Key::of(&created);
                if !self.caches.replica_sets.shows(&key).await {
                    return Err(Error::Behind {
                        object: key.to_string(),
                    });
                }
                let replicas = set.spec.replicas.unwrap_or(0);
                let note = format!(
                    "Scaled up replica set {} from 0 to {replicas}",
                    set.name_any()
                );
                self.events
                    .normal(deployment, "ScalingReplicaSet", "Scale", note)
                    .await;
                Ok(())
            }
            Err(error) if is_conflict(&error) => {
                self.resolve_collision(deployment, set, error).await
            }
            Err(error) => {
                let note = format!(
                    "Failed to create new replica set {}: {error}",
                    set.name_any()
                );
                self.events
                    .warning(deployment, "ReplicaSetCreateError", "Create", note)
                    .await;
                Err(Error::api(
                    "create replica set for",
                    Key::of(deployment).to_string(),
                )(error))
            }
        }
    }

    /// The name is taken. If not by this deployment's own template, the hash collided, and
    /// counting the collision gives the next run another name.
    async fn resolve_collision(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: kube::Error,
    ) -> Result<(), Error> {
        let about = Key::of(deployment).to_string();
        let existing = self.sets(deployment).get_opt(&set.name_any()).await;
        let existing = existing.map_err(Error::api("read replica set of", about.clone()))?;
        let ours = existing.as_ref().is_some_and(|existing| {
            controller_of(existing).is_some_and(|owner| owner.uid == uid(deployment))
                && revision::same_template(existing, deployment)
        });
        if !ours && existing.is_some() {
            let count = deployment
                .status
                .as_ref()
                .and_then(|status| status.collision_count);
            let patch = json!({"metadata": {"uid": uid(deployment)},
                "status": {"collisionCount": count.unwrap_or(0) + 1}});
            self.deployments(deployment)
                .patch_status(
                    &deployment.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(patch),
                )
                .await
                .map_err(Error::api("count a hash collision of", about.clone()))?;
        }
        Err(Error::api("create replica set for", about)(error))
    }

    async fn delete(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let only_this = Preconditions {
            uid: set.uid(),
            resource_version: None,
        };
        let params = DeleteParams::background().preconditions(only_this);
        let key = Key::of(set);
        ignore_not_found(self.sets(deployment).delete(&set.name_any(), &params).await)
            .map_err(Error::api("delete replica set", key.to_string()))?;
        self.caches.replica_sets.shows_deleted(&key).await;
        Ok(())
    }

    /// Patches a ReplicaSet and waits until the cache shows it, so that the next run does not
    /// plan from before the patch.
    async fn patch_set(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        patch: serde_json::Value,
    ) -> Result<(), Error> {
        let key = Key::of(set);
        let api = self.sets(deployment);
        let patch = Patch::Strategic(patch);
        let patched = api.patch(&key.name, &PatchParams::default(), &patch).await;
        let patched = patched.map_err(Error::api("update replica set", key.to_string()))?;
        let version = patched.resource_version();
        let seen = self
            .caches
            .replica_sets
            .wait_until(|sets| {
                sets.get(&key).is_none_or(|cached| {
                    cached.resource_version() == version
                        || revision::is_newer(&*cached, version.as_deref())
                })
            })
            .await;
        if seen {
            Ok(())
        } else {
            Err(Error::Behind {
                object: key.to_string(),
            })
        }
    }

    async fn write_status(&self, deployment: &Deployment, plan: &plan::Plan) -> Result<(), Error> {
        let changes = merge_patch(deployment.status.as_ref(), &plan.status);
        let Some(changes) = changes.filter(|_| !is_terminating(deployment)) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"uid": uid(deployment)}, "status": changes});
        let written = self
            .deployments(deployment)
            .patch_status(
                &deployment.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        ignore_not_found(written).map(drop).map_err(Error::api(
            "write the status of",
            Key::of(deployment).to_string(),
        ))
    }
}
