//! Who owns whom, by UID, and what that means for one object.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::PropagationPolicy;
use kube::discovery::ApiResource;

use super::Metadata;
use crate::meta::{Key, is_terminating};

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) blocks: bool,
}

/// What the collector knows of an object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) resource: Arc<ApiResource>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    pub(crate) orphan: bool,
}

/// What an owner means for its dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It exists and stays, or leaves without waiting for its dependents.
    Solid,
    /// It is deleted in the foreground and waits for its dependents.
    Waiting,
    /// No object has its UID.
    Absent,
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Nothing,
    Delete(PropagationPolicy),
    /// Forget these owners (UIDs), because another one keeps the object.
    DropOwners(Vec<String>),
    /// Take the object out of its dependents' (UIDs) owner references, then let it go.
    Orphan(Vec<String>),
    /// No dependent holds it up any more: let it go.
    FinishForeground,
    /// Let these owners (UIDs) go without waiting for the object, because they wait for each other.
    Unblock(Vec<String>),
}

/// A change that a watch saw.
#[derive(Debug)]
pub(crate) enum Change {
    Put(Metadata),
    Gone(Metadata),
    /// The complete list of a kind; objects of it that are not in it are gone.
    All(Vec<Metadata>),
}

/// Every object of every watched kind.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// What an owner in the graph means for its dependents; `None` when it is not in the graph.
    pub(crate) fn state_of(&self, uid: &str) -> Option<OwnerState> {
        self.nodes.get(uid).map(|node| {
            if node.deleting && node.foreground {
                OwnerState::Waiting
            } else {
                OwnerState::Solid
            }
        })
    }

    /// Dependents of an owner: their nodes.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid).cloned())
            .collect()
    }

    /// Dependents that hold up the foreground deletion of an owner. One that is the owner itself, or waits for the owner in
    /// turn, would hold it up for ever.
    pub(crate) fn blockers(&self, uid: &str) -> Vec<String> {
        let blockers = self.blocked_by(uid).into_iter();
        blockers
            .filter(|dependent| !self.waits_for(dependent, uid))
            .collect()
    }

    fn blocked_by(&self, uid: &str) -> Vec<String> {
        let mut uids: Vec<String> = Vec::new();
        for dependent in self.dependents.get(uid).into_iter().flatten() {
            let node = self.nodes.get(dependent);
            let blocks = |node: &Node| {
                let mut owners = node.owners.iter();
                owners.any(|owner| owner.uid == uid && owner.blocks)
            };
            if node.is_some_and(blocks) {
                uids.push(dependent.clone());
            }
        }
        uids
    }

    /// Whether `uid` is `owner`, or is deleted in the foreground and waits for something that is or does.
    fn waits_for(&self, uid: &str, owner: &str) -> bool {
        let mut seen = HashSet::new();
        let mut next = vec![uid.to_owned()];
        while let Some(uid) = next.pop() {
            if uid == owner {
                return true;
            }
            let waits = self.nodes.get(&uid);
            let waits = waits.is_some_and(|node| node.deleting && node.foreground);
            if waits && seen.insert(uid.clone()) {
                next.extend(self.blocked_by(&uid));
            }
        }
        false
    }

    /// Takes a change in and returns the UIDs whose plan may differ now.
    pub(crate) fn apply(&mut self, resource: &Arc<ApiResource>, change: Change) -> Vec<String> {
        let mut dirty = HashSet::new();
        match change {
            Change::Put(meta) => self.put(resource, &meta, &mut dirty),
            Change::Gone(meta) => {
                if let Some(uid) = meta.uid() {
                    self.remove(&uid, &mut dirty);
                }
            }
            Change::All(list) => {
                let present: HashSet<String> = list.iter().filter_map(ResourceExt::uid).collect();
                let same = |node: &&Node| {
                    node.resource.group == resource.group && node.resource.kind == resource.kind
                };
                let vanished: Vec<String> = self
                    .nodes
                    .values()
                    .filter(same)
                    .filter(|node| !present.contains(&node.uid))
                    .map(|node| node.uid.clone())
                    .collect();
                vanished.iter().for_each(|uid| self.remove(uid, &mut dirty));
                list.iter()
                    .for_each(|meta| self.put(resource, meta, &mut dirty));
            }
        }
        dirty.into_iter().collect()
    }

    fn put(&mut self, resource: &Arc<ApiResource>, meta: &Metadata, dirty: &mut HashSet<String>) {
        let Some(uid) = meta.uid() else { return };
        let node = Node {
            uid: uid.clone(),
            key: Key::new(meta.namespace().unwrap_or_default(), meta.name_any()),
            resource: resource.clone(),
            owners: meta.owner_references().iter().map(owner_of).collect(),
            deleting: is_terminating(meta),
            foreground: meta
                .finalizers()
                .iter()
                .any(|finalizer| finalizer == FOREGROUND),
            orphan: meta
                .finalizers()
                .iter()
                .any(|finalizer| finalizer == ORPHAN),
        };
        let old = self.nodes.remove(&uid);
        if let Some(old) = &old {
            self.unlink(old, dirty);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        if node.deleting && (node.foreground || node.orphan) {
            dirty.insert(uid.clone());
            dirty.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        if !node.owners.is_empty() && old.is_none_or(|old| old.owners != node.owners) {
            dirty.insert(uid.clone());
        }
        self.nodes.insert(uid, node);
    }

    fn remove(&mut self, uid: &str, dirty: &mut HashSet<String>) {
        if let Some(node) = self.nodes.remove(uid) {
            self.unlink(&node, dirty);
        }
        dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
    }

    /// Takes a node out of its owners' dependents; an owner that waited for it may be done.
    fn unlink(&mut self, node: &Node, dirty: &mut HashSet<String>) {
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&node.uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self
                .nodes
                .get(&owner.uid)
                .is_some_and(|owner| owner.deleting)
            {
                dirty.insert(owner.uid.clone());
            }
        }
    }
}

