//! The last word on a write before it is validated and stored: an ordered chain of plugins.
//!
//! The handler calls [`Chain::mutate`] after decoding and defaulting, then the kind's strategy, then
//! [`Chain::validate`], then [`Chain::reserve`] with the store. Plugins see the object as JSON and read other objects through
//! [`ObjectSource`].

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::auth::{Authorizer, ObjectSource};
use crate::callout::Callouts;
use crate::pending::Overlaid;
use crate::resource::Registry;

mod certificate_requests;
mod claim_resize;
mod default_class;
mod default_ingress_class;
mod default_storage_class;
mod error;
mod external_addresses;
mod facts;
mod limit_range;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod notes;
mod plugin_grants;
mod pod_security;
mod policy;
mod priority;
mod rbac_escalation;
mod request;
mod reservation;
mod resource_quota;
mod round;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;
mod tolerations;
mod topology_labels;
mod versions;
mod webhook;

pub use error::{Cause, Error};
pub(crate) use external_addresses::Known;
pub use notes::Notes;
pub(crate) use policy::TypeChecked;
pub use request::{Operation, Request};
pub use reservation::Reservation;
pub use round::Round;

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

    /// What the write takes from other objects, asked last of all and also for dry runs (which take nothing). Must not
    /// wait. `object` is null for deletes.
    fn reserve(&self, request: &Request<'_>, object: &Value) -> Result<Vec<Reservation>, Error> {
        let _ = (request, object);
        Ok(Vec::new())
    }
}

/// The plugins of a server, in the order they are asked.
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.plugins.iter().map(|plugin| plugin.name()))
            .finish()
    }
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// The plugins every server has, in the order of the Kubernetes API server.
    pub(crate) fn standard(
        source: Arc<dyn ObjectSource>,
        authorizer: Arc<Authorizer>,
        registry: Arc<Registry>,
        callouts: Arc<Callouts>,
        known: Known,
    ) -> Self {
        // A transaction's later items see its earlier ones.
        let source: Arc<dyn ObjectSource> = Arc::new(Overlaid(source));
        let parts = webhook::Parts {
            source: source.clone(),
            authorizer: authorizer.clone(),
            registry,
            callouts,
        };
        Self::new(vec![
            Arc::new(namespace_lifecycle::NamespaceLifecycle::new(source.clone())),
            Arc::new(limit_range::LimitRanger::new(source.clone())),
            Arc::new(service_account::ServiceAccount::new(source.clone())),
            Arc::new(node_restriction::NodeRestriction::new(
                source.clone(),
                authorizer.clone(),
            )),
            Arc::new(taint_nodes::TaintNodesByCondition),
            Arc::new(pod_security::PodSecurity::new(source.clone())),
            Arc::new(priority::Priority::new(source.clone())),
            Arc::new(tolerations::DefaultTolerationSeconds),
            Arc::new(default_storage_class::DefaultStorageClass::new(
                source.clone(),
            )),
            Arc::new(storage_protection::StorageObjectInUseProtection),
            Arc::new(claim_resize::PersistentVolumeClaimResize::new(
                source.clone(),
            )),
            Arc::new(runtime_class::RuntimeClass::new(source.clone())),
            Arc::new(certificate_requests::CertificateRequests::new(
                authorizer.clone(),
            )),
            Arc::new(default_ingress_class::DefaultIngressClass::new(
                source.clone(),
            )),
            Arc::new(external_addresses::ExternalAddresses::new(
                source.clone(),
                known,
            )),
            Arc::new(topology_labels::PodTopologyLabels::new(source.clone())),
            Arc::new(rbac_escalation::RbacEscalation::new(authorizer.clone())),
            Arc::new(plugin_grants::PluginGrants::new(authorizer)),
            // What users add comes after all that changes objects, and before quotas count them.
            Arc::new(policy::Policies::mutating(parts.clone())),
            Arc::new(webhook::Webhooks::mutating(parts.clone())),
            Arc::new(policy::Policies::validating(parts.clone())),
            Arc::new(webhook::Webhooks::validating(parts)),
            Arc::new(resource_quota::ResourceQuota::new(source)),
        ])
    }

    /// Lets every plugin change the object, in order; once more if webhooks or policies changed it. Stops at
    /// the first refusal.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let round = Round::default();
        let request = &Request {
            round: Some(&round),
            ..*request
        };
        self.pass(request, object).await?;
        if round.next() {
            self.pass(request, object).await?;
        }
        Ok(())
    }

    async fn pass(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
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

    /// What must happen in the same transaction as the write.
    pub fn reserve(
        &self,
        request: &Request<'_>,
        object: &Value,
    ) -> Result<Vec<Reservation>, Error> {
        let mut all = Vec::new();
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(request)) {
            all.append(&mut plugin.reserve(request, object)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod testing;
