//! Deletes what lost its owners, and carries out foreground and orphaning deletion.

mod discovery;
mod graph;

use std::sync::Arc;

use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;
use serde_json::json;

use crate::error::{Error, ignore_not_found, is_not_found};
use crate::meta::Key;
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};
use graph::{Action, FOREGROUND, Graph, Node, ORPHAN, Owner, OwnerState};

pub(crate) use discovery::{Resources, discover};

const WORKERS: usize = 8;

/// Metadata of an object of any kind.
pub(crate) type Metadata = PartialObjectMeta<DynamicObject>;

/// # Guarantees
/// An object is deleted for want of owners only after the server itself confirmed that every one
/// of them (by UID) is gone; an object without owner references is never touched.
struct Garbage {
    client: Client,
    graph: Arc<RwLock<Graph>>,
    resources: Arc<Resources>,
}

pub(crate) fn start(client: &Client, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let graph = Arc::new(RwLock::new(Graph::default()));
    let resources = Arc::new(Resources::default());
    let (watched, wake) = (graph.clone(), queue.clone());
    let follow = discovery::follow_all(
        client.clone(),
        resources.clone(),
        move |resource, change| {
            let dirty = watched.write().apply(resource, change);
            dirty
                .into_iter()
                .for_each(|uid| wake.add(Key::cluster(uid)));
        },
    );
    tasks.spawn(follow);
    let garbage = Garbage {
        client: client.clone(),
        graph,
        resources,
    };
    tasks.reconcile(Arc::new(garbage), &queue, WORKERS);
}

impl Reconcile for Garbage {
    const NAME: &'static str = "garbage-collector";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(node) = self.graph.read().get(&key.name).cloned() else {
            return Ok(Next::Await);
        };
        let owners = self.look_up_owners(&node).await?;
        let action = {
            let graph = self.graph.read();
            let blocked = !graph.blockers(&node.uid).is_empty();
            graph::plan(&node, &owners, &graph.dependents(&node.uid), blocked)
        };
        self.act(&node, action).await?;
        Ok(Next::Await)
    }
}

impl Garbage {
    fn api(&self, node: &Node) -> Api<Metadata> {
        if node.key.namespace.is_empty() {
            Api::all_with(self.client.clone(), &*node.resource)
        } else {
            Api::namespaced_with(self.client.clone(), &node.key.namespace, &*node.resource)
        }
    }

    /// The state of each owner: from the graph when it is there, else from the server, because a
    /// watch of the owner's kind may lag behind the watch of the dependent's.
    async fn look_up_owners(&self, node: &Node) -> Result<Vec<(Owner, OwnerState)>, Error> {
        let mut states = Vec::with_capacity(node.owners.len());
        for owner in &node.owners {
            let known = self.graph.read().state_of(&owner.uid);
            let state = match known {
                Some(state) => state,
                None => self.ask_server(node, owner).await?,
            };
            states.push((owner.clone(), state));
        }
        Ok(states)
    }

    async fn ask_server(&self, node: &Node, owner: &Owner) -> Result<OwnerState, Error> {
        let Some((resource, namespaced)) = self.resources.find(&owner.api_version, &owner.kind)
        else {
            // An owner of a kind nobody serves: it may come back, so nothing is deleted.
            return Ok(OwnerState::Solid);
        };
        let api: Api<Metadata> = if namespaced && node.key.namespace.is_empty() {
            return Ok(OwnerState::Solid); // A cluster-scoped object cannot have a namespaced owner.
        } else if namespaced {
            Api::namespaced_with(self.client.clone(), &node.key.namespace, &*resource)
        } else {
            Api::all_with(self.client.clone(), &*resource)
        };
        match api.get(&owner.name).await {
            Ok(found) if found.uid().as_deref() == Some(owner.uid.as_str()) => {
                Ok(OwnerState::Solid)
            }
            Ok(_) => Ok(OwnerState::Absent),
            Err(error) if is_not_found(&error) => Ok(OwnerState::Absent),
            Err(error) => Err(Error::api("look up an owner of", node.key.to_string())(
                error,
            )),
        }
    }

    async fn act(&self, node: &Node, action: Action) -> Result<(), Error> {
        match action {
            Action::Nothing => Ok(()),
            Action::Delete(policy) => self.delete(node, policy).await,
            Action::DropOwners(uids) => {
                let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
                self.drop_owners(node, &uids).await
            }
            Action::Orphan(dependents) => {
                for uid in dependents {
                    let dependent = self.graph.read().get(&uid).cloned();
                    if let Some(dependent) = dependent {
                        self.drop_owners(&dependent, &[&node.uid]).await?;
                    }
                }
                self.remove_finalizer(node, ORPHAN).await
            }
            Action::Unblock(owners) => self.unblock(node, &owners).await,
            Action::FinishForeground => self.remove_finalizer(node, FOREGROUND).await,
        }
    }

    async fn delete(&self, node: &Node, policy: PropagationPolicy) -> Result<(), Error> {
        let only_this = Preconditions {
            uid: Some(node.uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        }
        .preconditions(only_this);
        ignore_not_found(self.api(node).delete(&node.key.name, &params).await)
            .map(drop)
            .map_err(Error::api("collect", node.key.to_string()))
    }

    /// Removes references to these owners. A conflict means that the object changed; the next run
    /// starts from what it is then.
    async fn drop_owners(&self, node: &Node, owners: &[&str]) -> Result<(), Error> {
        self.edit(node, "release", |live| {
            let kept: Vec<_> = live
                .owner_references()
                .iter()
                .filter(|owner| !owners.contains(&owner.uid.as_str()))
                .collect();
            (kept.len() < live.owner_references().len()).then(|| json!({"ownerReferences": kept}))
        })
        .await
    }

    async fn unblock(&self, node: &Node, owners: &[String]) -> Result<(), Error> {
        self.edit(node, "unblock the owners of", |live| {
            let mut references = live.owner_references().to_vec();
            for owner in &mut references {
                if owners.contains(&owner.uid) {
                    owner.block_owner_deletion = Some(false);
                }
            }
            let changed = references != live.owner_references();
            changed.then(|| json!({"ownerReferences": references}))
        })
        .await
    }

    async fn remove_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        self.edit(node, "finish the deletion of", |live| {
            let kept: Vec<_> = live
                .finalizers()
                .iter()
                .filter(|own| *own != finalizer)
                .collect();
            (kept.len() < live.finalizers().len()).then(|| json!({"finalizers": kept}))
        })
        .await
    }

    async fn edit(
        &self,
        node: &Node,
        action: &'static str,
        change: impl Fn(&Metadata) -> Option<serde_json::Value>,
    ) -> Result<(), Error> {
        let api = self.api(node);
        let live = api.get_opt(&node.key.name).await;
        let live = live.map_err(Error::api(action, node.key.to_string()))?;
        let Some(live) = live.filter(|live| live.uid().as_deref() == Some(&node.uid)) else {
            return Ok(());
        };
        let Some(mut metadata) = change(&live) else {
            return Ok(());
        };
        metadata["uid"] = json!(node.uid);
        metadata["resourceVersion"] = json!(live.resource_version());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        ignore_not_found(
            api.patch(&node.key.name, &PatchParams::default(), &patch)
                .await,
        )
        .map(drop)
        .map_err(Error::api(action, node.key.to_string()))
    }
}