fn owner_of(reference: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> Owner {
    Owner {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        uid: reference.uid.clone(),
        blocks: reference.block_owner_deletion == Some(true),
    }
}

/// What to do with `node`, given its owners' states, its dependents, and whether one of these holds it up.
pub(crate) fn plan(
    node: &Node,
    owners: &[(Owner, OwnerState)],
    dependents: &[Node],
    blocked: bool,
) -> Action {
    if node.deleting && node.orphan {
        return Action::Orphan(dependents.iter().map(|node| node.uid.clone()).collect());
    }
    if node.deleting && node.foreground {
        return if blocked {
            Action::Nothing
        } else {
            Action::FinishForeground
        };
    }
    if node.deleting || owners.is_empty() {
        return Action::Nothing;
    }
    let having = |wanted: OwnerState| owners.iter().filter(move |(_, state)| *state == wanted);
    if having(OwnerState::Solid).next().is_some() {
        let gone: Vec<String> = having(OwnerState::Absent)
            .chain(having(OwnerState::Waiting))
            .map(|(owner, _)| owner.uid.clone())
            .collect();
        return if gone.is_empty() {
            Action::Nothing
        } else {
            Action::DropOwners(gone)
        };
    }
    if having(OwnerState::Waiting).next().is_some() && !dependents.is_empty() {
        // A dependent that waits for its own dependents may wait for one of these owners in the end.
        let circle = dependents
            .iter()
            .any(|node| node.deleting && node.foreground);
        let blocking: Vec<String> = having(OwnerState::Waiting)
            .filter(|(owner, _)| owner.blocks)
            .map(|(owner, _)| owner.uid.clone())
            .collect();
        return if circle && !blocking.is_empty() {
            Action::Unblock(blocking)
        } else {
            Action::Delete(PropagationPolicy::Foreground)
        };
    }
    Action::Delete(PropagationPolicy::Background)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(uid: &str, owners: &[&str], extra: serde_json::Value) -> Metadata {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| {
                json!({"apiVersion": "v1", "kind": "X", "name": uid, "uid": uid,
                    "blockOwnerDeletion": true})
            })
            .collect();
        let mut metadata = json!({"name": uid, "namespace": "ns", "uid": uid,
            "ownerReferences": owners});
        metadata
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn resource() -> Arc<ApiResource> {
        Arc::new(ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "X".into(),
            plural: "xs".into(),
        })
    }

    fn put(graph: &mut Graph, uid: &str, owners: &[&str], extra: serde_json::Value) -> Vec<String> {
        let mut dirty = graph.apply(&resource(), Change::Put(meta(uid, owners, extra)));
        dirty.sort();
        dirty
    }

    fn plan_for(graph: &Graph, uid: &str) -> Action {
        let node = graph.get(uid).unwrap();
        let owners: Vec<_> = node
            .owners
            .iter()
            .map(|owner| {
                (
                    owner.clone(),
                    graph.state_of(&owner.uid).unwrap_or(OwnerState::Absent),
                )
            })
            .collect();
        let blocked = !graph.blockers(uid).is_empty();
        plan(node, &owners, &graph.dependents(uid), blocked)
    }

    #[test]
    fn what_waits_for_itself_waits_for_nobody() {
        let leaving = json!({"deletionTimestamp": "2030-01-01T00:00:00Z",
            "finalizers": [FOREGROUND]});
        let mut graph = Graph::default();
        put(&mut graph, "self", &["self"], leaving.clone());
        assert_eq!(plan_for(&graph, "self"), Action::FinishForeground);
        // All of a circle were deleted before any of them was looked at.
        for (uid, owner) in [("a", "c"), ("b", "a"), ("c", "b")] {
            put(&mut graph, uid, &[owner], leaving.clone());
        }
        for uid in ["a", "b", "c"] {
            assert_eq!(plan_for(&graph, uid), Action::FinishForeground, "{uid}");
        }
        // Who is not in the circle is waited for.
        put(&mut graph, "leaf", &["a"], json!({}));
        assert_eq!(plan_for(&graph, "a"), Action::Nothing);
        assert_eq!(plan_for(&graph, "b"), Action::FinishForeground);
    }

    #[test]
    fn a_dependent_goes_after_its_last_owner() {
        let mut graph = Graph::default();
        put(&mut graph, "a", &[], json!({}));
        put(&mut graph, "b", &[], json!({}));
        assert_eq!(put(&mut graph, "child", &["a", "b"], json!({})), ["child"]);
        assert_eq!(plan_for(&graph, "child"), Action::Nothing);
        let dirty = graph.apply(&resource(), Change::Gone(meta("a", &[], json!({}))));
        assert_eq!(dirty, ["child"]);
        assert_eq!(
            plan_for(&graph, "child"),
            Action::DropOwners(vec!["a".into()])
        );
        graph.apply(&resource(), Change::Gone(meta("b", &[], json!({}))));
        assert_eq!(
            plan_for(&graph, "child"),
            Action::Delete(PropagationPolicy::Background)
        );
    }

    #[test]
    fn foreground_deletion_goes_down_the_tree_and_up_again() {
        let leaving = json!({"deletionTimestamp": "2030-01-01T00:00:00Z",
            "finalizers": [FOREGROUND]});
        let mut graph = Graph::default();
        put(&mut graph, "root", &[], json!({}));
        put(&mut graph, "child", &["root"], json!({}));
        put(&mut graph, "leaf", &["child"], json!({}));
        assert_eq!(
            put(&mut graph, "root", &[], leaving.clone()),
            ["child", "root"]
        );
        assert_eq!(plan_for(&graph, "root"), Action::Nothing);
        assert_eq!(
            plan_for(&graph, "child"),
            Action::Delete(PropagationPolicy::Foreground)
        );
        put(&mut graph, "child", &["root"], leaving);
        assert_eq!(
            plan_for(&graph, "leaf"),
            Action::Delete(PropagationPolicy::Background)
        );
        let dirty = graph.apply(
            &resource(),
            Change::Gone(meta("leaf", &["child"], json!({}))),
        );
        assert_eq!(dirty, ["child"]);
        assert_eq!(plan_for(&graph, "child"), Action::FinishForeground);
        graph.apply(
            &resource(),
            Change::Gone(meta("child", &["root"], json!({}))),
        );
        assert_eq!(plan_for(&graph, "root"), Action::FinishForeground);
    }

    #[test]
    fn objects_that_own_each_other_in_a_circle_do_not_wait_for_each_other() {
        let leaving = json!({"deletionTimestamp": "2030-01-01T00:00:00Z",
            "finalizers": [FOREGROUND]});
        let mut graph = Graph::default();
        put(&mut graph, "a", &["c"], leaving.clone());
        put(&mut graph, "b", &["a"], json!({}));
        put(&mut graph, "c", &["b"], json!({}));
        let foreground = Action::Delete(PropagationPolicy::Foreground);
        assert_eq!(plan_for(&graph, "b"), foreground);
        put(&mut graph, "b", &["a"], leaving.clone());
        assert_eq!(plan_for(&graph, "c"), Action::Unblock(vec!["b".into()]));
        let free = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "b",
            "uid": "b", "blockOwnerDeletion": false}]});
        assert!(put(&mut graph, "c", &[], free).contains(&"c".into()));
        assert_eq!(plan_for(&graph, "c"), foreground);
        assert_eq!(plan_for(&graph, "b"), Action::FinishForeground);
    }

    #[test]
    fn orphaning_names_every_dependent() {
        let mut graph = Graph::default();
        put(&mut graph, "child", &["root"], json!({}));
        put(
            &mut graph,
            "root",
            &[],
            json!({"deletionTimestamp": "2030-01-01T00:00:00Z", "finalizers": [ORPHAN]}),
        );
        assert_eq!(
            plan_for(&graph, "root"),
            Action::Orphan(vec!["child".into()])
        );
    }

    #[test]
    fn a_complete_list_removes_what_it_lacks() {
        let mut graph = Graph::default();
        put(&mut graph, "root", &[], json!({}));
        put(&mut graph, "child", &["root"], json!({}));
        let rest = vec![meta("child", &["root"], json!({}))];
        let dirty = graph.apply(&resource(), Change::All(rest));
        assert!(dirty.contains(&"child".to_owned()));
        assert!(graph.get("root").is_none());
    }
}
