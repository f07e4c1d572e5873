//! ResourceQuotas: puts declared bounds into force and counts what is used.
//!
//! The API server charges every write to the quotas of its namespace, so counting is only needed for bounds that are new, and
//! now and then for what nobody writes, such as a pod whose time to end is over.

mod observe;
mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use davit_api::quota::Quota;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::caches::Caches;
use crate::error::{Error, is_conflict, is_not_found};
use crate::meta::Key;
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 2;
/// How often everything is counted anew, as in Kubernetes.
const RESYNC: Duration = Duration::from_secs(300);
/// When a second look finds the writes that were on their way while bounds came into force.
const SETTLE: Duration = Duration::from_secs(2);
/// Counts started over because something was written meanwhile, before the run gives way to others.
const TRIES: usize = 16;

/// # Guarantees
/// A status is written only if nothing it counts changed since the count began: every write that changes usage also writes
/// the quota, and the status is replaced at the version that was read before the objects were.
struct Controller {
    client: Client,
    /// Quotas that were counted since this process started.
    seen: Arc<Mutex<HashSet<Key>>>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let (wake, known) = (queue.clone(), seen.clone());
    caches.quotas.on_change(move |quota| {
        let key = Key::of(quota);
        if !known.lock().contains(&key) || is_behind(quota) {
            wake.add(key);
        }
    });
    let (wake, pods, quotas) = (queue.clone(), caches.pods.clone(), caches.quotas.clone());
    caches.pods.on_change(move |pod| {
        if overstayed(pod) && pods.get(&Key::of(pod)).is_none() {
            let namespace = Key::of(pod).namespace;
            for quota in quotas.in_namespace(&namespace) {
                wake.add(Key::of(&*quota));
            }
        }
    });
    let client = client.clone();
    tasks.reconcile(Arc::new(Controller { client, seen }), &queue, WORKERS);
}

/// Whether the bounds in force are not those declared, or not all of them are counted.
fn is_behind(quota: &ResourceQuota) -> bool {
    serde_json::to_value(quota)
        .and_then(|object| Quota::read(&object))
        .is_ok_and(|quota| plan::is_behind(&quota))
}

/// Whether a pod that is gone had stopped counting before, because the time it was given to end was over.
fn overstayed(pod: &Pod) -> bool {
    let (deletion, grace) = (
        &pod.metadata.deletion_timestamp,
        pod.metadata.deletion_grace_period_seconds,
    );
    let (Some(deletion), Some(grace)) = (deletion, grace) else {
        return false;
    };
    let end = deletion.0.checked_add(SignedDuration::from_secs(grace));
    end.is_ok_and(|end| Timestamp::now() > end)
}

impl Reconcile for Controller {
    const NAME: &'static str = "resource-quota";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        for _ in 0..TRIES {
            match self.count(key).await {
                Err(Error::Api { source, .. }) if is_conflict(&source) => {}
                other => return other,
            }
        }
        Err(Error::Behind {
            object: key.to_string(),
        })
    }
}

impl Controller {
    /// Counts once and writes what came of it.
    async fn count(&self, key: &Key) -> Result<Next, Error> {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        let stored = match quotas.get(&key.name).await {
            Ok(stored) => stored,
            Err(error) if is_not_found(&error) => {
                self.seen.lock().remove(key);
                return Ok(Next::Await);
            }
            Err(error) => return Err(Error::api("read quota", key.to_string())(error)),
        };
        let quota = read(&stored, key)?;
        let counted = observe::usage(&self.client, &key.namespace, &quota).await?;
        let planned = plan::status(&quota, &counted);
        self.seen.lock().insert(key.clone());
        let Some(status) = planned else {
            return Ok(Next::After(RESYNC));
        };
        let stored = ResourceQuota {
            status: Some(status),
            ..stored
        };
        let params = PostParams::default();
        let written = quotas.replace_status(&key.name, &params, &stored).await;
        written.map_err(Error::api("write status of quota", key.to_string()))?;
        let next = if plan::is_behind(&quota) {
            SETTLE
        } else {
            RESYNC
        };
        Ok(Next::After(next))
    }
}

fn read(stored: &ResourceQuota, key: &Key) -> Result<Quota, Error> {
    let object = serde_json::to_value(stored);
    let quota = object.and_then(|object| Quota::read(&object));
    quota.map_err(|error| Error::Invalid {
        object: key.to_string(),
        field: "spec",
        problem: error.to_string(),
    })
}
