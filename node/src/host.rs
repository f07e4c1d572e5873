//! What the node lends to drivers as eyes: reads of its links and storage.

use async_trait::async_trait;
use davit_plugins::capabilities::{
    ActError, DeviceInfo, DriverEvent, HostCapabilities, LinkInfo, SpaceInfo,
};
use davit_plugins::plan::Root;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::network::Network;
use crate::storage::Storage;

/// Answers the questions that drivers may ask of this machine.
#[derive(Debug)]
pub struct Capabilities {
    network: Arc<Network>,
    storage: Arc<Storage>,
    events: mpsc::Sender<DriverEvent>,
}

/// Events of drivers that may wait to be written; more are only logged.
pub const WAITING_EVENTS: usize = 256;

impl Capabilities {
    /// Reads through the same hands that carry plans out; what drivers want to tell goes to `events`.
    #[must_use]
    pub fn new(
        network: Arc<Network>,
        storage: Arc<Storage>,
        events: mpsc::Sender<DriverEvent>,
    ) -> Self {
        Self {
            network,
            storage,
            events,
        }
    }
}

#[async_trait]
impl HostCapabilities for Capabilities {
    async fn links(&self, name_glob: &str) -> Result<Vec<LinkInfo>, ActError> {
        self.network.links(name_glob).await
    }

    async fn default_route_link(&self, family: u8) -> Result<Option<LinkInfo>, ActError> {
        self.network.default_route_link(family).await
    }

    async fn space(&self, root: &Root) -> Result<SpaceInfo, ActError> {
        self.storage.space(root).await
    }

    async fn used_bytes(&self, root: &Root, but: &[&str]) -> Result<u64, ActError> {
        self.storage.used_bytes(root, but).await
    }

    async fn devices(&self, glob: &str) -> Result<Vec<DeviceInfo>, ActError> {
        self.storage.devices(glob).await
    }

    fn event(&self, event: DriverEvent) {
        if let Err(lost) = self.events.try_send(event) {
            tracing::warn!(%lost, "an event of a driver is not written");
        }
    }
}
