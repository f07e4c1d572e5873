//! The cluster's name server on this node: follows the objects that its answers come from.
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caches::Cache;
use super::networks::{UpNetworks, is_near};
use crate::dns::{NameServer, Resolver, View, Zone};

/// Follows the objects.
pub(super) struct NameObjects {
    pub(super) domain: String,
    pub(super) services: Cache<Service>,
    pub(super) slices: Cache<EndpointSlice>,
    pub(super) namespaces: Cache<Namespace>,
    pub(super) resolver: Resolver,
}

impl NameObjects {
    /// Keeps the resolver's zone as the objects are, until shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Until the first lists are there, no name of the cluster is known to be missing.
            () = self.first() => {}
        }
        let mut serial = 1;
        loop {
            self.resolver.put(self.zone(serial));
            serial += 1;
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.services.changes.changed() => {}
                Ok(()) = self.slices.changes.changed() => {}
                Ok(()) = self.namespaces.changes.changed() => {}
            }
        }
    }

    async fn first(&self) {
        self.services.listed().await;
        self.slices.listed().await;
        self.namespaces.listed().await;
    }

    fn zone(&self, serial: u32) -> Zone {
        let services = self.services.store.state();
        let slices = self.slices.store.state();
        let namespaces = self.namespaces.store.state();
        let names: Vec<String> = namespaces.iter().map(|found| found.name_any()).collect();
        Zone::new(&View {
            domain: &self.domain,
            services: &services.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            slices: &slices.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            namespaces: &names,
            serial,
        })
    }
}

/// The port of this node at which its name server answers, once it does; `file` keeps it for the next start. Without one
/// pods resolve no names.
pub(super) async fn start(
    objects: NameObjects,
    file: &Path,
    up: &UpNetworks,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Option<u16> {
    let near = Arc::clone(up);
    let is_near = Arc::new(move |peer, own| is_near(&near, peer, own));
    let last = std::fs::read_to_string(file);
    let last = last.ok().and_then(|text| text.parse().ok());
    let server = NameServer::open(objects.resolver.clone(), is_near, last).await;
    match server.and_then(|server| Ok((server.port()?, server))) {
        Ok((port, server)) => {
            if let Err(error) = std::fs::write(file, port.to_string()) {
                tracing::debug!(%error, "the port of the name server is another one next time");
            }
            tasks.spawn(server.run(shutdown.clone()));
            tasks.spawn(objects.run(shutdown.clone()));
            Some(port)
        }
        Err(error) => {
            tracing::warn!(%error, "pods cannot resolve names");
            None
        }
    }
}
