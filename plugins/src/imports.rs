//! What a driver may call during one call: the host's side of the WIT imports.

mod context;
mod convert;
mod inspect;
mod ipam;
mod log;
mod network_plan;
mod state;
mod storage_plan;

pub(crate) use log::printable;
pub(crate) use network_plan::NetworkBuilder;
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub use network_plan::NetworkPlanHandle;
pub(crate) use storage_plan::StorageBuilder;
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub use storage_plan::StoragePlanHandle;

use crate::capabilities::{HostCapabilities, ObjectRef};
use crate::engine::MemoryLimiter;
use crate::grants::GrantSet;
use crate::scope::Session;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The data of one call's wasmtime store. Made for the call and dropped with it.
pub(crate) struct CallState {
    pub(crate) facts: Facts,
    pub(crate) grants: Arc<GrantSet>,
    pub(crate) eyes: Arc<dyn HostCapabilities>,
    pub(crate) session: Session,
    pub(crate) network: NetworkBuilder,
    pub(crate) storage: StorageBuilder,
    pub(crate) log: log::Log,
    pub(crate) memory: MemoryLimiter,
}

/// Facts of one call that drivers may ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) driver: Arc<str>,
    pub(crate) operation_id: String,
    pub(crate) attempt: u32,
    pub(crate) dry_run: bool,
    pub(crate) node: Arc<str>,
    pub(crate) config: Arc<str>,
    /// Of code, grants and configuration.
    pub(crate) revision: Arc<str>,
    pub(crate) subject: Option<ObjectRef>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl CallState {
    pub(crate) fn new(
        facts: Facts,
        grants: Arc<GrantSet>,
        eyes: Arc<dyn HostCapabilities>,
        session: Session,
    ) -> Self {
        let memory = MemoryLimiter::new(grants.limits.memory);
        Self {
            facts,
            grants,
            eyes,
            session,
            network: NetworkBuilder::default(),
            storage: StorageBuilder::default(),
            log: log::Log::default(),
            memory,
        }
    }
}

impl fmt::Debug for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallState")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}
