//! Empties namespaces that are being deleted, then lets them go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::garbage::{Metadata, discover};
use crate::meta::{Key, is_terminating, now, uid};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 2;
/// How soon a namespace is looked at again while its contents are still ending. Watching every
/// kind for this alone would cost more than asking a few times.
const STILL_ENDING: Duration = Duration::from_millis(500);

/// How long a deleted namespace keeps its contents, beyond the second that its deletion is dated with: a client that deletes
/// a whole manifest still finds what comes after the namespace, and writes under way come to light. Kubernetes waits 5 s.
const GRACE: SignedDuration = SignedDuration::from_secs(2);

/// # Guarantees
/// Pods are deleted first, everything else once they are gone. A namespace goes only after the server listed no object of any kind in it; what holds it up
/// is said in its conditions.
struct Namespaces {
    client: Client,
    caches: Arc<Caches>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches.namespaces.on_change(move |namespace| {
        if is_terminating(namespace) {
            wake.add(Key::of(namespace));
        }
    });
    // The last pod to end is what a namespace mostly waits for.
    let (wake, namespaces) = (queue.clone(), caches.namespaces.clone());
    caches.pods.on_change(move |pod| {
        let key = Key::cluster(pod.namespace().unwrap_or_default());
        if is_terminating(pod)
            && namespaces
                .get(&key)
                .is_some_and(|found| is_terminating(&*found))
        {
            wake.add(key);
        }
    });
    let namespaces = Namespaces {
        client: client.clone(),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(namespaces), &queue, WORKERS);
}

/// What is left in a namespace, and why.
#[derive(Debug, Default, PartialEq, Eq)]
struct Remaining {
    /// `plural.group` → number of objects.
    objects: BTreeMap<String, usize>,
    /// Finalizer → number of objects that carry it.
    finalizers: BTreeMap<String, usize>,
    /// Kinds whose objects could not be deleted or listed, with the reason.
    failures: Vec<String>,
    discovery_failure: Option<String>,
}

impl Remaining {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Reconcile for Namespaces {
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(namespace) = self.caches.namespaces.get(key) else {
            return Ok(Next::Await);
        };
        if !is_terminating(&*namespace) || !has_finalizer(&namespace) {
            return Ok(Next::Await);
        }
        if let Some(left) = time_left(&namespace, Timestamp::now()) {
            return Ok(Next::After(left));
        }
        let remaining = self.empty(&key.name).await;
        self.write_conditions(&namespace, &remaining).await?;
        if !remaining.is_empty() {
            return Ok(Next::After(STILL_ENDING));
        }
        self.finalize(&namespace).await?;
        Ok(Next::Await)
    }
}

/// Pods go first, and the rest when they are gone: a policy or a secret that goes before the pod it is for changes what the
/// pod does in its last moments (KEP-5080).
fn in_order<T>(kinds: Vec<(String, T)>) -> [Vec<(String, T)>; 2] {
    let (pods, rest) = kinds.into_iter().partition(|(name, _)| name == "pods");
    [pods, rest]
}

/// How long the namespace is still left alone.
fn time_left(namespace: &Namespace, now: Timestamp) -> Option<Duration> {
    let deleted = namespace.metadata.deletion_timestamp.as_ref()?.0;
    let left = GRACE - now.duration_since(deleted);
    // A clock that was set back must not keep the namespace.
    Duration::try_from(left.min(GRACE))
        .ok()
        .filter(|left| !left.is_zero())
}

impl Namespaces {
    /// Asks for the deletion of everything, and tells what is still there afterwards.
    async fn empty(&self, namespace: &str) -> Remaining {
        let mut remaining = Remaining::default();
        let resources = match discover(&self.client).await {
            Ok(resources) => resources,
            Err(error) => {
                remaining.discovery_failure = Some(error.to_string());
                return remaining;
            }
        };
        let namespaced = resources.iter().filter(|(_, namespaced)| *namespaced);
        let names = namespaced.map(|(resource, _)| {
            let name = if resource.group.is_empty() {
                resource.plural.clone()
            } else {
                format!("{}.{}", resource.plural, resource.group)
            };
            (name, resource)
        });
        for group in in_order(names.collect()) {
            for (name, resource) in group {
                let api: Api<Metadata> =
                    Api::namespaced_with(self.client.clone(), namespace, &**resource);
                if let Err(error) = empty_one(&api, &name, &mut remaining).await {
                    remaining.failures.push(format!("{name}: {error}"));
                }
            }
            // What is still there may need what comes later.
            if !remaining.is_empty() {
                break;
            }
        }
        remaining
    }

    async fn write_conditions(
        &self,
        namespace: &Namespace,
        remaining: &Remaining,
    ) -> Result<(), Error> {
        let old = namespace
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone());
        let conditions = conditions(old.as_deref().unwrap_or_default(), remaining);
        if old.as_ref() == Some(&conditions) {
            return Ok(());
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"uid": uid(namespace)},
            "status": {"conditions": conditions}});
        let patch = Patch::Merge(patch);
        ignore_not_found(
            api.patch_status(&namespace.name_any(), &PatchParams::default(), &patch)
                .await,
        )
        .map(drop)
        .map_err(Error::api(
            "write the conditions of namespace",
            namespace.name_any(),
        ))
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let name = namespace.name_any();
        let mut finalized = namespace.clone();
        if let Some(finalizers) = finalized
            .spec
            .as_mut()
            .and_then(|spec| spec.finalizers.as_mut())
        {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        finalized.metadata.resource_version = None;
        let about = || Error::Invalid {
            object: name.clone(),
            field: "metadata.name",
            problem: "cannot be put into a request path".into(),
        };
        let body = serde_json::to_vec(&finalized).map_err(|_| about())?;
        let request = Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header("content-type", "application/json")
            .body(body)
            .map_err(|_| about())?;
        ignore_not_found(self.client.request::<Namespace>(request).await)
            .map(drop)
            .map_err(Error::api("finalize namespace", name.clone()))
    }
}

