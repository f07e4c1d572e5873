//! A cache of one kind kept current by a watch, with an index by controlling owner.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::meta::{Key, controller_of, is_terminating};
use crate::runner::Tasks;

/// How long a controller waits to see its own writes in the cache before it plans again.
const CATCH_UP: Duration = Duration::from_secs(10);

/// An object that an informer can hold.
pub(crate) trait Cached:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Cached for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

type Listener<K> = Box<dyn Fn(&K) + Send + Sync>;

#[derive(Debug)]
struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    by_owner: HashMap<String, BTreeSet<Key>>,
}

/// See the module's first lines.
pub(crate) struct Informer<K> {
    api: Api<K>,
    config: watcher::Config,
    objects: RwLock<Objects<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    /// Counts changes; `0` until the first complete list.
    version: watch::Sender<u64>,
}

impl<K> Debug for Informer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer").finish_non_exhaustive()
    }
}

impl<K: Cached> Informer<K> {
    pub(crate) fn new(api: Api<K>) -> Self {
        Self::with_config(api, watcher::Config::default())
    }

    /// Holds only the objects that a field selector names.
    pub(crate) fn selected(api: Api<K>, fields: &str) -> Self {
        Self::with_config(api, watcher::Config::default().fields(fields))
    }

    fn with_config(api: Api<K>, config: watcher::Config) -> Self {
        Self {
            api,
            config,
            objects: RwLock::new(Objects {
                by_key: BTreeMap::new(),
                by_owner: HashMap::new(),
            }),
            listeners: RwLock::new(Vec::new()),
            version: watch::Sender::new(0),
        }
    }

    /// Calls `listener` with every object that appears, changes or goes, after the cache has it.
    /// It only wakes somebody: it must be quick and must not decide by the object alone.
    pub(crate) fn on_change(&self, listener: impl Fn(&K) + Send + Sync + 'static) {
        self.listeners.write().push(Box::new(listener));
    }

    pub(crate) fn start(self: &Arc<Self>, tasks: &mut Tasks) {
        let this = self.clone();
        tasks.spawn(async move { this.follow().await });
    }

    async fn follow(&self) {
        let events = watcher::watcher(self.api.clone(), self.config.clone()).default_backoff();
        futures::pin_mut!(events);
        let mut initial = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => initial.clear(),
                Ok(Event::InitApply(object)) => initial.push(slim(object)),
                Ok(Event::InitDone) => self.replace(std::mem::take(&mut initial)),
                Ok(Event::Apply(object)) => self.put(slim(object)),
                Ok(Event::Delete(object)) => self.remove(&object),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted");
                }
            }
        }
    }

    fn replace(&self, objects: Vec<K>) {
        let fresh: Vec<Arc<K>> = objects.into_iter().map(Arc::new).collect();
        let old = {
            let mut state = self.objects.write();
            let old = std::mem::take(&mut state.by_key);
            state.by_owner.clear();
            for object in &fresh {
                state.insert(object.clone());
            }
            old
        };
        self.version.send_modify(|version| *version += 1);
        for object in &fresh {
            self.tell(object);
        }
        for (key, object) in old {
            if self.get(&key).is_none() {
                self.tell(&object);
            }
        }
    }

    fn put(&self, object: K) {
        let object = Arc::new(object);
        self.objects.write().insert(object.clone());
        self.version.send_modify(|version| *version += 1);
        self.tell(&object);
    }

    fn remove(&self, object: &K) {
        self.objects.write().remove(&Key::of(object));
        self.version.send_modify(|version| *version += 1);
        self.tell(object);
    }

    fn tell(&self, object: &K) {
        for listener in self.listeners.read().iter() {
            listener(object);
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().by_key.get(key).cloned()
    }

    /// Every object, ordered by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().by_key.values().cloned().collect()
    }

    /// Every object of one namespace, ordered by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key::new(namespace, "");
        let objects = self.objects.read();
        objects
            .by_key
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Objects whose controlling owner has this UID.
    pub(crate) fn controlled_by(&self, owner: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read();
        let keys = objects.by_owner.get(owner);
        keys.into_iter()
            .flatten()
            .filter_map(|key| objects.by_key.get(key).cloned())
            .collect()
    }

    /// Waits until the first complete list has arrived.
    pub(crate) async fn synced(&self) {
        let mut version = self.version.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = version.wait_for(|version| *version > 0).await;
    }

    /// Waits until the cache shows `condition`, at most ten seconds; true when it does.
    pub(crate) async fn wait_until(&self, condition: impl Fn(&Self) -> bool) -> bool {
        let mut version = self.version.subscribe();
        let caught_up = async {
            while !condition(self) {
                if version.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(CATCH_UP, caught_up).await.is_ok()
    }

    /// Waits until the cache has an object of this key with this UID (or its successor).
    pub(crate) async fn shows(&self, key: &Key) -> bool {
        self.wait_until(|cache| cache.get(key).is_some()).await
    }

    /// Waits until the object of this key is gone or marked for deletion.
    pub(crate) async fn shows_deleted(&self, key: &Key) -> bool {
        self.wait_until(|cache| cache.get(key).is_none_or(|object| is_terminating(&*object)))
            .await
    }
}

impl<K: Cached> Objects<K> {
    fn insert(&mut self, object: Arc<K>) {
        let key = Key::of(&*object);
        self.remove(&key);
        if let Some(owner) = controller_of(&*object) {
            self.by_owner
                .entry(owner.uid.clone())
                .or_default()
                .insert(key.clone());
        }
        self.by_key.insert(key, object);
    }

    fn remove(&mut self, key: &Key) {
        let Some(old) = self.by_key.remove(key) else {
            return;
        };
        let Some(owner) = controller_of(&*old) else {
            return;
        };
        if let Some(keys) = self.by_owner.get_mut(&owner.uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(&owner.uid);
            }
        }
    }
}

/// Drops what no controller reads and what would multiply the memory of the cache.
fn slim<K: Cached>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    if let Some(pod) = (&mut object as &mut dyn Any).downcast_mut::<Pod>() {
        slim_pod(pod);
    }
    object
}

/// There are more pods than anything else, and most of a pod concerns only its node.
fn slim_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else {
        return;
    };
    for containers in [Some(&mut spec.containers), spec.init_containers.as_mut()] {
        for container in containers.into_iter().flatten() {
            *container = Container {
                name: std::mem::take(&mut container.name),
                image: container.image.take(),
                ports: container.ports.take(),
                resources: container.resources.take(),
                restart_policy: container.restart_policy.take(),
                ..Container::default()
            };
        }
    }
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
        volumes.shrink_to_fit();
    }
}
