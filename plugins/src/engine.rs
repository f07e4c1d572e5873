//! The one place that knows wasmtime: loads components, makes stores, bounds calls.

mod artifact;
pub(crate) mod bindings;
mod cache;
mod call;
mod compile;
mod config;
mod inspect;
mod limiter;
mod linker;
mod sealed;
mod ticker;

pub(crate) use call::{Answer, CallFailure, Calls};
pub use compile::compile_main;
pub use inspect::LoadError;
pub(crate) use inspect::MAX_FILE_BYTES;
pub(crate) use limiter::MemoryLimiter;
pub(crate) use sealed::{Manifest, Want};

use crate::imports::CallState;
use bindings::exports::davit::network::driver::GuestIndices as NetworkDriver;
use bindings::exports::davit::plugin::lifecycle::GuestIndices as Lifecycle;
use bindings::exports::davit::storage::controller::GuestIndices as StorageController;
use bindings::exports::davit::storage::node::GuestIndices as StorageNode;
use cache::Cache;
use davit_api::Interface;
use inspect::Inspected;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use ticker::Ticker;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{Component, InstancePre};

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Directory of compiled components; only this process's user may write it.
    pub cache_dir: PathBuf,
    /// A program that compiles in a process of its own when called with `plugin-compile` (see
    /// [`compile_main`]): a hostile file can crash it or take its memory, not the agent's. Without
    /// it, files are compiled in this process, which is for trusted files only.
    pub compiler: Option<PathBuf>,
}

/// The engine cannot be set up: the address space is too small, or the cache cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the WebAssembly engine: {0}")]
pub struct EngineError(pub(crate) String);

/// A wasmtime engine with its cache and clock. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    cache: Cache,
    compiler: compile::Compiler,
    ticker: Ticker,
    /// The pool's slots: a call waits for one instead of failing.
    slots: Semaphore,
}

/// A component ready to be instantiated, with what it exports. Nothing of it has run but `describe`.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) digest: String,
    pub(crate) manifest: Manifest,
    /// In alphabetical order: the compiler that built a file decides about the order in it.
    pub(crate) exports: Vec<String>,
    imports: Vec<String>,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) network: Option<NetworkDriver>,
    pub(crate) controller: Option<StorageController>,
    pub(crate) node: Option<StorageNode>,
}

/// A component that was read, checked and described, but not given anything yet.
pub(crate) struct Described {
    engine: Engine,
    pub(crate) digest: String,
    pub(crate) manifest: Manifest,
    inspected: Inspected,
    component: Component,
}

