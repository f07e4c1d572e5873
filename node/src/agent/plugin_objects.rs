//! `Plugin` objects: loaded into the plugin host, their fate written back.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use davit_api::{Plugin, PluginStatus};
use davit_plugins::PluginHost;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::caches::Cache;
use crate::pod::services::chain;

/// Follows `Plugin` objects.
pub(super) struct PluginObjects {
    pub(super) client: Client,
    pub(super) host: Arc<PluginHost>,
    pub(super) plugins: Cache<Plugin>,
    pub(super) labels: BTreeMap<String, String>,
}

impl PluginObjects {
    /// Follows the objects until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        // Generations already taken in, so that our own status writes are not taken for news.
        let mut taken: HashMap<String, Option<i64>> = HashMap::new();
        loop {
            self.reconcile(&mut taken).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.plugins.changes.changed() => {}
            }
        }
    }

    async fn reconcile(&self, taken: &mut HashMap<String, Option<i64>>) {
        let plugins = self.plugins.store.state();
        let gone: Vec<String> = taken
            .keys()
            .filter(|name| !plugins.iter().any(|plugin| plugin.name_any() == **name))
            .cloned()
            .collect();
        for name in gone {
            self.host.forget(&name).await;
            taken.remove(&name);
        }
        for plugin in plugins {
            let name = plugin.name_any();
            if taken.get(&name) == Some(&plugin.metadata.generation) {
                continue;
            }
            let status = self.host.reconcile(&plugin, &self.labels).await;
            match self.write(&plugin, &status).await {
                Ok(()) => drop(taken.insert(name, plugin.metadata.generation)),
                Err(error) => tracing::warn!(
                    plugin = name,
                    error = chain(&error),
                    "plugin status not written"
                ),
            }
        }
    }

    async fn write(&self, plugin: &Plugin, status: &PluginStatus) -> Result<(), kube::Error> {
        if plugin.status.as_ref() == Some(status) {
            return Ok(());
        }
        let plugins: Api<Plugin> = Api::all(self.client.clone());
        let patch = json!({ "status": status });
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
