//! Publishes the addresses behind each Service as EndpointSlices.

mod plan;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::caches::Caches;
use crate::error::{Error, ignore_not_found};
use crate::informer::Informer;
use crate::meta::{Key, is_terminating};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};
pub(crate) use plan::{
    Change, HEADLESS, MANAGED_BY, Ports, SERVICE_NAME, addresses, fit, has_selector, ports,
    selects, service_of,
};

const WORKERS: usize = 4;

/// # Guarantees
/// The slices of a Service with a selector list exactly its pods, each in one slice of its
/// address family; slices made by others are left alone.
struct EndpointSlices {
    client: Client,
    caches: Arc<Caches>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    follow_services(caches, &queue);
    let wake = queue.clone();
    caches.endpoint_slices.on_change(move |slice| {
        if let Some(service) = plan::service_of(slice) {
            wake.add(Key::new(slice.namespace().unwrap_or_default(), service));
        }
    });
    let slices = EndpointSlices {
        client: client.clone(),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(slices), &queue, WORKERS);
}

/// Puts Services on the queue when they or the pods that they select change.
pub(crate) fn follow_services(caches: &Caches, queue: &Arc<Queue<Key>>) {
    let wake = queue.clone();
    caches
        .services
        .on_change(move |service| wake.add(Key::of(service)));
    let (wake, services) = (queue.clone(), caches.services.clone());
    caches.pods.on_change(move |pod| {
        for service in services.in_namespace(&pod.namespace().unwrap_or_default()) {
            if selects(&service, pod) {
                wake.add(Key::of(&*service));
            }
        }
    });
}

impl Reconcile for EndpointSlices {
    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.pods.synced().await;
        self.caches.endpoint_slices.synced().await;
        self.caches.namespaces.synced().await;
        // The slices of a Service that is gone are collected as its dependents.
        let Some(service) = self.caches.services.get(key) else {
            return Ok(Next::Await);
        };
        let namespace = self.caches.namespaces.get(&Key::cluster(&key.namespace));
        if namespace.is_none_or(|namespace| is_terminating(&*namespace)) {
            return Ok(Next::Await);
        }
        let pods = self.caches.pods.in_namespace(&key.namespace);
        let mut slices = self.caches.endpoint_slices.in_namespace(&key.namespace);
        slices.retain(|slice| plan::is_ours(slice, &service));
        let zone_of = |node: &str| {
            let node = self.caches.nodes.get(&Key::cluster(node))?;
            node.labels().get("topology.kubernetes.io/zone").cloned()
        };
        let changes = plan::plan(&service, &pods, &slices, zone_of);
        try_join_all(changes.iter().map(|change| self.act(&service, change))).await?;
        Ok(Next::Await)
    }
}

impl EndpointSlices {
    async fn act(&self, service: &Service, change: &Change) -> Result<(), Error> {
        let namespace = service.namespace().unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &namespace);
        let written = change.write(&api, &self.caches.endpoint_slices).await;
        let about = Key::of(service).to_string();
        written.map_err(Error::api("write an endpoint slice of", about))
    }
}

impl Change {
    /// Carries the change out, and waits until the cache shows what was made.
    pub(crate) async fn write(
        &self,
        api: &Api<EndpointSlice>,
        cache: &Informer<EndpointSlice>,
    ) -> Result<(), kube::Error> {
        let params = PostParams::default();
        match self {
            Self::Create(slice) => {
                let created = api.create(&params, slice).await?;
                cache.shows(&Key::of(&created)).await;
            }
            Self::Replace(slice) => {
                api.replace(&slice.name_any(), &params, slice).await?;
            }
            Self::Delete(name) => {
                ignore_not_found(api.delete(name, &DeleteParams::default()).await)?;
            }
        }
        Ok(())
    }
}
