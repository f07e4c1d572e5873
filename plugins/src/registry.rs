//! Drivers by name, swapped while calls run: a running call finishes on the version it began with.

mod serving;

pub(crate) use serving::{CallInput, Granted, Planned, Serving, kept};

use crate::engine::Loaded;
use crate::error::{CallError, Code};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The loaded drivers of a node.
#[derive(Debug)]
pub struct Registry {
    drivers: RwLock<BTreeMap<String, Arc<Serving>>>,
    changed: watch::Sender<u64>,
}

/// One driver, for discovery and for `CSINode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The `Plugin` object it comes from.
    pub plugin: String,
    /// Whether it serves networks.
    pub network: bool,
    /// Whether it serves volumes.
    pub storage: bool,
    /// Whether its volumes are made by the node they are used on (`storage.placement=node`).
    pub node_placement: bool,
    /// Whether it is left alone for a while after repeated traps.
    pub degraded: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            drivers: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Registry {
    /// Every driver that serves, ordered by name.
    #[must_use]
    pub fn drivers(&self) -> Vec<DriverInfo> {
        let drivers = self.drivers.read();
        drivers.values().map(|serving| serving.info()).collect()
    }

    /// Tells when drivers come, go, or change their health. Carries no data: look again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, driver: &str) -> Result<Arc<Serving>, CallError> {
        let found = self.drivers.read().get(driver).cloned();
        found.ok_or_else(|| {
            CallError::new(
                Code::Unavailable,
                format!(
                    "driver {driver} is not loaded on this node: no Plugin that is Ready here provides it"
                ),
            )
        })
    }

    /// Tells one version of a driver, its grants and its configuration from every other; `None` while
    /// none is loaded.
    #[must_use]
    pub fn revision(&self, driver: &str) -> Option<String> {
        let drivers = self.drivers.read();
        let serving = drivers.get(driver)?;
        Some(serving.granted.revision.to_string())
    }

    /// What a `Plugin` object provides.
    pub(crate) fn of_plugin(&self, plugin: &str) -> Option<Arc<Serving>> {
        let drivers = self.drivers.read();
        let mut all = drivers.values();
        all.find(|serving| *serving.granted.plugin == *plugin)
            .cloned()
    }

    /// A driver that could be put into service.
    pub(crate) fn prepare(&self, loaded: Loaded, granted: Granted) -> Arc<Serving> {
        let serving = Serving::new(Arc::new(loaded), granted, self.changed.clone());
        Arc::new(serving)
    }

    /// Gives a driver in service other rights, from its next call on.
    pub(crate) fn regrant(&self, serving: &Serving, granted: Granted) {
        self.put(Arc::new(serving.with(granted)));
    }

    /// Puts a driver into service in place of what the same object, or another of the same driver, provided before.
    pub(crate) fn put(&self, serving: Arc<Serving>) {
        let mut drivers = self.drivers.write();
        drivers.retain(|_, other| other.granted.plugin != serving.granted.plugin);
        drivers.insert(serving.driver().to_owned(), serving);
        drop(drivers);
        self.announce();
    }

    /// Takes what a `Plugin` object provides out of service.
    pub(crate) fn withdraw(&self, plugin: &str) {
        let mut drivers = self.drivers.write();
        let before = drivers.len();
        drivers.retain(|_, serving| *serving.granted.plugin != *plugin);
        let withdrawn = drivers.len() < before;
        drop(drivers);
        if withdrawn {
            self.announce();
        }
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
