//! Teardown by record: no plugin is asked; it is told afterwards.

use super::{Host, Phase};
use crate::error::{CallError, Code};
use crate::network;
use crate::plan::{NetworkOp, ScopeId, StoragePlan};
use crate::registry::{CallInput, Registry};
use crate::scope::{Pools, Record, ScopePlan, Store, Txn};
use crate::storage;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Tries to tell a driver that a scope is gone, with doubling pauses between.
const TELL_TRIES: u32 = 6;

impl Host {
    /// Detaches a pod from its networks and frees its addresses. The namespace may be gone already.
    ///
    /// # Errors
    /// When something on the host could not be removed; the scope stays and can be retried.
    pub async fn release_pod(&self, pod_uid: &str) -> Result<(), CallError> {
        let _lock = self.locks.pod(pod_uid).await;
        let mut first_error = Ok(());
        for record in self.store.list(&format!("net/{pod_uid}/")) {
            let outcome = self.release_scope(&record.scope).await;
            first_error = first_error.and(outcome);
        }
        first_error
    }

    /// Whether devices of the host were moved into a pod.
    #[must_use]
    pub fn holds_devices(&self, pod_uid: &str) -> bool {
        let records = self.store.list(&format!("net/{pod_uid}/"));
        let device = |op: &NetworkOp| matches!(op, NetworkOp::HostDevice { .. });
        records.iter().any(|record| match &record.plan {
            ScopePlan::Network(plan) => plan.ops.iter().any(device),
            ScopePlan::Storage(_) => false,
        })
    }

    /// Releases every `net/` and `publish/` scope whose pod is not in `pods`; returns the pods'
    /// uids that were released.
    pub async fn retain_pods(&self, pods: &HashSet<String>) -> Vec<String> {
        let pod_of = |scope: &ScopeId| match scope.kind() {
            "net" => scope.parts().next().map(str::to_owned),
            "publish" => scope.parts().nth(1).map(str::to_owned),
            _ => None,
        };
        let scopes = ["net/", "publish/"]
            .into_iter()
            .flat_map(|kind| self.store.list(kind));
        let gone: Vec<(ScopeId, String)> = scopes
            .filter_map(|record| Some((record.scope.clone(), pod_of(&record.scope)?)))
            .filter(|(_, uid)| !pods.contains(uid))
            .collect();
        let mut released = BTreeSet::new();
        for (scope, uid) in gone {
            let volume = scope.parts().next().unwrap_or_default();
            let outcome = match scope.kind() {
                "publish" => self.unpublish_volume(volume, &uid).await,
                _ => self.release_pod(&uid).await,
            };
            match outcome {
                Ok(()) => {
                    released.insert(uid);
                }
                Err(error) => tracing::warn!(%scope, %error, "cannot release a pod that is gone"),
            }
        }
        released.into_iter().collect()
    }

    /// Releases everything but the data of volumes, as `davit down` does. Returns what could not
    /// be removed, with the reason.
    pub async fn release_all(&self) -> Vec<(ScopeId, String)> {
        let mut failures = Vec::new();
        for kind in ["publish/", "stage/", "net/", "node/"] {
            for record in self.store.list(kind) {
                let _lock = self.locks.of(&record.scope).await;
                if let Err(error) = self.release_scope(&record.scope).await {
                    failures.push((record.scope.clone(), error.message));
                }
            }
        }
        for record in self.store.list("volume/") {
            let _lock = self.locks.of(&record.scope).await;
            failures.extend(self.lay_down(&record).await);
        }
        failures
    }

    /// Takes back what a volume is on the host besides its data, such as mounts. The record stays, and the next start
    /// brings it in force again.
    async fn lay_down(&self, record: &Record) -> Option<(ScopeId, String)> {
        let ScopePlan::Storage(plan) = &record.plan else {
            return None;
        };
        let passing = plan.ops.iter().filter(|op| !op.holds_data()).cloned();
        let passing = ScopePlan::Storage(StoragePlan {
            ops: passing.collect(),
        });
        let failures = self.hands.undo(&record.context(), &passing).await;
        let first = failures.into_iter().next()?;
        Some((
            record.scope.clone(),
            format!("{}: {}", first.step, first.error),
        ))
    }

    /// Undoes everything of a scope and drops its record. Unknown scopes count as released. The
    /// caller holds the scope's lock.
    pub(super) async fn release_scope(&self, scope: &ScopeId) -> Result<(), CallError> {
        let Some(record) = self.store.get(scope) else {
            self.settled(scope);
            return Ok(());
        };
        let releasing = Record {
            phase: Phase::Releasing,
            error: None,
            ..Record::clone(&record)
        };
        self.store
            .commit(Txn {
                puts: vec![releasing.clone()],
                ..Txn::default()
            })
            .await?;
        if let Some(failure) = self.undo_all(&record).await.into_iter().next() {
            let why = format!("{}: {}", failure.step, failure.error);
            let stuck = Record {
                error: Some(why.clone()),
                ..releasing
            };
            self.store
                .commit(Txn {
                    puts: vec![stuck],
                    ..Txn::default()
                })
                .await?;
            let message = format!("{scope} cannot be removed: {why}");
            return Err(CallError::new(Code::Unavailable, message));
        }
        self.forget(&record).await?;
        self.tell_released(&record);
        Ok(())
    }

    /// Tells the driver in the background. Nothing waits for it.
    fn tell_released(&self, record: &Record) {
        let (store, registry) = (self.store.clone(), self.registry.clone());
        let (eyes, scope) = (self.eyes.clone(), record.scope.clone());
        let driver = record.driver.clone();
        tokio::spawn(async move {
            for attempt in 1..=TELL_TRIES {
                let input = released_input(&store, &eyes, &scope, attempt);
                match tell(&registry, &driver, input, &scope).await {
                    Ok(()) => return,
                    Err(error) if attempt == TELL_TRIES => {
                        tracing::warn!(driver, %scope, %error, "the driver did not hear that a scope is gone");
                    }
                    Err(_) => tokio::time::sleep(Duration::from_secs(1 << attempt)).await,
                }
            }
        });
    }
}

fn released_input<'a>(
    store: &'a Arc<Store>,
    eyes: &'a Arc<dyn crate::capabilities::HostCapabilities>,
    scope: &ScopeId,
    attempt: u32,
) -> CallInput<'a> {
    CallInput {
        store,
        eyes,
        scope: scope.clone(),
        pools: Pools::default(),
        operation_id: format!("released/{scope}"),
        attempt,
        dry_run: false,
        subject: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

async fn tell(
    registry: &Registry,
    driver: &str,
    input: CallInput<'_>,
    scope: &ScopeId,
) -> Result<(), CallError> {
    let serving = registry.get(driver)?;
    match scope.kind() {
        "net" | "node" => network::Driver::new(serving)?.released(input, scope).await,
        _ => storage::Driver::new(serving)?.released(input, scope).await,
    }
}
