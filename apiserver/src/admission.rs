//! The last word on a write before it is validated and stored: an ordered chain of plugins.
//!
//! The handler calls [`Chain::mutate`] after decoding and defaulting, then the kind's strategy, then
//! [`Chain::validate`], then the store. Plugins see the object as JSON and read other objects through
//! [`ObjectSource`].

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

mod error;
mod request;

pub use error::{Cause, Error};
pub use request::{Operation, Request};

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Its name, as Kubernetes calls it.
    fn name(&self) -> &'static str;

    /// Whether the plugin has a say in this request.
    fn handles(&self, request: &Request<'_>) -> bool;

    /// May change the object, or refuse the request. `object` is null for deletes.
    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let _ = (request, object);
        Ok(())
    }

    /// May refuse the request, after all changes were made.
    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let _ = (request, object);
        Ok(())
    }
}

/// The plugins of a server, in the order they are asked.
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// Lets every plugin change the object, in order. Stops at the first refusal.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(request)) {
            plugin.mutate(request, object).await?;
        }
        Ok(())
    }

    /// Asks every plugin whether the finished object is acceptable. Stops at the first refusal.
    pub async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(request)) {
            plugin.validate(request, object).await?;
        }
        Ok(())
    }
}
