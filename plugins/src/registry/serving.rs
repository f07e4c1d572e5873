//! One version of a driver in service: the component, its rights, and its health.

use super::DriverInfo;
use crate::breaker::Breaker;
use crate::capabilities::{HostCapabilities, ObjectRef};
use crate::engine::{Answer, CallFailure, Calls as _, Loaded};
use crate::error::{CallError, Code};
use crate::grants::GrantSet;
use crate::imports::{CallState, Facts, printable};
use crate::plan::ScopeId;
use crate::scope::{Pools, Session, Store};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use wasmtime::component::Instance;

/// What a driver is given besides its code.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// The `Plugin` object.
    pub(crate) plugin: Arc<str>,
    /// Whether the file comes with davit; such a driver gives way to a `Plugin` of its name with a file.
    pub(crate) bundled: bool,
    pub(crate) grants: Arc<GrantSet>,
    /// `Plugin.spec.config` as JSON.
    pub(crate) config: Arc<str>,
    /// Differs between any two of code, grants and configuration.
    pub(crate) revision: Arc<str>,
    /// Name of this node.
    pub(crate) node: Arc<str>,
}

/// A driver in service.
pub(crate) struct Serving {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) granted: Granted,
    breaker: Mutex<Breaker>,
    slots: Semaphore,
    /// The registry's bell, rung when the breaker opens or closes.
    changed: watch::Sender<u64>,
}

/// What one call is about.
pub(crate) struct CallInput<'a> {
    pub(crate) store: &'a Arc<Store>,
    pub(crate) eyes: &'a Arc<dyn HostCapabilities>,
    pub(crate) scope: ScopeId,
    pub(crate) pools: Pools,
    pub(crate) operation_id: String,
    pub(crate) attempt: u32,
    /// Whether the plan is only looked at.
    pub(crate) dry_run: bool,
    pub(crate) subject: Option<ObjectRef>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a call led to: the plan, the driver's answer, and leases and values to commit with them.
#[derive(Debug)]
pub(crate) struct Planned<P, R> {
    pub(crate) plan: P,
    pub(crate) answer: R,
    pub(crate) session: Session,
    /// Of the driver that planned.
    pub(crate) revision: Arc<str>,
}

/// The answer of a call that plans nothing. What it put into `state` counts from now on: a driver that
/// answers well is never told later that its values are gone.
pub(crate) async fn kept<R>((answer, state): (R, CallState)) -> Result<R, CallError> {
    if !state.facts.dry_run {
        state.session.keep().await?;
    }
    Ok(answer)
}

impl Serving {
    pub(crate) fn new(loaded: Arc<Loaded>, granted: Granted, changed: watch::Sender<u64>) -> Self {
        Self {
            slots: Semaphore::new(granted.grants.limits.concurrency),
            loaded,
            granted,
            breaker: Mutex::default(),
            changed,
        }
    }

    /// The same code with other rights; calls that run go on, and what they plan is not carried out.
    pub(crate) fn with(&self, granted: Granted) -> Self {
        Self::new(self.loaded.clone(), granted, self.changed.clone())
    }

    pub(crate) fn driver(&self) -> &str {
        &self.loaded.manifest.driver
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.breaker.lock().is_open()
    }

    pub(crate) fn info(&self) -> DriverInfo {
        let manifest = &self.loaded.manifest;
        DriverInfo {
            driver: manifest.driver.clone(),
            version: manifest.version.clone(),
            plugin: self.granted.plugin.to_string(),
            network: self.loaded.network.is_some(),
            storage: self.loaded.node.is_some(),
            node_placement: manifest.feature("storage.placement") == Some("node"),
            degraded: self.is_degraded(),
        }
    }

    /// The state of a new call.
    pub(crate) fn state(&self, input: CallInput<'_>) -> CallState {
        let grants = self.granted.grants.clone();
        let session = Session::new(
            input.store.clone(),
            self.driver(),
            input.scope,
            input.pools,
            grants.limits.state_bytes,
        );
        let facts = Facts {
            driver: self.driver().into(),
            operation_id: input.operation_id,
            attempt: input.attempt,
            dry_run: input.dry_run,
            node: self.granted.node.clone(),
            config: self.granted.config.clone(),
            revision: self.granted.revision.clone(),
            subject: input.subject,
            labels: input.labels,
            annotations: input.annotations,
        };
        CallState::new(facts, grants, input.eyes.clone(), session)
    }

    /// Makes one call, unless the driver is left alone after repeated traps.
    pub(crate) async fn call<R: Send>(
        &self,
        state: CallState,
        what: &str,
        wall: Duration,
        call: impl for<'a> FnOnce(
            &'a mut wasmtime::Store<CallState>,
            Instance,
        ) -> BoxFuture<'a, Answer<R>>
        + Send,
    ) -> Result<(R, CallState), CallError> {
        self.breaker
            .lock()
            .admit(Instant::now())
            .map_err(|wait| self.resting(wait))?;
        let _slot = self.slots.acquire().await;
        let outcome = self.loaded.run(state, what, wall, call).await;
        let turned = match &outcome {
            Err(CallFailure::Broken(_)) => self.breaker.lock().failed(Instant::now()),
            _ => self.breaker.lock().answered(),
        };
        if turned {
            self.changed.send_modify(|count| *count += 1);
        }
        outcome.map_err(|failure| match failure {
            CallFailure::Refused(error) | CallFailure::Broken(error) => error,
        })
    }

    /// Asks the driver whether it can serve: an empty text, or what is missing.
    pub(crate) async fn probe(&self, input: CallInput<'_>) -> Result<String, CallError> {
        let state = self.state(input);
        let indices = self.loaded.lifecycle.clone();
        let wall = self.granted.grants.limits.attach;
        let call = self.call(state, "probe", wall, move |store, instance| {
            async move {
                indices
                    .load(&mut *store, &instance)?
                    .call_probe(store)
                    .await
            }
            .boxed()
        });
        let health = kept(call.await?).await?;
        Ok(if health.ready {
            String::new()
        } else {
            printable(&health.message)
        })
    }

    fn resting(&self, wait: Duration) -> CallError {
        CallError {
            code: Code::Unavailable,
            message: format!(
                "driver {} trapped or timed out repeatedly; it is tried again in {} s",
                self.driver(),
                wait.as_secs() + 1
            ),
            retry_after: Some(wait),
        }
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("driver", &self.driver())
            .field("plugin", &self.granted.plugin)
            .finish_non_exhaustive()
    }
}
