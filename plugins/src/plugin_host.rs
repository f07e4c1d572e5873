//! The node's side of `Plugin` objects: load what they point at and say how it went.

mod source;
mod status;
mod wants;

use crate::bundled::{BUNDLED, VOLUMES};
use crate::engine::{Engine, EngineConfig, EngineError, LoadError};
use crate::grants::GrantSet;
use crate::registry::{Granted, Registry};
use davit_api::{Grants, LabelSelector, Plugin, PluginSpec, PluginStatus};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use source::File;
use status::{Outcome, Service, status};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Where plugins are cached and what they find on this node.
#[derive(Clone, Debug, Default)]
pub struct PluginHostConfig {
    /// Name of this node.
    pub node: String,
    /// Directory of compiled plugins; made if absent.
    pub cache_dir: PathBuf,
    /// Directory for volumes: `$(VOLUMES)` in `spec.grants.hostPaths`.
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
    /// Done when the bundled drivers are compiled.
    compiled: Shared<BoxFuture<'static, ()>>,
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
    /// Starts the engine, and compiling the bundled drivers in the background so that they are ready when their
    /// `Plugin` objects are. No driver serves before [`Self::reconcile`] has seen its object.
    ///
    /// # Errors
    /// When the engine or the cache directory cannot be set up.
    pub async fn start(config: PluginHostConfig) -> Result<Arc<Self>, StartError> {
        let engine = Engine::new(EngineConfig {
            cache_dir: config.cache_dir.clone(),
            compiler: config.compiler.clone(),
        })?;
        Ok(Arc::new(Self {
            compiled: compile_bundled(&engine),
            config,
            engine,
            registry: Arc::default(),
            loaded: Mutex::default(),
        }))
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

    /// Unloads the plugin of a deleted object. What its driver has made stays in force.
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
        let serves = self.registry.of_plugin(name).is_some();
        if serves && source.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let bundled = spec.source.bundled.is_some();
        if bundled {
            self.compiled.clone().await;
        }
        let grants = self.grants(&spec.grants);
        let grants = GrantSet::compile(&grants).map_err(|error| plain(error.into()))?;
        let described = self.engine.describe(&file.bytes).await.map_err(plain)?;
        self.check_free(name, bundled, &described.manifest.driver)
            .map_err(plain)?;
        if let Some(missing) = wants::missing(&described.manifest.wants, &spec.grants) {
            return Err((missing.error, Some(missing.snippet)));
        }
        let config = config_text(spec);
        described
            .validate("plugin", config.clone())
            .await
            .map_err(plain)?;
        let loaded = described.link(&grants.interfaces).map_err(plain)?;
        let granted = Granted {
            plugin: name.into(),
            bundled,
            grants: Arc::new(grants),
            config: config.into(),
            node: self.config.node.as_str().into(),
        };
        self.registry.serve(loaded, granted);
        *source = Some(wanted);
        Ok(())
    }

    /// A driver has one plugin: the first that is loaded, but one with a file of its own goes before a bundled one.
    fn check_free(&self, name: &str, bundled: bool, driver: &str) -> Result<(), LoadError> {
        match self.registry.get(driver) {
            Ok(other) if *other.granted.plugin != *name && (bundled || !other.granted.bundled) => {
                Err(LoadError::Taken {
                    driver: driver.to_owned(),
                    plugin: other.granted.plugin.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The grants as they are on this node.
    fn grants(&self, grants: &Grants) -> Grants {
        let mut grants = grants.clone();
        for host_path in &mut grants.host_paths {
            if let Some(rest) = host_path.path.strip_prefix(VOLUMES) {
                host_path.path = format!("{}{rest}", self.config.volumes_dir.display());
            }
        }
        grants
    }
}

/// Compiles the bundled drivers for the cache, each in a task of its own.
fn compile_bundled(engine: &Engine) -> Shared<BoxFuture<'static, ()>> {
    let compile = |file: &'static [u8]| {
        let engine = engine.clone();
        // What is wrong with one is told when it is loaded.
        tokio::spawn(async move { drop(engine.describe(file).await) })
    };
    let tasks = BUNDLED.map(|bundled| compile(bundled.file));
    let all = futures::future::join_all(tasks).map(drop);
    all.boxed().shared()
}

fn config_text(spec: &PluginSpec) -> String {
    let config = spec.config.clone().unwrap_or_default();
    serde_json::Value::Object(config).to_string()
}

fn selects(spec: &PluginSpec, labels: &BTreeMap<String, String>) -> bool {
    let selector = LabelSelector::from_map(&spec.node_selector);
    selector.is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests;
