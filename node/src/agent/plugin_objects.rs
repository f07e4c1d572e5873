//! `Plugin` objects: loaded into the plugin host, their fate written back.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use davit_api::status::merge_patch;
use davit_api::{Plugin, PluginStatus};
use davit_plugins::{PluginHost, status_of_unreadable};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caches::Cache;
use crate::pod::backoff::{Backoff, SETUP};
use crate::pod::services::chain;

/// Follows `Plugin` objects.
pub(super) struct PluginObjects {
    pub(super) client: Client,
    pub(super) host: Arc<PluginHost>,
    pub(super) plugins: Cache<Plugin>,
    pub(super) node: Arc<str>,
    pub(super) labels: BTreeMap<String, String>,
    /// Wakes this loop when a driver has come or gone, or changed its health.
    pub(super) drivers: watch::Receiver<u64>,
    /// Becomes true when the objects that were there at first have been seen to.
    pub(super) loaded: watch::Sender<bool>,
}

/// What has been done about one object.
#[derive(Debug, Default)]
struct Seen {
    /// The generation that was taken in, so that our own status writes are not taken for news.
    generation: Option<i64>,
    /// Its failures: a file may appear, or be whole, later.
    failures: Backoff,
    failing: bool,
}

impl Seen {
    fn is_due(&self, plugin: &Plugin, now: Timestamp) -> bool {
        self.generation.is_none()
            || self.generation != plugin.metadata.generation
            || (self.failing && self.failures.holds_until(now).is_none())
    }

    fn note(&mut self, generation: Option<i64>, failing: bool) {
        self.generation = generation;
        self.failing = failing;
        if failing {
            let now = Timestamp::now();
            self.failures.advance(now, now, SETUP);
        } else {
            self.failures.reset();
        }
    }

    fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.failures.holds_until(now).filter(|_| self.failing)
    }
}

/// How often the files of plugins are looked at: a version that is written over an old one is taken in, or said to be broken,
/// without waiting for a restart.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl PluginObjects {
    /// Follows the objects until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut seen: HashMap<String, Seen> = HashMap::new();
        // Before the first list there is nothing to see.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = self.plugins.changes.changed() => {}
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.refuse_unreadable().await;
            self.reconcile(&mut seen).await;
            self.loaded.send_replace(true);
            let now = Timestamp::now();
            let retry = seen.values().filter_map(|seen| seen.retry_at(now)).min();
            let timer = async {
                match retry {
                    Some(at) => {
                        let wait = at.duration_since(now).try_into().unwrap_or_default();
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.plugins.changes.changed() => {}
                Ok(()) = self.drivers.changed() => {
                    seen.values_mut().for_each(|seen| seen.generation = None);
                }
                () = timer => {}
                _ = look.tick() => {
                    for plugin in self.plugins.store.state() {
                        if self.host.is_stale(&plugin)
                            && let Some(seen) = seen.get_mut(&plugin.name_any())
                        {
                            seen.generation = None;
                        }
                    }
                }
            }
        }
    }

    /// A plugin that cannot be read grants nothing: its driver is taken out of service, and its status says what is wrong.
    async fn refuse_unreadable(&self) {
        let unreadable = self.plugins.unreadable.read().clone();
        let kind = ApiResource::erase::<Plugin>(&());
        let objects: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        for (name, InvalidObject { error, .. }) in unreadable {
            self.host.forget(&name).await;
            let written = async {
                let object = objects.get(&name).await?;
                let text = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
                let status = status_of_unreadable(&text, &self.node, &error);
                if serde_json::to_value(&status).ok().as_ref() == text.get("status") {
                    return Ok(());
                }
                let version = object.resource_version();
                let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
                let params = PatchParams::default();
                let patched = objects
                    .patch_status(&name, &params, &Patch::Merge(&patch))
                    .await;
                patched.map(drop)
            };
            let written: Result<(), kube::Error> = written.await;
            if let Err(error) = written {
                tracing::warn!(
                    plugin = name,
                    error = chain(&error),
                    "plugin status not written"
                );
            }
        }
    }

    async fn reconcile(&self, seen: &mut HashMap<String, Seen>) {
        let plugins = self.plugins.store.state();
        let gone: Vec<String> = seen
            .keys()
            .filter(|name| !plugins.iter().any(|plugin| plugin.name_any() == **name))
            .cloned()
            .collect();
        for name in gone {
            self.host.forget(&name).await;
            seen.remove(&name);
        }
        let now = Timestamp::now();
        let due = plugins.iter().filter(|plugin| {
            let seen = seen.get(&plugin.name_any());
            seen.is_none_or(|seen| seen.is_due(plugin, now))
        });
        for (plugin, ready) in join_all(due.map(|plugin| self.take_in(plugin))).await {
            let seen = seen.entry(plugin.name_any()).or_default();
            match ready {
                Ok(ready) => seen.note(plugin.metadata.generation, !ready),
                // The watch is about to bring what was written meanwhile.
                Err(kube::Error::Api(status)) if status.is_conflict() => seen.note(None, true),
                Err(error) => {
                    tracing::warn!(
                        plugin = plugin.name_any(),
                        error = chain(&error),
                        "plugin status not written"
                    );
                    seen.note(None, true);
                }
            }
        }
    }

    /// Whether the plugin is as it should be on this node, once that is written down.
    async fn take_in<'p>(&self, plugin: &'p Plugin) -> (&'p Plugin, Result<bool, kube::Error>) {
        let status = self.host.reconcile(plugin, &self.labels).await;
        let here = status.nodes.iter().find(|node| *node.name == *self.node);
        let ready = here.is_none_or(|here| here.ready);
        let written = self.write(plugin, &status).await;
        (plugin, written.map(|()| ready))
    }

    /// Writes the status of the object that was looked at: what another node wrote meanwhile is not lost.
    async fn write(&self, plugin: &Plugin, status: &PluginStatus) -> Result<(), kube::Error> {
        let Some(changes) = merge_patch(plugin.status.as_ref(), status) else {
            return Ok(());
        };
        let plugins: Api<Plugin> = Api::all(self.client.clone());
        let version = plugin.resource_version();
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": changes });
        plugins
            .patch_status(
                &plugin.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_looked_at_again_and_successes_are_not() {
        let mut plugin = Plugin::new("p", davit_api::PluginSpec::default());
        plugin.metadata.generation = Some(1);
        let now = Timestamp::now();
        let later = now + k8s_openapi::jiff::SignedDuration::from_secs(2);
        let mut seen = Seen::default();
        assert!(seen.is_due(&plugin, now), "never looked at");
        seen.note(Some(1), false);
        assert!(!seen.is_due(&plugin, later));
        assert_eq!(seen.retry_at(now), None);
        seen.note(Some(1), true);
        assert!(!seen.is_due(&plugin, now) && seen.retry_at(now).is_some());
        assert!(seen.is_due(&plugin, later), "the file may be there now");
        seen.note(Some(1), false);
        plugin.metadata.generation = Some(2);
        assert!(seen.is_due(&plugin, now), "the spec has changed");
    }
}
