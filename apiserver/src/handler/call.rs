//! Everything a handler knows of its request but the body.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::ApiServer;
use crate::admission;
use crate::apply::Writer;
use crate::auth::UserInfo;
use crate::cache::KindCache;
use crate::error::StatusError;
use crate::handler::transaction::Batch;
use crate::request::{Accept, Options, ResourcePath};
use crate::resource::Resource;
use crate::strategy::Context;

/// One request for a resource.
pub(crate) struct Call {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: ResourcePath,
    pub(crate) options: Options,
    pub(crate) accept: Accept,
    pub(crate) user: Arc<UserInfo>,
    /// Who writes, for `managedFields`.
    pub(crate) manager: String,
    pub(crate) content_type: String,
    /// What admission noted.
    pub(crate) notes: Arc<admission::Notes>,
    /// Gathers the writes of a transaction; without it they are carried out at once.
    pub(crate) batch: Option<Arc<Batch>>,
}

impl Call {
    /// Namespace of the objects; empty for cluster-scoped kinds and for all namespaces.
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced {
            &self.path.namespace
        } else {
            ""
        }
    }

    /// Key of the object called `name`.
    pub(crate) fn key(&self, name: &str) -> Arc<str> {
        self.resource.key(self.namespace(), name)
    }

    pub(crate) fn kind(&self) -> Arc<KindCache> {
        self.server.cache.kind(&self.resource.prefix)
    }

    pub(crate) fn not_found(&self, name: &str) -> StatusError {
        StatusError::not_found(&self.resource, name)
    }

    /// What strategies are told.
    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            subresource: &self.path.subresource,
            namespace: self.namespace(),
            now: now(),
        }
    }

    /// Under which entry of `managedFields` this write is counted. Scale is counted as the object's own.
    pub(crate) fn writer<'a>(&'a self, api_version: &'a str) -> Writer<'a> {
        Writer {
            manager: &self.manager,
            api_version,
            subresource: &self.path.subresource,
            status_apart: self.resource.has_status(),
            now: now(),
        }
    }

    /// What admission is told.
    pub(crate) fn admission<'a>(
        &'a self,
        operation: admission::Operation,
        name: &'a str,
        old: Option<&'a Value>,
    ) -> admission::Request<'a> {
        admission::Request {
            operation,
            user: &self.user,
            group: &self.resource.group,
            version: &self.resource.version,
            kind: &self.resource.kind,
            resource: &self.resource.plural,
            subresource: &self.path.subresource,
            namespace: self.path.namespace.as_str(),
            name,
            old,
            dry_run: self.options.dry_run,
            options: Some(&self.options),
            round: None,
            notes: &self.notes,
        }
    }

    /// What was written is known to others who count on it.
    pub(crate) fn written(&self) {
        if let Some(companion) = self.resource.companion {
            companion.written(&self.server);
        }
    }

    /// The same request for another object or verb, with other options.
    pub(crate) fn derived(&self, path: ResourcePath, options: Options) -> Self {
        Self {
            server: self.server.clone(),
            resource: self.resource.clone(),
            path,
            options,
            accept: self.accept,
            user: self.user.clone(),
            manager: self.manager.clone(),
            content_type: self.content_type.clone(),
            notes: self.notes.clone(),
            batch: self.batch.clone(),
        }
    }

    /// An object as this version serves it.
    pub(crate) async fn served(&self, stored: Value) -> Result<Value, StatusError> {
        match &self.resource.conversion {
            Some(conversion) => conversion
                .serve_one(stored)
                .await
                .map_err(StatusError::internal),
            None => Ok(stored),
        }
    }

    /// An object as it is stored.
    pub(crate) async fn stored(&self, served: Value) -> Result<Value, StatusError> {
        match &self.resource.conversion {
            Some(conversion) => {
                conversion
                    .store(served)
                    .await
                    .map_err(|why| match self.resource.custom {
                        Some(_) => StatusError::internal(why),
                        None => StatusError::bad_request(why),
                    })
            }
            None => Ok(served),
        }
    }
}

/// The time in the API's precision of a second.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
