//! The node's side of `Plugin` objects: load what they point at and say how it went.

mod kept;
mod source;
mod status;
mod unreadable;
mod wants;

pub use unreadable::status_of_unreadable;

use crate::bundled::{BUNDLED, VOLUMES};
use crate::engine::{Described, Engine, EngineConfig, EngineError, LoadError};
use crate::executor::Host;
use crate::grants::GrantSet;
use crate::registry::{Granted, Registry, Serving};
use davit_api::{Grants, LabelSelector, Plugin, PluginSpec, PluginStatus};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use kept::Kept;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use source::{File, Stamp};
use status::{Outcome, Service, status};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

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
    /// How the file of each object looked when it was last read.
    stamps: Mutex<HashMap<String, Stamp>>,
    /// Asks new versions whether they can serve, once it is there.
    executor: OnceLock<Weak<Host>>,
}

/// What a version in service was made of.
#[derive(Clone, Debug)]
struct Source {
    digest: String,
    spec: PluginSpec,
    /// The grants it serves with; they follow the object even where the rest of it cannot be taken in.
    grants: Grants,
    /// Why it serves although its file cannot be read.
    note: Option<String>,
}

type LoadFailure = (LoadError, Option<String>);

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
            stamps: Mutex::default(),
            executor: OnceLock::new(),
        }))
    }

    /// From now on drivers are asked whether they can serve (`lifecycle.probe`) before they do.
    pub fn probe_with(&self, host: &Arc<Host>) {
        // A second one would be the same.
        let _ = self.executor.set(Arc::downgrade(host));
    }

    /// The drivers that are ready.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Makes the registry agree with one `Plugin` object and returns its new status.
    ///
    /// `node_labels` decide whether the plugin is meant for this node. Never fails: what goes wrong
    /// becomes a condition. A version that fails to load leaves the one before it serving, with the
    /// grants that the object gives now. To be called again when the object,
    /// [`Registry::changes`] or [`Self::is_stale`] says so.
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

    /// Whether the object's file is another one than when it was last looked at: it came, went, or was written over.
    #[must_use]
    pub fn is_stale(&self, plugin: &Plugin) -> bool {
        let name = plugin.metadata.name.as_deref().unwrap_or_default();
        let Some(file) = &plugin.spec.source.file else {
            return false;
        };
        let seen = self.stamps.lock().get(name).cloned();
        seen.is_some_and(|seen| seen != Stamp::of(file))
    }

    /// Unloads the plugin of a deleted object. What its driver has made stays in force.
    pub async fn forget(&self, plugin: &str) {
        let slot = self.loaded.lock().remove(plugin);
        if let Some(slot) = slot {
            // A load that runs meanwhile ends first, so that it cannot put the driver back.
            let _held = slot.lock().await;
            self.registry.withdraw(plugin);
        }
        self.stamps.lock().remove(plugin);
        Kept::forget(&self.config.cache_dir, plugin);
    }

    async fn load(&self, name: &str, spec: &PluginSpec, source: &mut Option<Source>) -> Outcome {
        let revoked = self.follow_grants(name, spec, source);
        let loaded = self.try_load(name, spec, source).await;
        let note = source.as_ref().and_then(|source| source.note.clone());
        let service = self.registry.of_plugin(name).map(|serving| Service {
            driver: serving.driver().to_owned(),
            version: serving.loaded.manifest.version.clone(),
            digest: serving.loaded.digest.clone(),
            exports: serving.loaded.exports.clone(),
            risk: serving.granted.grants.risk(&self.config.volumes_dir),
            degraded: serving.is_degraded(),
            note,
        });
        match (loaded.and(revoked), service) {
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

    /// Rights that are taken away end now, whatever else is wrong with the object: what serves goes on with the grants that
    /// are left, and not at all where those cannot be read or leave out an interface that its code needs.
    fn follow_grants(
        &self,
        name: &str,
        spec: &PluginSpec,
        source: &mut Option<Source>,
    ) -> Result<(), LoadFailure> {
        let (Some(serving), Some(loaded)) = (self.registry.of_plugin(name), source.as_mut()) else {
            return Ok(());
        };
        if loaded.grants == spec.grants {
            return Ok(());
        }
        let granted = self.granted(name, &loaded.digest, &loaded.spec, &spec.grants);
        let granted = granted.and_then(|granted| {
            serving.loaded.needs_only(&granted.grants.interfaces)?;
            Ok(granted)
        });
        match granted {
            Ok(granted) => {
                self.registry.regrant(&serving, granted);
                loaded.grants = spec.grants.clone();
                Ok(())
            }
            Err(error) => {
                self.registry.withdraw(name);
                *source = None;
                Err((error, None))
            }
        }
    }

    async fn try_load(
        &self,
        name: &str,
        spec: &PluginSpec,
        source: &mut Option<Source>,
    ) -> Result<(), LoadFailure> {
        let plain = |error: LoadError| (error, None);
        if let Some(file) = &spec.source.file {
            self.stamps.lock().insert(name.to_owned(), Stamp::of(file));
        }
        let (file, note) = match File::read(&spec.source).await {
            Ok(file) => (Ok(file), None),
            Err(error) => {
                let kept = Kept::of(&self.config.cache_dir, name, &spec.source);
                let kept = kept.ok_or_else(|| plain(error.clone()))?;
                let note = format!("{error}; its compiled copy serves, sha256:{}", kept.digest);
                (Err((kept.digest, error)), Some(note))
            }
        };
        let digest = match &file {
            Ok(file) => file.digest.clone(),
            Err((digest, _)) => digest.clone(),
        };
        if self.registry.of_plugin(name).is_some()
            && let Some(loaded) = source.as_mut()
            && loaded.digest == digest
            && loaded.spec == *spec
        {
            loaded.note = note;
            return Ok(());
        }
        let bundled = spec.source.bundled.is_some();
        if bundled {
            self.compiled.clone().await;
        }
        // Before anything of the file is looked at: what is wrong with the grants is wrong with any file.
        let granted = self.granted(name, &digest, spec, &spec.grants);
        let granted = granted.map_err(plain)?;
        let described = match file {
            Ok(file) => self.engine.describe(&file.bytes).await.map_err(plain)?,
            Err((digest, error)) => {
                let kept = self.engine.describe_kept(&digest).await.map_err(plain)?;
                kept.ok_or_else(|| plain(error))?
            }
        };
        self.take_in(name, spec, described, granted).await?;
        *source = Some(Source {
            digest: digest.clone(),
            spec: spec.clone(),
            grants: spec.grants.clone(),
            note,
        });
        Kept::note(&self.config.cache_dir, name, &spec.source, &digest);
        Ok(())
    }

    /// Puts a version into service that is described, granted, configured, and says that it can serve.
    async fn take_in(
        &self,
        name: &str,
        spec: &PluginSpec,
        described: Described,
        granted: Granted,
    ) -> Result<(), LoadFailure> {
        let plain = |error: LoadError| (error, None);
        self.check_free(name, granted.bundled, &described.manifest.driver)
            .map_err(plain)?;
        if let Some(missing) = wants::missing(&described.manifest.wants, &spec.grants) {
            return Err((missing.error, Some(missing.snippet)));
        }
        let config = described.validate("plugin", granted.config.to_string());
        config.await.map_err(plain)?;
        let interfaces = granted.grants.interfaces.clone();
        let loaded = described.link(&interfaces).map_err(plain)?;
        let new = self.registry.prepare(loaded, granted);
        let unfit = self.probe(&new).await.err();
        match unfit {
            // The version before is fit as far as anybody knows.
            Some(error) if self.registry.of_plugin(name).is_some() => Err(plain(error)),
            Some(error) => {
                self.registry.put(new);
                Err(plain(error))
            }
            None => {
                self.registry.put(new);
                Ok(())
            }
        }
    }

    async fn probe(&self, serving: &Serving) -> Result<(), LoadError> {
        match self.executor.get().and_then(Weak::upgrade) {
            Some(host) => {
                let answer = host.probe_serving(serving).await;
                answer.map_err(|error| LoadError::Probe(error.message))
            }
            None => Ok(()),
        }
    }

    /// What a version is given, on this node.
    fn granted(
        &self,
        name: &str,
        digest: &str,
        spec: &PluginSpec,
        grants: &Grants,
    ) -> Result<Granted, LoadError> {
        let (grants, config) = (self.grants(grants), config_text(spec));
        let mut revision = Sha256::new();
        for part in [
            digest,
            &serde_json::to_string(&grants).unwrap_or_default(),
            &config,
        ] {
            revision.update(part);
            revision.update([0]);
        }
        Ok(Granted {
            plugin: name.into(),
            bundled: spec.source.bundled.is_some(),
            grants: Arc::new(GrantSet::compile(&grants)?),
            config: config.into(),
            revision: hex::encode(revision.finalize()).into(),
            node: self.config.node.as_str().into(),
        })
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
