//! What workers ask of and tell the API server.
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use super::caches::Cache;
use super::objects::Objects;
use crate::env::service_env;
use crate::inputs::References;
use crate::pod::members;
use crate::pod::observed::Problem;
use crate::pod::services::{PodApi, PodObjects, chain};

/// How long a pod waits for the first list of Services before it tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The API server as this node's workers see it.
pub(super) struct ApiServer {
    client: Client,
    objects: Objects,
    services: Cache<Service>,
    cluster_dns: Vec<IpAddr>,
}

impl ApiServer {
    /// `services` holds all Services of the cluster, for the variables in containers; `cluster_dns` are name servers to
    /// use instead of the Service `kube-dns`.
    pub(super) fn new(
        client: Client,
        services: Cache<Service>,
        cluster_dns: Vec<IpAddr>,
    ) -> Arc<Self> {
        Arc::new(Self {
            objects: Objects::new(client.clone()),
            client,
            services,
            cluster_dns,
        })
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), members::namespace(pod))
    }

    /// Whether the pod of that name is still this one. A node may list its own pods, also when there are none of the name any
    /// more; a single one it may only read while it is there.
    async fn is_there(&self, pod: &Pod) -> Result<bool, kube::Error> {
        let node = members::spec(pod).node_name.as_deref().unwrap_or_default();
        let this = format!("metadata.name={},spec.nodeName={node}", members::name(pod));
        let params = ListParams::default().fields(&this);
        let found = self.pods(pod).list_metadata(&params).await?;
        let mut found = found.items.iter();
        Ok(found.any(|found| found.metadata.uid == pod.metadata.uid))
    }
}

/// The addresses of a Service, in its order of families.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let texts = service
        .spec
        .iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[async_trait]
impl PodApi for ApiServer {
    async fn objects(&self, pod: &Pod) -> Result<PodObjects, Problem> {
        let namespace = members::namespace(pod);
        let found = self.objects.find(namespace, &References::of(pod)).await?;
        let links = members::spec(pod).enable_service_links.unwrap_or(true);
        if !self.services.listed_within(PATIENCE).await {
            let why = "services have not yet been read at least once, cannot construct envvars"
                .to_owned();
            return Err(Problem::new("CreateContainerConfigError", why));
        }
        let services = self.services.store.state();
        let service_env = service_env(services.iter().map(AsRef::as_ref), namespace, links);
        Ok(PodObjects {
            config_maps: found.config_maps,
            secrets: found.secrets,
            service_env,
        })
    }

    async fn cluster_dns(&self) -> Result<Vec<IpAddr>, Problem> {
        if !self.cluster_dns.is_empty() {
            return Ok(self.cluster_dns.clone());
        }
        if !self.services.listed_within(PATIENCE).await {
            let why = "services have not yet been read at least once, cannot tell the name server";
            return Err(Problem::new("FailedCreatePodSandBox", why.to_owned()));
        }
        let service = self
            .services
            .store
            .get(&ObjectRef::new("kube-dns").within("kube-system"));
        Ok(service.map_or_else(Vec::new, |service| addresses(&service)))
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
