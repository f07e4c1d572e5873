//! Drivers by name, swapped while calls run: a running call finishes on the version it began with.

mod serving;

pub(crate) use serving::{CallInput, Granted, Planned, Serving};

use crate::engine::Loaded;
use crate::error::{CallError, Code};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// The loaded drivers of a node.
#[derive(Debug)]
pub struct Registry {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    drivers: BTreeMap<String, Slot>,
    /// Bundled drivers that are still being compiled.
    loading: BTreeSet<String>,
}

/// A driver name: a `Plugin` object's version goes before the bundled one.
#[derive(Debug, Default)]
struct Slot {
    bundled: Option<Arc<Serving>>,
    object: Option<Arc<Serving>>,
}

impl Slot {
    fn serving(&self) -> Option<&Arc<Serving>> {
        self.object.as_ref().or(self.bundled.as_ref())
    }
}

/// One driver, for discovery and for `CSINode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The `Plugin` object it comes from; `None` when bundled.
    pub plugin: Option<String>,
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
            state: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Registry {
    /// Every driver that serves, ordered by name.
    #[must_use]
    pub fn drivers(&self) -> Vec<DriverInfo> {
        let state = self.state.read();
        state
            .drivers
            .values()
            .filter_map(Slot::serving)
            .map(|serving| serving.info())
            .collect()
    }

    /// Tells when drivers come, go, or change their health. Carries no data: look again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until a driver serves, or until no version of it is being loaded any more.
    ///
    /// # Errors
    /// `unavailable` when nothing provides it.
    pub async fn ready(&self, driver: &str) -> Result<DriverInfo, CallError> {
        let mut changes = self.changes();
        loop {
            let found = self.get(driver);
            if found.is_ok() || !self.state.read().loading.contains(driver) {
                return found.map(|serving| serving.info());
            }
            if changes.changed().await.is_err() {
                return self.get(driver).map(|serving| serving.info());
            }
        }
    }

    pub(crate) fn get(&self, driver: &str) -> Result<Arc<Serving>, CallError> {
        let state = self.state.read();
        if let Some(serving) = state.drivers.get(driver).and_then(Slot::serving) {
            return Ok(serving.clone());
        }
        let why = if state.loading.contains(driver) {
            "is still being loaded on this node"
        } else {
            "is not loaded on this node: no Plugin that is Ready here provides it"
        };
        Err(CallError::new(
            Code::Unavailable,
            format!("driver {driver} {why}"),
        ))
    }

    /// The `Plugin` object that provides a driver, if one does.
    pub(crate) fn provider(&self, driver: &str) -> Option<String> {
        let state = self.state.read();
        state.drivers.get(driver)?.object.as_ref()?.plugin.clone()
    }

    /// What a `Plugin` object provides.
    pub(crate) fn of_plugin(&self, plugin: &str) -> Option<Arc<Serving>> {
        let state = self.state.read();
        let mut objects = state
            .drivers
            .values()
            .filter_map(|slot| slot.object.as_ref());
        objects
            .find(|serving| serving.plugin.as_deref() == Some(plugin))
            .cloned()
    }

    /// Puts a driver into service in place of what the same source provided before.
    pub(crate) fn serve(&self, loaded: Loaded, granted: Granted) {
        let serving = Arc::new(Serving::new(loaded, granted, self.changed.clone()));
        let mut state = self.state.write();
        let driver = serving.driver().to_owned();
        if let Some(plugin) = &serving.plugin {
            remove_object(&mut state, plugin);
        }
        state.loading.remove(&driver);
        let slot = state.drivers.entry(driver).or_default();
        match serving.plugin {
            Some(_) => slot.object = Some(serving),
            None => slot.bundled = Some(serving),
        }
        drop(state);
        self.announce();
    }

    /// Takes what a `Plugin` object provides out of service.
    pub(crate) fn withdraw(&self, plugin: &str) {
        remove_object(&mut self.state.write(), plugin);
        self.announce();
    }

    /// Notes that a bundled driver is being loaded, or no longer is.
    pub(crate) fn loading(&self, driver: &str, begins: bool) {
        let mut state = self.state.write();
        if begins {
            state.loading.insert(driver.to_owned());
        } else {
            state.loading.remove(driver);
        }
        drop(state);
        self.announce();
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

fn remove_object(state: &mut State, plugin: &str) {
    for slot in state.drivers.values_mut() {
        slot.object
            .take_if(|serving| serving.plugin.as_deref() == Some(plugin));
    }
    state.drivers.retain(|_, slot| slot.serving().is_some());
}
