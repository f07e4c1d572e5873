//! ComponentStatuses: how the parts of the control plane are. Nothing of it is stored; every answer is of the moment.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::ApiServer;

/// What tells whether a component does its work, or why not.
type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Those that Kubernetes tells of whether or not they are there.
const EXPECTED: [&str; 2] = ["controller-manager", "scheduler"];
/// The store.
const STORE: &str = "etcd-0";

/// The components that this process has, besides the API server.
#[derive(Default)]
pub(crate) struct Components(RwLock<BTreeMap<&'static str, Probe>>);

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().keys()).finish()
    }
}

impl ApiServer {
    /// Tells of a component of this process (`controller-manager`, `scheduler`) in ComponentStatuses. `probe` is
    /// called for every answer, so it must return at once.
    pub fn tell_of(
        &self,
        name: &'static str,
        probe: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.components.0.write().insert(name, Box::new(probe));
    }

    /// All ComponentStatuses by name.
    pub(crate) fn component_statuses(&self) -> BTreeMap<&'static str, Value> {
        let mut states = BTreeMap::new();
        for name in EXPECTED {
            states.insert(name, Err(format!("no {name} runs in this process")));
        }
        let store = self.store.status().write_fault;
        let store = store.map_or(Ok(()), |fault| Err(fault.to_string()));
        states.insert(STORE, store);
        for (name, probe) in &*self.components.0.read() {
            states.insert(name, probe());
        }
        let objects = states.into_iter();
        objects
            .map(|(name, state)| (name, status(name, &state)))
            .collect()
    }
}

fn status(name: &str, state: &Result<(), String>) -> Value {
    let condition = match state {
        Ok(()) => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        Err(why) => json!({ "type": "Healthy", "status": "False", "message": why, "error": why }),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": { "name": name, "creationTimestamp": null }, "conditions": [condition],
    })
}
