//! What workers ask of and tell the API server.
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::reflector::Store;
use kube::{Api, Client};

use super::objects::Objects;
use crate::env::service_env;
use crate::inputs::References;
use crate::pod::members;
use crate::pod::observed::Problem;
use crate::pod::services::{PodApi, PodObjects, chain};

/// The API server as this node's workers see it.
pub(super) struct ApiServer {
    client: Client,
    objects: Objects,
    services: Store<Service>,
}

impl ApiServer {
    /// `services` holds all Services of the cluster, for the variables in containers.
    pub(super) fn new(client: Client, services: Store<Service>) -> Arc<Self> {
        Arc::new(Self {
            objects: Objects::new(client.clone()),
            client,
            services,
        })
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), members::namespace(pod))
    }

    /// Whether the pod of that name is still this one.
    async fn is_there(&self, pod: &Pod) -> Result<bool, kube::Error> {
        let found = self.pods(pod).get_metadata_opt(members::name(pod)).await?;
        Ok(found.is_some_and(|found| found.metadata.uid == pod.metadata.uid))
    }
}

#[async_trait]
impl PodApi for ApiServer {
    async fn objects(&self, pod: &Pod) -> Result<PodObjects, Problem> {
        let namespace = members::namespace(pod);
        let found = self.objects.find(namespace, &References::of(pod)).await?;
        let links = members::spec(pod).enable_service_links.unwrap_or(true);
        let services = self.services.state();
        let service_env = service_env(services.iter().map(AsRef::as_ref), namespace, links);
        Ok(PodObjects {
            config_maps: found.config_maps,
            secrets: found.secrets,
            service_env,
        })
    }

    fn changes(&self, pod: &Pod) -> BoxStream<'static, ()> {
        self.objects
            .changes(members::namespace(pod), &References::of(pod))
    }

    async fn patch_status(
        &self,
        pod: &Pod,
        patch: serde_json::Value,
    ) -> Result<Option<Pod>, Problem> {
        let failed = |error: kube::Error| Problem::new("FailedStatusPatch", chain(&error));
        let params = PatchParams::default();
        match self
            .pods(pod)
            .patch_status(members::name(pod), &params, &Patch::Strategic(&patch))
            .await
        {
            Ok(patched) => Ok(Some(patched)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(kube::Error::Api(status))
                if status.is_conflict() && !self.is_there(pod).await.map_err(failed)? =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Problem> {
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(preconditions);
        match self.pods(pod).delete(members::name(pod), &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another pod has the name now: the precondition failed.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(Problem::new("FailedDelete", chain(&error))),
        }
    }
}