impl Engine {
    /// Sets the engine up: instance pool, clock thread, cache directory.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let wasmtime = config::engine().map_err(|error| EngineError(format!("{error:#}")))?;
        let cache = Cache::open(&config.cache_dir, &wasmtime).map_err(|error| {
            EngineError(format!("cache {}: {error}", config.cache_dir.display()))
        })?;
        let ticker = Ticker::start(wasmtime.clone())
            .map_err(|error| EngineError(format!("starting the clock: {error}")))?;
        let compiler = compile::Compiler::new(config.compiler);
        Ok(Self {
            inner: Arc::new(Inner {
                wasmtime,
                cache,
                compiler,
                ticker,
                slots: Semaphore::new(config::SLOTS as usize),
            }),
        })
    }

    /// Reads, compiles (or finds in the cache) and describes a file. Its code runs sealed: every
    /// import traps.
    ///
    /// # Errors
    /// What is wrong with the file, for its author and its user.
    pub(crate) async fn describe(&self, file: &[u8]) -> Result<Described, LoadError> {
        let digest = hex::encode(Sha256::digest(file));
        let found = self.component(&digest, file).await?;
        self.introduce(digest, found).await
    }

    /// The same for a file that is gone, if it was compiled before.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub(crate) async fn describe_kept(&self, digest: &str) -> Result<Option<Described>, LoadError> {
        match self.kept(digest) {
            Some(found) => self.introduce(digest.to_owned(), found).await.map(Some),
            None => Ok(None),
        }
    }

    async fn introduce(
        &self,
        digest: String,
        (inspected, component): (Inspected, Component),
    ) -> Result<Described, LoadError> {
        inspected.check_versions()?;
        let manifest = sealed::describe(self, &component).await?;
        manifest.check()?;
        Ok(Described {
            engine: self.clone(),
            digest,
            manifest,
            inspected,
            component,
        })
    }

    /// Interfaces and machine code of a file: from the cache, else compiled.
    async fn component(
        &self,
        digest: &str,
        file: &[u8],
    ) -> Result<(Inspected, Component), LoadError> {
        if let Some(loaded) = self.kept(digest) {
            return Ok(loaded);
        }
        let inner = &self.inner;
        let artifact = inner.compiler.compile(file).await?;
        let loaded = self
            .load(&artifact)
            .ok_or_else(|| LoadError::Compile("the engine refuses the machine code".to_owned()))?;
        if let Err(error) = inner.cache.store(digest, &artifact) {
            tracing::warn!(digest, %error, "cannot keep a compiled plugin; it is compiled again at the next start");
        }
        Ok(loaded)
    }

    fn kept(&self, digest: &str) -> Option<(Inspected, Component)> {
        let artifact = self.inner.cache.load(digest)?;
        self.load(&artifact)
    }

    fn load(&self, artifact: &[u8]) -> Option<(Inspected, Component)> {
        let (inspected, code) = artifact::split(artifact)?;
        let component = artifact::deserialize(&self.inner.wasmtime, code).ok()?;
        Some((inspected, component))
    }

    fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    /// To be held while a guest lives. The semaphore is never closed.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.slots.acquire().await.ok()
    }

    fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }
}

impl Described {
    /// Asks the component whether it takes a configuration of some kind.
    ///
    /// # Errors
    /// The component's refusal.
    pub(crate) async fn validate(
        &self,
        kind: &'static str,
        config: String,
    ) -> Result<(), LoadError> {
        sealed::validate(&self.engine, &self.component, kind, config).await
    }

    /// Links the component to what it was granted.
    ///
    /// # Errors
    /// An import that is not granted, named; or a function this version of davit does not have.
    pub(crate) fn link(self, granted: &BTreeSet<Interface>) -> Result<Loaded, LoadError> {
        inspect::check_imports(&self.inspected.imports, granted)?;
        let linker = linker::linker(self.engine.wasmtime(), granted)
            .map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let pre = linker
            .instantiate_pre(&self.component)
            .map_err(|error| inspect::too_old(&error))?;
        let mismatch = |error: wasmtime::Error| inspect::too_old(&error);
        let has = |name: &str| self.inspected.exports_interface(name);
        let network = has("davit:network/driver").then(|| NetworkDriver::new(&pre));
        let controller = has("davit:storage/controller").then(|| StorageController::new(&pre));
        let node = has("davit:storage/node").then(|| StorageNode::new(&pre));
        Ok(Loaded {
            lifecycle: Lifecycle::new(&pre).map_err(mismatch)?,
            network: network.transpose().map_err(mismatch)?,
            controller: controller.transpose().map_err(mismatch)?,
            node: node.transpose().map_err(mismatch)?,
            exports: sorted(self.inspected.exports),
            imports: self.inspected.imports,
            engine: self.engine,
            digest: self.digest,
            manifest: self.manifest,
            pre,
        })
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

impl Loaded {
    /// That the component imports nothing but what these interfaces offer.
    ///
    /// # Errors
    /// An import that is not granted, named.
    pub(crate) fn needs_only(&self, granted: &BTreeSet<Interface>) -> Result<(), LoadError> {
        inspect::check_imports(&self.imports, granted)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("cache", &self.inner.cache)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("driver", &self.manifest.driver)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
