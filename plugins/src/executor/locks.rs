//! One lock a pod, a network and a volume, made when first needed.

use crate::plan::ScopeId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Locks that are not held are forgotten when there are more than this many.
const KEPT: usize = 256;

/// A lock that is held.
pub(super) type Lock = OwnedMutexGuard<()>;

#[derive(Debug, Default)]
pub(super) struct Locks {
    by_name: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    pub(super) async fn pod(&self, uid: &str) -> Lock {
        self.named(format!("pod/{uid}")).await
    }

    pub(super) async fn network(&self, name: &str) -> Lock {
        self.named(format!("network/{name}")).await
    }

    pub(super) async fn volume(&self, id: &str) -> Lock {
        self.named(format!("volume/{id}")).await
    }

    /// The lock that calls about a scope take.
    pub(super) async fn of(&self, scope: &ScopeId) -> Lock {
        self.named(name_of(scope)).await
    }

    /// The same, if nobody holds it.
    pub(super) fn try_of(&self, scope: &ScopeId) -> Option<Lock> {
        self.get(name_of(scope)).try_lock_owned().ok()
    }

    async fn named(&self, name: String) -> Lock {
        self.get(name).lock_owned().await
    }

    fn get(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.by_name.lock();
        if locks.len() > KEPT {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(name).or_default().clone()
    }
}

fn name_of(scope: &ScopeId) -> String {
    let first = scope.parts().next().unwrap_or_default();
    match scope.kind() {
        "net" => format!("pod/{first}"),
        "node" => format!("network/{first}"),
        _ => format!("volume/{first}"),
    }
}
