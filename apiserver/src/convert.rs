//! Kinds that are stored in another version or under another kind than they are served.

mod autoscaler;
mod core_event;

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use autoscaler::autoscaler_v1;
pub(crate) use core_event::core_event;

/// The way between a served version and the stored one. Both directions keep what the other side cannot say.
pub trait Conversion: Send + Sync + Debug {
    /// From the served version to what is stored.
    ///
    /// # Errors
    /// Text for the user when the object cannot be said in the stored version.
    fn to_stored(&self, object: Value) -> Result<Value, String>;

    /// From what is stored to the served version.
    ///
    /// # Errors
    /// Text for the user when the stored object cannot be said in this version.
    fn to_served(&self, object: Value) -> Result<Value, String>;
}

/// Versions that differ in nothing but their name (CRD conversion strategy `None`).
#[derive(Debug)]
pub(crate) struct Rename {
    pub(crate) stored: String,
    pub(crate) served: String,
}

impl Conversion for Rename {
    fn to_stored(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = self.stored.clone().into();
        Ok(object)
    }

    fn to_served(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = self.served.clone().into();
        Ok(object)
    }
}

/// Shared conversions are made once per entry.
pub(crate) fn shared(conversion: impl Conversion + 'static) -> Arc<dyn Conversion> {
    Arc::new(conversion)
}
