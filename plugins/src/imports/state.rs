//! `davit:plugin/state`: values of the plugin on this node.

use super::CallState;
use crate::engine::bindings::davit::plugin::state::{self, Area};
use crate::engine::bindings::davit::plugin::types::Error;
use crate::error::{CallError, Code};

impl state::Host for CallState {
    fn get(&mut self, area: Area, key: String) -> Result<Option<Vec<u8>>, Error> {
        on_node(area)?;
        Ok(self.session.get(&key))
    }

    fn put(&mut self, area: Area, key: String, value: Vec<u8>) -> Result<(), Error> {
        on_node(area)?;
        Ok(self.session.put(&key, value)?)
    }

    fn delete(&mut self, area: Area, key: String) -> Result<(), Error> {
        on_node(area)?;
        self.session.delete(&key);
        Ok(())
    }

    fn keys(
        &mut self,
        area: Area,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        on_node(area)?;
        Ok(self
            .session
            .keys(&prefix, after.as_deref(), limit.min(10_000) as usize))
    }
}

/// The cluster's area is for calls placed in the cluster, not on a node.
fn on_node(area: Area) -> Result<(), CallError> {
    match area {
        Area::Node => Ok(()),
        Area::Cluster => Err(CallError::new(
            Code::FailedPrecondition,
            "state area cluster is not offered to calls on a node: use area node",
        )),
    }
}
