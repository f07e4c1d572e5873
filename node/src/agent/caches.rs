//! Objects of one kind kept in memory by a watch, and the news of them.
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
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
    /// Tells of changes, several at once as one; whether the first list is there.
    pub(super) changes: watch::Receiver<bool>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone + Default> + Clone + 'static> Cache<K> {
    /// The same objects and the same news for somebody else.
    pub(super) fn share(&self) -> Self {
        Self {
            store: self.store.clone(),
            changes: self.changes.clone(),
        }
    }

    /// Returns when the first list is there, or the watch has ended, as it does with the agent. Any number may wait;
    /// of those who wait in the store itself, only the last is woken.
    pub(super) async fn listed(&self) {
        // An error is the end of the watch.
        let _ = self.changes.clone().wait_for(|listed| *listed).await;
    }

    /// As [`Cache::listed`]; whether the list came within `patience`.
    pub(super) async fn listed_within(&self, patience: Duration) -> bool {
        let _ = tokio::time::timeout(patience, self.listed()).await;
        *self.changes.borrow()
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
    of_events(
        watcher(api, config).default_backoff(),
        tasks,
        shutdown.clone(),
    )
}

fn of_events<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (sender, receiver) = watch::channel(false);
    tasks.spawn(async move {
        let mut events = events.reflect(writer).boxed();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                // The parts of a list are news only together.
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                // Changes come only after a list.
                Some(Ok(_)) => drop(sender.send_replace(true)),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_the_first_list_gets_it() {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let cache: Cache<Service> = of_events(receiver, &tasks, shutdown.clone());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cache = cache.share();
                tokio::spawn(async move {
                    cache.listed().await;
                    cache.store.state().len()
                })
            })
            .collect();
        // All of them wait before anything happens.
        tokio::task::yield_now().await;
        assert!(!cache.listed_within(Duration::ZERO).await);
        let mut service = Service::default();
        service.metadata.name = Some("web".into());
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(service),
            watcher::Event::InitDone,
        ] {
            sender.unbounded_send(Ok(event)).unwrap();
        }
        for waiter in waiters {
            let seen = tokio::time::timeout(Duration::from_secs(10), waiter).await;
            assert_eq!(seen.expect("one was forgotten").unwrap(), 1);
        }
        assert!(cache.listed_within(Duration::ZERO).await);
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
