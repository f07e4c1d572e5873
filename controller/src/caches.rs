//! The kinds that controllers read, each watched once for all of them.

use std::sync::Arc;

use davit_api::{Network, NetworkNode};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};

use crate::informer::Informer;
use crate::runner::Tasks;

/// One informer a kind.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) config_maps: Arc<Informer<ConfigMap>>,
    pub(crate) claims: Arc<Informer<PersistentVolumeClaim>>,
    pub(crate) deployments: Arc<Informer<Deployment>>,
    pub(crate) endpoint_slices: Arc<Informer<EndpointSlice>>,
    pub(crate) endpoints: Arc<Informer<Endpoints>>,
    pub(crate) leases: Arc<Informer<Lease>>,
    pub(crate) namespaces: Arc<Informer<Namespace>>,
    pub(crate) network_nodes: Arc<Informer<NetworkNode>>,
    pub(crate) networks: Arc<Informer<Network>>,
    pub(crate) nodes: Arc<Informer<Node>>,
    pub(crate) pods: Arc<Informer<Pod>>,
    pub(crate) quotas: Arc<Informer<ResourceQuota>>,
    pub(crate) replica_sets: Arc<Informer<ReplicaSet>>,
    pub(crate) replication_controllers: Arc<Informer<ReplicationController>>,
    pub(crate) service_accounts: Arc<Informer<ServiceAccount>>,
    pub(crate) services: Arc<Informer<Service>>,
    pub(crate) storage_classes: Arc<Informer<StorageClass>>,
    pub(crate) volumes: Arc<Informer<PersistentVolume>>,
}

/// Namespace of the nodes' heartbeats.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

impl Caches {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            config_maps: Arc::new(Informer::selected(
                Api::all(client.clone()),
                "metadata.name=kube-root-ca.crt",
            )),
            claims: Arc::new(Informer::new(Api::all(client.clone()))),
            deployments: Arc::new(Informer::new(Api::all(client.clone()))),
            endpoint_slices: Arc::new(Informer::new(Api::all(client.clone()))),
            endpoints: Arc::new(Informer::new(Api::all(client.clone()))),
            leases: Arc::new(Informer::new(Api::namespaced(client.clone(), NODE_LEASES))),
            namespaces: Arc::new(Informer::new(Api::all(client.clone()))),
            network_nodes: Arc::new(Informer::new(Api::all(client.clone()))),
            networks: Arc::new(Informer::new(Api::all(client.clone()))),
            nodes: Arc::new(Informer::new(Api::all(client.clone()))),
            pods: Arc::new(Informer::new(Api::all(client.clone()))),
            quotas: Arc::new(Informer::new(Api::all(client.clone()))),
            replica_sets: Arc::new(Informer::new(Api::all(client.clone()))),
            replication_controllers: Arc::new(Informer::new(Api::all(client.clone()))),
            service_accounts: Arc::new(Informer::selected(
                Api::all(client.clone()),
                "metadata.name=default",
            )),
            services: Arc::new(Informer::new(Api::all(client.clone()))),
            storage_classes: Arc::new(Informer::new(Api::all(client.clone()))),
            volumes: Arc::new(Informer::new(Api::all(client.clone()))),
        }
    }

    /// Starts every watch; called after all controllers have placed their listeners.
    pub(crate) fn start(&self, tasks: &mut Tasks) {
        self.config_maps.start(tasks);
        self.claims.start(tasks);
        self.deployments.start(tasks);
        self.endpoint_slices.start(tasks);
        self.endpoints.start(tasks);
        self.leases.start(tasks);
        self.namespaces.start(tasks);
        self.network_nodes.start(tasks);
        self.networks.start(tasks);
        self.nodes.start(tasks);
        self.pods.start(tasks);
        self.quotas.start(tasks);
        self.replica_sets.start(tasks);
        self.replication_controllers.start(tasks);
        self.service_accounts.start(tasks);
        self.services.start(tasks);
        self.storage_classes.start(tasks);
        self.volumes.start(tasks);
    }
}
