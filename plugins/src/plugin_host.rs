//! The node's side of `Plugin` objects: load what they point at and say how it went.

mod source;
mod status;
mod wants;

use crate::bundled::{Bundled, bundled};
use crate::engine::{Engine, EngineConfig, EngineError, LoadError};
use crate::grants::GrantSet;
use crate::registry::{Granted, Registry};
use davit_api::{Grants, LabelSelector, Plugin, PluginSpec, PluginStatus};
use parking_lot::Mutex;
use source::File;
use status::{Outcome, Service, status};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Where plugins are cached and what the bundled ones may use.
#[derive(Clone, Debug, Default)]
pub struct PluginHostConfig {
    /// Name of this node.
    pub node: String,
    /// Directory of compiled plugins; made if absent.
    pub cache_dir: PathBuf,
    /// Directory that the bundled `local-path` driver makes volumes in.
    pub volumes_dir: PathBuf,
    /// See [`EngineConfig::compiler`].
    pub compiler: Option<PathBuf>,
}

/// Loads plugins into the registry.
#[derive(Debug)]
pub struct PluginHost {
    config: PluginHostConfig,
    engine: Engine,
    registry: Arc<Registry>,
    /// What each `Plugin` object was last loaded from. One at a time per object.
    loaded: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Source>>>>>,
}

/// What a version in service was made of.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    digest: String,
    spec: PluginSpec,
}

/// The plugin host cannot start. A retry does not help.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the plugin host")]
pub struct StartError(#[from] EngineError);

impl PluginHost {
    /// Starts the engine, and loading the bundled drivers in the background. [`Registry::ready`]
    /// waits for one of them.
    ///
    /// # Errors
    /// When the engine or the cache directory cannot be set up.
    pub async fn start(config: PluginHostConfig) -> Result<Arc<Self>, StartError> {
        let engine = Engine::new(EngineConfig {
            cache_dir: config.cache_dir.clone(),
            compiler: config.compiler.clone(),
        })?;
        let registry = Arc::new(Registry::default());
        let host = Arc::new(Self {
            config,
            engine,
            registry,
            loaded: Mutex::default(),
        });
        for driver in bundled(&host.config.volumes_dir) {
            host.registry.loading(driver.driver, true);
            let host = host.clone();
            tokio::spawn(async move { host.load_bundled(driver).await });
        }
        Ok(host)
    }

    /// The drivers that are ready.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Makes the registry agree with one `Plugin` object and returns its new status.
    ///
    /// `node_labels` decide whether the plugin is meant for this node. Never fails: what goes wrong
    /// becomes a condition. A version that fails to load leaves the one before it serving. To be
    /// called again when the object or [`Registry::changes`] says so.
    pub async fn reconcile(
        &self,
        plugin: &Plugin,
        node_labels: &BTreeMap<String, String>,
    ) -> PluginStatus {
        let name = plugin.metadata.name.clone().unwrap_or_default();
        let slot = self.loaded.lock().entry(name.clone()).or_default().clone();
        let mut source = slot.lock().await;
        let outcome = if selects(&plugin.spec, node_labels) {
            self.load(&name, &plugin.spec, &mut source).await
        } else {
            self.registry.withdraw(&name);
            *source = None;
            Outcome::Elsewhere
        };
        status(plugin, &self.config.node, outcome)
    }

    /// Unloads the plugin of a deleted object. A bundled driver that it had replaced serves again.
    pub async fn forget(&self, plugin: &str) {
        let slot = self.loaded.lock().remove(plugin);
        if let Some(slot) = slot {
            // A load that runs meanwhile ends first, so that it cannot put the driver back.
            let _held = slot.lock().await;
            self.registry.withdraw(plugin);
        }
    }

    async fn load(&self, name: &str, spec: &PluginSpec, source: &mut Option<Source>) -> Outcome {
        let loaded = self.try_load(name, spec, source).await;
        let service = self.registry.of_plugin(name).map(|serving| Service {
            driver: serving.driver().to_owned(),
            version: serving.loaded.manifest.version.clone(),
            digest: serving.loaded.digest.clone(),
            exports: serving.loaded.exports.clone(),
            risk: serving.granted.grants.risk(&self.config.volumes_dir),
            degraded: serving.is_degraded(),
        });
        match (loaded, service) {
            (Ok(()), Some(service)) => Outcome::Serving(service),
            (Ok(()), None) => Outcome::Failed {
                error: LoadError::Invalid("it was withdrawn meanwhile".to_owned()),
                missing: None,
                service: None,
            },
            (Err((error, missing)), service) => Outcome::Failed {
                error,
                missing,
                service,
            },
        }
    }

    async fn try_load(
        &self,
        name: &str,
        spec: &PluginSpec,
        source: &mut Option<Source>,
    ) -> Result<(), (LoadError, Option<String>)> {
        let plain = |error: LoadError| (error, None);
        let file = File::read(&spec.source).await.map_err(plain)?;
        let wanted = Source {
            digest: file.digest.clone(),
            spec: spec.clone(),
        };
        if source.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let grants = GrantSet::compile(&spec.grants).map_err(|error| plain(error.into()))?;
        let described = self.engine.describe(&file.bytes).await.map_err(plain)?;
        let driver = &described.manifest.driver;
        if let Some(other) = self.registry.provider(driver).filter(|other| other != name) {
            return Err(plain(LoadError::Taken {
                driver: driver.clone(),
                plugin: other,
            }));
        }
        if let Some(missing) = wants::missing(&described.manifest.wants, &spec.grants) {
            return Err((missing.error, Some(missing.snippet)));
        }
        let config = config_text(spec);
        described
            .validate("plugin", config.clone())
            .await
            .map_err(plain)?;
        let loaded = described.link(&grants.interfaces).map_err(plain)?;
        let granted = self.granted(Some(name.to_owned()), grants, &config);
        self.registry.serve(loaded, granted);
        *source = Some(wanted);
        Ok(())
    }

    async fn load_bundled(&self, driver: Bundled) {
        let loaded = async {
            let grants = GrantSet::compile(&driver.grants)?;
            let described = self.engine.describe(driver.file).await?;
            let loaded = described.link(&grants.interfaces)?;
            Ok::<_, LoadError>((loaded, self.granted(None, grants, "{}")))
        };
        match loaded.await {
            Ok((loaded, granted)) => self.registry.serve(loaded, granted),
            Err(error) => {
                tracing::error!(driver = driver.driver, %error, "a bundled driver cannot be loaded");
                self.registry.loading(driver.driver, false);
            }
        }
    }

    fn granted(&self, plugin: Option<String>, grants: GrantSet, config: &str) -> Granted {
        let node = self.config.node.as_str().into();
        Granted {
            plugin,
            grants: Arc::new(grants),
            config: config.into(),
            node,
        }
    }
}

fn config_text(spec: &PluginSpec) -> String {
    let config = spec.config.clone().unwrap_or_default();
    serde_json::Value::Object(config).to_string()
}

fn selects(spec: &PluginSpec, labels: &BTreeMap<String, String>) -> bool {
    let selector = LabelSelector::from_map(&spec.node_selector);
    selector.is_ok_and(|selector| selector.matches(labels))
}

/// The rights of a bundled driver, as the starting point of a manifest that replaces it.
#[must_use]
pub fn bundled_grants(driver: &str, volumes_dir: &std::path::Path) -> Option<Grants> {
    let mut all = bundled(volumes_dir).into_iter();
    all.find(|bundled| bundled.driver == driver)
        .map(|bundled| bundled.grants)
}

#[cfg(test)]
mod tests;
