//! Kinds that are stored in another version or under another kind than they are served.

mod autoscaler;
mod core_event;
mod hook;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::schema::Schema;

pub(crate) use autoscaler::autoscaler_v1;
pub(crate) use core_event::core_event;
pub(crate) use hook::Hook;

/// The way between a served version and the stored one, which may lead over a server of the user's.
#[async_trait]
pub trait Conversion: Send + Sync + Debug {
    /// From the served version to what is stored.
    ///
    /// # Errors
    /// Text for the user.
    async fn store(&self, object: Value) -> Result<Value, String>;

    /// From what is stored to the served version, in the same order.
    ///
    /// # Errors
    /// Text for the user.
    async fn serve(&self, objects: Vec<Value>) -> Result<Vec<Value>, String>;

    /// [`Conversion::serve`] for one object.
    ///
    /// # Errors
    /// Text for the user.
    async fn serve_one(&self, object: Value) -> Result<Value, String> {
        let served = self.serve(vec![object]).await?;
        let served = served.into_iter().next();
        served.ok_or_else(|| "the conversion gave no object".to_owned())
    }
}

/// A conversion that the server does by itself. Both directions keep what the other side cannot say.
pub(crate) trait Mapping: Send + Sync + Debug {
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

impl Mapping for Rename {
    fn to_stored(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = self.stored.clone().into();
        Ok(object)
    }

    fn to_served(&self, mut object: Value) -> Result<Value, String> {
        object["apiVersion"] = self.served.clone().into();
        Ok(object)
    }
}

/// A mapping as a conversion; shared ones are made once per entry.
pub(crate) fn shared(mapping: impl Mapping + 'static) -> Arc<dyn Conversion> {
    Arc::new(Local(mapping))
}

#[derive(Debug)]
struct Local<M>(M);

#[async_trait]
impl<M: Mapping> Conversion for Local<M> {
    async fn store(&self, object: Value) -> Result<Value, String> {
        self.0.to_stored(object)
    }

    async fn serve(&self, objects: Vec<Value>) -> Result<Vec<Value>, String> {
        let served = objects.into_iter().map(|object| self.0.to_served(object));
        served.collect()
    }
}

/// Objects get the defaults of the served version when they are read, after the conversion to it, if any.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) conversion: Option<Arc<dyn Conversion>>,
    pub(crate) schema: Arc<Schema>,
}

#[async_trait]
impl Conversion for Completed {
    async fn store(&self, object: Value) -> Result<Value, String> {
        match &self.conversion {
            Some(conversion) => conversion.store(object).await,
            None => Ok(object),
        }
    }

    async fn serve(&self, objects: Vec<Value>) -> Result<Vec<Value>, String> {
        let mut objects = match &self.conversion {
            Some(conversion) => conversion.serve(objects).await?,
            None => objects,
        };
        for object in &mut objects {
            self.schema.default(object);
        }
        Ok(objects)
    }
}