const FINALIZER: &str = "kubernetes";

fn has_finalizer(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_ref());
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|own| own == FINALIZER))
}

async fn empty_one(
    api: &Api<Metadata>,
    name: &str,
    remaining: &mut Remaining,
) -> Result<(), kube::Error> {
    let all = ListParams::default();
    if api.list(&all).await?.items.is_empty() {
        return Ok(());
    }
    api.delete_collection(&DeleteParams::background(), &all)
        .await?;
    let left = api.list(&all).await?.items;
    if !left.is_empty() {
        remaining.objects.insert(name.to_owned(), left.len());
    }
    for finalizer in left.iter().flat_map(|object| object.finalizers()) {
        *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Ok(())
}

/// The five conditions of a namespace on its way out.
fn conditions(old: &[NamespaceCondition], remaining: &Remaining) -> Vec<NamespaceCondition> {
    let counted = |map: &BTreeMap<String, usize>, what: &str| {
        let parts: Vec<String> = map
            .iter()
            .map(|(name, count)| format!("{name} {what} {count} resource instances"))
            .collect();
        (!map.is_empty()).then(|| parts.join(", "))
    };
    let content = counted(&remaining.objects, "has")
        .map(|parts| format!("Some resources are remaining: {parts}"));
    let finalizers = counted(&remaining.finalizers, "in")
        .map(|parts| format!("Some content in the namespace has finalizers remaining: {parts}"));
    let failures = (!remaining.failures.is_empty()).then(|| {
        format!(
            "Failed to delete all resource types: {}",
            remaining.failures.join("; ")
        )
    });
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            remaining.discovery_failure.clone(),
            (
                "DiscoveryFailed",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            failures,
            (
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            content,
            (
                "SomeResourcesRemain",
                "ContentRemoved",
                "All content successfully removed",
            ),
        ),
        (
            "NamespaceFinalizersRemaining",
            finalizers,
            (
                "SomeFinalizersRemain",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ];
    rows.into_iter()
        .map(|(type_, problem, (bad, good, fine))| {
            let status = if problem.is_some() { "True" } else { "False" };
            let known = old.iter().find(|known| known.type_ == type_);
            let since = known.filter(|known| known.status == status);
            NamespaceCondition {
                type_: type_.into(),
                status: status.into(),
                reason: Some(if problem.is_some() { bad } else { good }.into()),
                message: Some(problem.unwrap_or_else(|| fine.into())),
                last_transition_time: since
                    .and_then(|known| known.last_transition_time.clone())
                    .or_else(|| Some(now())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_namespace_is_left_alone_for_a_moment() {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "n",
            "deletionTimestamp": "2030-01-01T00:00:00Z"}}))
        .unwrap();
        let left = |now: &str| time_left(&namespace, now.parse().unwrap());
        assert_eq!(
            left("2030-01-01T00:00:00.5Z"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(left("2030-01-01T00:00:02Z"), None);
        assert_eq!(left("2031-01-01T00:00:00Z"), None);
        assert_eq!(left("2029-01-01T00:00:00Z"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn pods_go_first() {
        let kinds = ["configmaps", "pods", "pods.metrics.k8s.io", "secrets"];
        let kinds = kinds.map(|name| (name.to_owned(), ())).to_vec();
        let names = in_order(kinds).map(|group| {
            let names = group.into_iter().map(|(name, ())| name);
            names.collect::<Vec<_>>()
        });
        assert_eq!(names[0], ["pods"]);
        assert_eq!(names[1], ["configmaps", "pods.metrics.k8s.io", "secrets"]);
    }

    #[test]
    fn conditions_say_what_holds_a_namespace_up() {
        let mut remaining = Remaining::default();
        remaining.objects.insert("pods".into(), 2);
        remaining.finalizers.insert("example.com/keep".into(), 1);
        let conditions = conditions(&[], &remaining);
        let shown: Vec<_> = conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("NamespaceDeletionDiscoveryFailure", "False"),
                ("NamespaceDeletionContentFailure", "False"),
                ("NamespaceContentRemaining", "True"),
                ("NamespaceFinalizersRemaining", "True"),
            ]
        );
        let message = conditions[2].message.as_deref().unwrap();
        assert_eq!(
            message,
            "Some resources are remaining: pods has 2 resource instances"
        );
        assert!(
            conditions[3]
                .message
                .as_deref()
                .unwrap()
                .contains("example.com/keep in 1")
        );
    }

    #[test]
    fn an_unchanged_condition_keeps_its_time() {
        let mut first = conditions(&[], &Remaining::default());
        let old = crate::meta::at("2020-01-01T00:00:00Z".parse().unwrap());
        first
            .iter_mut()
            .for_each(|c| c.last_transition_time = Some(old.clone()));
        assert_eq!(conditions(&first, &Remaining::default()), first);
    }
}
