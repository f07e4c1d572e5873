//! The plan executor: what the node's agent calls to have drivers consulted and plans carried out.
//!
//! Call → plan → check grants → conflicts → journal → act → read back, for set-up; teardown works
//! from the journal alone and never waits for a plugin.

mod carry_out;
mod check;
mod hands;
mod locks;
mod networks;
mod outcome;
mod release;
mod replay;
mod volumes;

pub use outcome::{
    AttachPod, Attached, HostConfig, HostParts, NetworkAttachment, NodeUp, OpenError, Phase,
    ReplayReport, ScopeSummary,
};

pub(crate) use check::promised;

use crate::capabilities::{HostCapabilities, ObjectRef};
use crate::error::{CallError, Code};
use crate::plan::ScopeId;
use crate::registry::{CallInput, Registry, Serving};
use crate::scope::{Pools, Record, Store};
use hands::Hands;
use locks::Locks;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Consults drivers and makes the machine match their plans.
///
/// # Guarantees
/// * A call that returns an error leaves nothing of its plan in force; what could not be undone is
///   kept as a `Stuck` scope, with its addresses, until it is released.
/// * Repeating a call with the same request returns the recorded answer without calling the driver.
/// * Releases succeed for scopes that do not exist and need no plugin.
/// * Calls on one scope wait for each other; others run at once.
pub struct Host {
    store: Arc<Store>,
    registry: Arc<Registry>,
    eyes: Arc<dyn HostCapabilities>,
    hands: Hands,
    locks: Locks,
    /// Tries so far of operations that have not succeeded yet.
    attempts: Mutex<HashMap<ScopeId, u32>>,
}

impl Host {
    /// Opens the journals. Call [`Host::replay`] before anything else.
    ///
    /// # Errors
    /// When a journal cannot be opened, is locked by another process, or is damaged.
    pub fn open(config: HostConfig, parts: HostParts) -> Result<Arc<Self>, OpenError> {
        let HostConfig {
            state_dir, run_dir, ..
        } = config;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let opened = boot.and_then(|boot| Store::open(&state_dir, &run_dir, boot.trim()));
        let store = opened.map_err(|source| OpenError::Journal {
            state_dir,
            run_dir,
            source,
        })?;
        Ok(Arc::new(Self {
            store: Arc::new(store),
            registry: parts.registry,
            eyes: parts.capabilities,
            hands: Hands {
                network: parts.network,
                storage: parts.storage,
            },
            locks: Locks::default(),
            attempts: Mutex::default(),
        }))
    }

    /// Every scope with its owner and phase, ordered by id.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeSummary> {
        let summary = |record: Arc<Record>| ScopeSummary {
            scope: record.scope.clone(),
            driver: record.driver.clone(),
            phase: record.phase,
            steps: record.plan.keys(),
            leases: record.leases.iter().map(|lease| lease.address).collect(),
            error: record.error.clone(),
        };
        self.store.list("").into_iter().map(summary).collect()
    }

    /// Asks a driver whether it can serve.
    ///
    /// # Errors
    /// `failed-precondition` with what is missing; or why the driver could not be asked.
    pub async fn probe(&self, driver: &str) -> Result<(), CallError> {
        let serving = self.registry.get(driver)?;
        self.probe_serving(&serving).await
    }

    /// The same of a version that need not be in service.
    pub(crate) async fn probe_serving(&self, serving: &Serving) -> Result<(), CallError> {
        let driver = serving.driver();
        let missing = serving.probe(self.question(driver)).await?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(CallError::new(
            Code::FailedPrecondition,
            format!("driver {driver}: {missing}"),
        ))
    }

    /// What a call on a scope is about. `request` is the digest of what was asked for.
    fn input(&self, scope: ScopeId, request: &str, subject: Option<ObjectRef>) -> CallInput<'_> {
        let attempt = {
            let mut attempts = self.attempts.lock();
            let attempt = attempts.entry(scope.clone()).or_insert(0);
            *attempt = attempt.saturating_add(1);
            *attempt
        };
        let operation = Sha256::digest(format!("{scope}\n{request}"));
        let operation_id = hex::encode(operation).chars().take(32).collect();
        CallInput {
            store: &self.store,
            eyes: &self.eyes,
            scope,
            pools: Pools::default(),
            operation_id,
            attempt,
            dry_run: false,
            subject,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// An operation ended well: its next one begins at the first try.
    fn settled(&self, scope: &ScopeId) {
        self.attempts.lock().remove(scope);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Digest of what was asked of which driver.
fn digest(driver: &str, request: &impl Serialize) -> String {
    let text = serde_json::to_vec(&(driver, request)).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}
