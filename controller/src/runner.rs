//! Runs one reconciler over the keys of its queue, a bounded number of keys at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::meta::Key;
use crate::pulse::{Component, Pulse};
use crate::queue::Queue;

/// What a finished run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Await,
    /// Another look after this time, because the plan depends on the clock.
    After(Duration),
}

/// A controller's body: bring the object named by the key closer to what was declared.
///
/// # Guarantees
/// The runner never calls it twice at once for one key, and calls it again after a failure.
///
/// # Assumptions
/// A run reads only caches, plans with a pure function, and may be abandoned at any await point.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// Name in logs and events.
    const NAME: &'static str;

    /// One run over `key`; the object may be gone by now.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Next, Error>> + Send;
}

/// The tasks of the running controllers, ended together.
#[derive(Debug)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    stop: CancellationToken,
    pulse: Pulse,
    /// Whose tasks are started now.
    owners: &'static [Component],
}

impl Tasks {
    pub(crate) fn new(stop: CancellationToken, pulse: Pulse) -> Self {
        Self {
            set: JoinSet::new(),
            stop,
            pulse,
            owners: Component::ALL,
        }
    }

    /// The tasks that are started from now on are those of these components.
    pub(crate) fn of(&mut self, owners: &'static [Component]) {
        self.owners = owners;
    }

    /// Runs `task` until it ends or the controllers stop.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let beat = self.pulse.task(self.owners);
        self.set.spawn(async move {
            let _beat = beat;
            tokio::select! { () = stop.cancelled() => {}, () = task => {} }
        });
    }

    /// Serves `queue` with up to `workers` runs of `reconciler` at once.
    pub(crate) fn reconcile<R: Reconcile>(
        &mut self,
        reconciler: Arc<R>,
        queue: &Arc<Queue<Key>>,
        workers: usize,
    ) {
        for _ in 0..workers {
            let (reconciler, queue) = (reconciler.clone(), queue.clone());
            self.spawn(async move {
                loop {
                    let key = queue.next().await;
                    run_once(&*reconciler, &queue, &key).await;
                }
            });
        }
    }

    pub(crate) async fn join(mut self) {
        while let Some(ended) = self.set.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a controller task panicked");
            }
        }
    }
}

async fn run_once<R: Reconcile>(reconciler: &R, queue: &Queue<Key>, key: &Key) {
    match reconciler.reconcile(key).await {
        Ok(next) => {
            queue.done(key, false);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) if error.is_namespace_ending() => queue.done(key, false),
        Err(error) => {
            if error.is_race() {
                tracing::debug!(controller = R::NAME, %key, error = error.chain(), "retrying");
            } else {
                tracing::warn!(controller = R::NAME, %key, error = error.chain(), "retrying");
            }
            queue.done(key, true);
        }
    }
}
