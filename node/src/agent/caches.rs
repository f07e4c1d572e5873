//! Objects of one kind kept in memory by a watch, and the news of them.
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource, ResourceExt as _};
use parking_lot::RwLock;
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
    /// Objects that cannot be read as their kind, by name; only [`guarded`] caches have any.
    pub(super) unreadable: Unreadable,
}

/// Objects that cannot be read: their metadata and what is wrong.
pub(super) type Unreadable = Arc<RwLock<BTreeMap<String, InvalidObject>>>;

impl<K: Resource<DynamicType: Hash + Eq + Clone + Default> + Clone + 'static> Cache<K> {
    /// The same objects and the same news for somebody else.
    pub(super) fn share(&self) -> Self {
        Self {
            store: self.store.clone(),
            changes: self.changes.clone(),
            unreadable: Arc::clone(&self.unreadable),
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
    let (sender, changes) = watch::channel(false);
    follow(events.reflect(writer), sender, tasks, shutdown);
    Cache {
        store,
        changes,
        unreadable: Unreadable::default(),
    }
}

/// As [`cache`], for a kind whose objects may pass the API server and still not be what they should: such an object is
/// set aside instead of holding up all others.
pub(super) fn guarded<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    of_guarded(
        watcher(api, config).default_backoff(),
        tasks,
        shutdown.clone(),
    )
}

fn of_guarded<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<K>>>> + Send + 'static,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (sender, changes) = watch::channel(false);
    let unreadable = Unreadable::default();
    let (known, aside, news) = (store.clone(), Arc::clone(&unreadable), sender.clone());
    let readable = events.filter_map(move |event| {
        let event = event.map(|event| readable(event, &known, &aside));
        let event = event.transpose();
        if event.is_none() && *news.borrow() {
            // What was set aside is news as well.
            news.send_replace(true);
        }
        std::future::ready(event)
    });
    follow(readable.reflect(writer), sender, tasks, shutdown);
    Cache {
        store,
        changes,
        unreadable,
    }
}

/// The same event of the object as it can be read. Of one that cannot any more, what was read before is gone.
fn readable<K>(
    event: watcher::Event<DeserializeGuard<K>>,
    known: &Store<K>,
    aside: &Unreadable,
) -> Option<watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let before = |object: &DeserializeGuard<K>| {
        let mut key = ObjectRef::<K>::new(&object.name_any());
        key.namespace = object.namespace();
        known.get(&key).map(|object| K::clone(&object))
    };
    let taken = |object: DeserializeGuard<K>| {
        let name = object.name_any();
        match object.0 {
            Ok(object) => {
                aside.write().remove(&name);
                Some(object)
            }
            Err(invalid) => {
                aside.write().insert(name, invalid);
                None
            }
        }
    };
    match event {
        watcher::Event::Init => {
            aside.write().clear();
            Some(watcher::Event::Init)
        }
        watcher::Event::InitApply(object) => taken(object).map(watcher::Event::InitApply),
        watcher::Event::InitDone => Some(watcher::Event::InitDone),
        watcher::Event::Apply(object) => {
            let before = before(&object);
            match taken(object) {
                Some(object) => Some(watcher::Event::Apply(object)),
                None => before.map(watcher::Event::Delete),
            }
        }
        watcher::Event::Delete(object) => {
            aside.write().remove(&object.name_any());
            before(&object).map(watcher::Event::Delete)
        }
    }
}

/// Keeps the store behind `events` current until shutdown, and tells of it.
fn follow<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    sender: watch::Sender<bool>,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    tasks.spawn(async move {
        let mut events = events.boxed();
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
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

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

    #[tokio::test]
    async fn an_object_that_cannot_be_read_holds_up_no_other() {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let cache: Cache<Service> = of_guarded(receiver, &tasks, shutdown.clone());
        let object = |name: &str, spec: serde_json::Value| {
            let object = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
            serde_json::from_value::<DeserializeGuard<Service>>(object).unwrap()
        };
        let say = |event| sender.unbounded_send(Ok(event)).unwrap();
        say(watcher::Event::Init);
        say(watcher::Event::InitApply(object("bad", json!("text"))));
        say(watcher::Event::InitApply(object("good", json!({}))));
        say(watcher::Event::InitDone);
        cache.listed().await;
        let names = |cache: &Cache<Service>| {
            let mut names: Vec<_> = cache.store.state().iter().map(|s| s.name_any()).collect();
            names.sort();
            (
                names,
                cache.unreadable.read().keys().cloned().collect::<Vec<_>>(),
            )
        };
        let lists = |good: &[&str], bad: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            (owned(good), owned(bad))
        };
        assert_eq!(names(&cache), lists(&["good"], &["bad"]));
        let mut changes = cache.changes.clone();
        for (event, good, bad) in [
            (
                watcher::Event::Apply(object("good", json!(1))),
                &[][..],
                &["bad", "good"][..],
            ),
            (
                watcher::Event::Apply(object("new", json!(1))),
                &[],
                &["bad", "good", "new"],
            ),
            (
                watcher::Event::Apply(object("bad", json!({}))),
                &["bad"],
                &["good", "new"],
            ),
            (
                watcher::Event::Delete(object("new", json!(1))),
                &["bad"],
                &["good"],
            ),
        ] {
            changes.mark_unchanged();
            say(event);
            changes.changed().await.unwrap();
            assert_eq!(names(&cache), lists(good, bad));
        }
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
