//! Publishes the addresses behind each Service as Endpoints too, for clients older than EndpointSlices, and turns Endpoints
//! that users wrote by hand into EndpointSlices.

mod mirror;
mod plan;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::caches::Caches;
use crate::endpoint_slice::{Change, follow_services};
use crate::error::{Error, ignore_not_found};
use crate::meta::{Key, is_terminating};
use crate::queue::Queue;
use crate::runner::{Next, Reconcile, Tasks};

const WORKERS: usize = 4;

/// # Guarantees
/// The Endpoints of a Service with a selector list its pods and go with the Service; those of a Service without one are the
/// user's, and show as slices as long as they exist.
struct EndpointsOfServices {
    client: Client,
    caches: Arc<Caches>,
}

pub(crate) fn start(client: &Client, caches: &Arc<Caches>, tasks: &mut Tasks) {
    let queue = Arc::new(Queue::new());
    follow_services(caches, &queue);
    let wake = queue.clone();
    caches
        .endpoints
        .on_change(move |endpoints| wake.add(Key::of(endpoints)));
    let wake = queue.clone();
    caches.endpoint_slices.on_change(move |slice| {
        if let Some(endpoints) = mirror::source_of(slice) {
            wake.add(Key::new(slice.namespace().unwrap_or_default(), endpoints));
        }
    });
    let endpoints = EndpointsOfServices {
        client: client.clone(),
        caches: caches.clone(),
    };
    tasks.reconcile(Arc::new(endpoints), &queue, WORKERS);
}

impl Reconcile for EndpointsOfServices {
    const NAME: &'static str = "endpoints";

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.caches.pods.synced().await;
        self.caches.services.synced().await;
        self.caches.endpoints.synced().await;
        self.caches.endpoint_slices.synced().await;
        self.caches.namespaces.synced().await;
        let namespace = self.caches.namespaces.get(&Key::cluster(&key.namespace));
        if namespace.is_none_or(|namespace| is_terminating(&*namespace)) {
            return Ok(Next::Await);
        }
        let service = self.caches.services.get(key);
        let old = self.caches.endpoints.get(key);
        let pods = self.caches.pods.in_namespace(&key.namespace);
        if let Some(write) = plan::plan(service.as_deref(), &pods, old.as_deref()) {
            self.write(key, write).await?;
        }
        let mut slices = self.caches.endpoint_slices.in_namespace(&key.namespace);
        slices.retain(|slice| mirror::source_of(slice) == Some(&key.name));
        let changes = mirror::plan(service.as_deref(), old.as_deref(), &slices);
        let acts = changes.iter().map(|change| self.mirror(key, change));
        try_join_all(acts).await?;
        Ok(Next::Await)
    }
}

impl EndpointsOfServices {
    async fn write(&self, key: &Key, write: plan::Write) -> Result<(), Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams::default();
        match write {
            plan::Write::Create(wanted) => {
                api.create(&params, &wanted)
                    .await
                    .map_err(Error::api("create endpoints", key.to_string()))?;
                self.caches.endpoints.shows(key).await;
            }
            plan::Write::Replace(wanted) => {
                api.replace(&key.name, &params, &wanted)
                    .await
                    .map_err(Error::api("update endpoints", key.to_string()))?;
            }
            plan::Write::Delete => {
                ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)
                    .map_err(Error::api("delete endpoints", key.to_string()))?;
            }
        }
        Ok(())
    }

    async fn mirror(&self, key: &Key, change: &Change) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = change.write(&api, &self.caches.endpoint_slices).await;
        written.map_err(Error::api("mirror endpoints", key.to_string()))
    }
}
