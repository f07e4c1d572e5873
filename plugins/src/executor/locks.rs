//! One lock a pod, a network and a volume, made when first needed.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Locks that are not held are forgotten when there are more than this many.
const KEPT: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Locks {
    by_name: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    pub(super) async fn pod(&self, uid: &str) -> OwnedMutexGuard<()> {
        self.named(format!("pod/{uid}")).await
    }

    pub(super) async fn network(&self, name: &str) -> OwnedMutexGuard<()> {
        self.named(format!("network/{name}")).await
    }

    pub(super) async fn volume(&self, id: &str) -> OwnedMutexGuard<()> {
        self.named(format!("volume/{id}")).await
    }

    async fn named(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.by_name.lock();
            if locks.len() > KEPT {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(name).or_default().clone()
        };
        lock.lock_owned().await
    }
}
