//! ConfigMaps and Secrets that pods refer to, each watched by its own name while a pod needs it.
//!
//! A node may only see what its pods use, so there is one watch an object; pods share them, and the last pod ends them.
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::inputs::References;
use crate::pod::observed::Problem;

/// How long a pod's step waits for the API server to tell of an object.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of an object; `None` until the API server has answered once.
type Answer<K> = Option<Option<Arc<K>>>;

/// One watched object; dropping it ends the watch.
#[derive(Debug)]
struct Watched<K> {
    value: watch::Receiver<Answer<K>>,
    task: JoinHandle<()>,
}

impl<K> Drop for Watched<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watched objects of one kind, by namespace and name.
#[derive(Debug)]
struct Kind<K>(Mutex<HashMap<(String, String), Weak<Watched<K>>>>);

impl<K> Default for Kind<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Kind<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    fn watched(&self, client: &Client, namespace: &str, name: &str) -> Arc<Watched<K>> {
        let mut known = self.0.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(watched) = known.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        known.retain(|_, watched| watched.strong_count() > 0);
        let watched = Arc::new(follow(Api::namespaced(client.clone(), namespace), name));
        known.insert(key, Arc::downgrade(&watched));
        watched
    }
}

fn follow<K>(api: Api<K>, name: &str) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (sender, value) = watch::channel(None);
    let name = name.to_owned();
    let task = tokio::spawn(async move {
        let mut changes = watcher::watch_object(api, &name).default_backoff().boxed();
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => drop(sender.send_replace(Some(object.map(Arc::new)))),
                Err(error) => tracing::debug!(name, %error, "object watch interrupted"),
            }
        }
    });
    Watched { value, task }
}

/// The objects that pods of this node refer to.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    config_maps: Arc<Kind<ConfigMap>>,
    secrets: Arc<Kind<Secret>>,
}

/// The objects of one pod that exist.
pub(super) struct Found {
    pub(super) config_maps: std::collections::BTreeMap<String, Arc<ConfigMap>>,
    pub(super) secrets: std::collections::BTreeMap<String, Arc<Secret>>,
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            config_maps: Arc::default(),
            secrets: Arc::default(),
        }
    }

    /// The objects named by `references` that exist in `namespace`.
    pub(super) async fn find(
        &self,
        namespace: &str,
        references: &References,
    ) -> Result<Found, Problem> {
        let mut found = Found {
            config_maps: Default::default(),
            secrets: Default::default(),
        };
        // All watches are begun before the first is waited for.
        let config_maps: Vec<_> = references
            .config_maps
            .keys()
            .map(|name| {
                (
                    name,
                    self.config_maps.watched(&self.client, namespace, name),
                )
            })
            .collect();
        let secrets: Vec<_> = references
            .secrets
            .keys()
            .map(|name| (name, self.secrets.watched(&self.client, namespace, name)))
            .collect();
        for (name, watched) in config_maps {
            if let Some(object) = answer(&watched, "configmap", name).await? {
                found.config_maps.insert(name.clone(), object);
            }
        }
        for (name, watched) in secrets {
            if let Some(object) = answer(&watched, "secret", name).await? {
                found.secrets.insert(name.clone(), object);
            }
        }
        Ok(found)
    }

    /// Yields whenever one of the objects changes after it was first seen; keeps them watched.
    pub(super) fn changes(
        &self,
        namespace: &str,
        references: &References,
    ) -> BoxStream<'static, ()> {
        let mut all: SelectAll<BoxStream<'static, ()>> = select_all([stream::pending().boxed()]);
        for name in references.config_maps.keys() {
            all.push(changes(self.config_maps.watched(
                &self.client,
                namespace,
                name,
            )));
        }
        for name in references.secrets.keys() {
            all.push(changes(self.secrets.watched(&self.client, namespace, name)));
        }
        all.boxed()
    }
}

async fn answer<K>(
    watched: &Watched<K>,
    kind: &str,
    name: &str,
) -> Result<Option<Arc<K>>, Problem> {
    let mut value = watched.value.clone();
    let known = tokio::time::timeout(PATIENCE, value.wait_for(Option::is_some)).await;
    match known {
        Ok(Ok(answer)) => Ok(answer.clone().flatten()),
        _ => {
            let message = format!(
                "failed to sync {kind} \"{name}\": the API server does not answer or refuses this node"
            );
            Err(Problem::new("CreateContainerConfigError", message))
        }
    }
}

fn changes<K: Send + Sync + 'static>(watched: Arc<Watched<K>>) -> BoxStream<'static, ()> {
    let value = watched.value.clone();
    let begin = (watched, value, false);
    let next = |(watched, mut value, mut seen): (
        Arc<Watched<K>>,
        watch::Receiver<Answer<K>>,
        bool,
    )| async move {
        if !seen {
            value.wait_for(Option::is_some).await.ok()?;
            value.mark_unchanged();
            seen = true;
        }
        value.changed().await.ok()?;
        Some(((), (watched, value, seen)))
    };
    stream::unfold(begin, next).boxed()
}
