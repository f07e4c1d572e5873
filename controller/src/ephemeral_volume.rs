//! Makes the claims of generic ephemeral volumes: each is named after its pod and volume, owned by the pod, and goes with it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::caches::Caches;
use crate::error::{Error, is_conflict};
use crate::event::Events;
use crate::meta::{Key, controller_of, is_terminating, owned_by, uid};
use crate::queue::Queue;
use crate::replica_set::is_finished;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 4;

/// # Guarantees
/// A pod that is to run has a claim for each of its ephemeral volumes. A claim of that name that was made for something else
/// is left alone and not used; the pod gets an Event.
struct EphemeralVolumes {
    client: Client,
    caches: Arc<Caches>,
    events: Events,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let wake = queue.clone();
    caches.pods.on_change(move |pod| {
        if ephemeral_claims_of(pod).next().is_some() {
            wake.add(Key::of(pod));
        }
    });
    // One that is gone, or stood in the way, is made again for a pod that still needs it.
    let (wake, pods) = (queue.clone(), caches.pods.clone());
    caches.claims.on_change(move |claim| {
        let name = claim.name_any();
        for pod in pods.in_namespace(&claim.namespace().unwrap_or_default()) {
            if ephemeral_claims_of(&pod).any(|own| own == name) {
                wake.add(Key::of(&*pod));
            }
        }
    });
    let volumes = EphemeralVolumes {
        client: client.clone(),
        caches: caches.clone(),
        events: Events::new(client, "ephemeral-volume-controller"),
    };
    tasks.reconcile(Arc::new(volumes), &queue, WORKERS);
}

/// The pod's volumes.
pub(crate) fn volumes_of(pod: &Pod) -> &[Volume] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

/// Name of the claim of a volume, if it is an ephemeral one.
pub(crate) fn ephemeral_claim(pod: &Pod, volume: &Volume) -> Option<String> {
    volume.ephemeral.as_ref()?;
    Some(format!("{}-{}", pod.name_any(), volume.name))
}

/// Names of the claims of the pod's ephemeral volumes.
pub(crate) fn ephemeral_claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = volumes_of(pod).iter();
    volumes.filter_map(|volume| ephemeral_claim(pod, volume))
}

/// Whether the claim is the pod's own and not one that only has the name.
pub(crate) fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    controller_of(claim).is_some_and(|owner| owner.uid == uid(pod))
}

/// Why a claim cannot be used, in Kubernetes' words.
pub(crate) fn not_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> String {
    format!(
        "PVC {} was not created for pod {} (pod is not owner)",
        Key::of(claim),
        Key::of(pod)
    )
}

/// What one volume needs.
#[derive(Debug, PartialEq)]
enum Change {
    Create(Box<PersistentVolumeClaim>),
    /// The name is taken.
    Refuse {
        volume: String,
        cause: String,
    },
}

/// What the pod's volumes need; `find` gives a claim of its namespace.
fn plan(pod: &Pod, find: impl Fn(&str) -> Option<Arc<PersistentVolumeClaim>>) -> Vec<Change> {
    if is_terminating(pod) || is_finished(pod) {
        return Vec::new();
    }
    let volumes = volumes_of(pod).iter().filter_map(|volume| {
        let name = ephemeral_claim(pod, volume)?;
        match find(&name) {
            None => Some(Change::Create(Box::new(claim(pod, volume, name)?))),
            Some(claim) if is_made_for(&claim, pod) => None,
            Some(claim) => Some(Change::Refuse {
                volume: volume.name.clone(),
                cause: not_made_for(&claim, pod),
            }),
        }
    });
    volumes.collect()
}

fn claim(pod: &Pod, volume: &Volume, name: String) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let metadata = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.namespace(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(vec![owned_by(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

impl Reconcile for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.claims.synced().await;
        let Some(pod) = self.caches.pods.get(key) else {
            return Ok(Next::Await);
        };
        let find = |name: &str| self.caches.claims.get(&Key::new(&key.namespace, name));
        let mut failed = None;
        for change in plan(&pod, find) {
            match change {
                Change::Create(claim) => {
                    if let Err(error) = self.create(&pod, &claim).await {
                        failed = Some(error);
                    }
                }
                Change::Refuse { volume, cause } => {
                    let note = format!("ephemeral volume {volume}: {cause}");
                    self.events
                        .warning(&*pod, "FailedBinding", "Provision", note.clone())
                        .await;
                    failed = Some(Error::Invalid {
                        object: format!("pod {key}"),
                        field: "spec.volumes",
                        problem: note,
                    });
                }
            }
        }
        failed.map_or(Ok(Next::Await), Err)
    }
}

impl EphemeralVolumes {
    async fn create(&self, pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let namespace = pod.namespace().unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let about = Key::of(claim);
        match claims.create(&PostParams::default(), claim).await {
            Ok(_) => {
                self.caches.claims.shows(&about).await;
                Ok(())
            }
            // The cache is behind; the next run sees whose it is.
            Err(error) if is_conflict(&error) => {
                Err(Error::api("create claim", about.to_string())(error))
            }
            Err(error) => {
                let note = format!("ephemeral volume claim {}: {error}", claim.name_any());
                self.events
                    .warning(pod, "FailedBinding", "Provision", note)
                    .await;
                Err(Error::api("create claim", about.to_string())(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(extra: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "plain", "emptyDir": {}},
                {"name": "e", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                    "spec": {"accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "10Mi"}}}}}}]},
        });
        for (key, value) in extra.as_object().unwrap() {
            for (name, value) in value.as_object().unwrap() {
                pod[key][name] = value.clone();
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_claim_is_made_once_and_owned() {
        let pod = pod(&json!({}));
        let changes = plan(&pod, |_| None);
        let [Change::Create(made)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(Key::of(&**made), Key::new("ns", "p-e"));
        assert_eq!(made.labels()["a"], "b");
        assert_eq!(made.annotations()["c"], "d");
        let owner = controller_of(&**made).unwrap();
        assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("Pod", "p", "u"));
        assert_eq!(owner.block_owner_deletion, Some(true));
        let made = Arc::new((**made).clone());
        assert_eq!(plan(&pod, |name| (name == "p-e").then(|| made.clone())), []);
    }

    #[test]
    fn a_claim_of_somebody_else_is_refused() {
        let pod = pod(&json!({}));
        for owner in [
            json!([]),
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "old", "controller": true}]),
        ] {
            let other: PersistentVolumeClaim = serde_json::from_value(json!({"metadata":
                {"name": "p-e", "namespace": "ns", "ownerReferences": owner}}))
            .unwrap();
            let other = Arc::new(other);
            let changes = plan(&pod, |_| Some(other.clone()));
            assert!(
                matches!(changes.as_slice(), [Change::Refuse { volume, cause }] if volume == "e"
                    && cause == "PVC ns/p-e was not created for pod ns/p (pod is not owner)"),
                "{changes:?}"
            );
        }
    }

    #[test]
    fn pods_that_end_get_none() {
        for extra in [
            json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}}),
            json!({"status": {"phase": "Succeeded"}}),
        ] {
            assert_eq!(plan(&pod(&extra), |_| None), []);
        }
    }
}
