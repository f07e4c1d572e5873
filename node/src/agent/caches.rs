//! Objects of one kind kept in memory by a watch, and the news of them.
use std::fmt::Debug;
use std::hash::Hash;

use futures::StreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A kind of objects.
pub(super) struct Cache<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> {
    /// The objects as they are now.
    pub(super) store: Store<K>,
    /// Tells of changes, several at once as one.
    pub(super) changes: watch::Receiver<()>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone + Default> + Clone + 'static> Cache<K> {
    /// The same objects and the same news for somebody else.
    pub(super) fn share(&self) -> Self {
        Self {
            store: self.store.clone(),
            changes: self.changes.clone(),
        }
    }
}

/// Watches `api` in a task of `tasks` until shutdown. A kind that does not exist yet is waited for.
pub(super) fn cache<K>(
    api: Api<K>,
    config: watcher::Config,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (sender, receiver) = watch::channel(());
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let mut events = watcher(api, config)
            .default_backoff()
            .reflect(writer)
            .boxed();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                // The parts of a list are news only together.
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                Some(Ok(_)) => drop(sender.send(())),
                Some(Err(error)) => {
                    tracing::debug!(%error, kind = %K::kind(&()), "watch interrupted")
                }
                None => return,
            }
        }
    });
    Cache {
        store,
        changes: receiver,
    }
}
