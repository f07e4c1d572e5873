//! Network drivers: put pods on networks.

#[cfg(target_family = "wasm")]
mod export;
mod plan;

pub use crate::bindings::network::davit::network::inspect::LinkInfo;
pub use crate::bindings::network::davit::network::ipam::{Lease, Pool};
pub use crate::bindings::network::davit::network::plan::{
    Filter, Forward, Link, Place, PolicyRule, Rate, Route,
};
pub use crate::bindings::network::davit::network::types::{Attachment, Dns, Network, Node, Pod};
pub use crate::context::Context;
pub use crate::{Code, Error, ErrorExt, Health, Manifest, NoConfig, Result, short_name};
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use export::Export;
pub use plan::{Op, Plan};

use serde::de::DeserializeOwned;

/// The context of a driver's calls.
pub type Cx<D> = Context<<D as NetworkDriver>::Config>;

/// A network driver: plans what a network needs on a node and what a pod needs on a network.
///
/// The host may call any function again with the same or a changed request; it compares plans by
/// the keys of their steps and carries out the differences. Nothing is to be undone: a scope's steps
/// are removed by the host.
pub trait NetworkDriver: Sized {
    /// `Plugin.spec.config`; [`NoConfig`] for none.
    type Config: DeserializeOwned;
    /// `Network.spec.config`; [`NoConfig`] for none.
    type NetworkConfig: DeserializeOwned;

    /// Who the driver is. Must not ask the host for anything.
    fn manifest() -> Manifest;

    /// The whole desired state of a network on this node.
    ///
    /// # Errors
    /// When the network cannot be brought up here.
    fn node_up(cx: &Cx<Self>, net: &Network, me: &Node, peers: &[Node]) -> Result<Plan>;

    /// The whole desired state of one attachment.
    ///
    /// # Errors
    /// When the pod cannot be attached.
    fn attach(cx: &Cx<Self>, attachment: &Attachment, me: &Node) -> Result<Plan>;

    /// A scope was torn down by the host. For remote clean-up only.
    ///
    /// # Errors
    /// When it has to be told again later.
    fn released(_cx: &Cx<Self>, _scope: &str) -> Result<()> {
        Ok(())
    }

    /// Whether the driver can serve.
    ///
    /// # Errors
    /// When it cannot tell.
    fn probe(_cx: &Cx<Self>) -> Result<Health> {
        Ok(Health {
            ready: true,
            message: String::new(),
        })
    }
}

impl Network {
    /// `Network.spec.config`, checked.
    ///
    /// # Errors
    /// `invalid-argument` naming the network and the field.
    pub fn parse_config<T: DeserializeOwned>(&self) -> Result<T> {
        crate::context::parse_config(&format!("Network {} spec.config", self.name), &self.config)
    }
}

impl<C> Context<C> {
    /// Links of the host by glob. Needs the grant `network.inspect`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn links(&self, glob: &str) -> Result<Vec<LinkInfo>> {
        self.host().links(glob)
    }

    /// The link of the host's default route. Needs the grant `network.inspect`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn default_route_link(&self, family: u8) -> Result<Option<LinkInfo>> {
        self.host().default_route_link(family)
    }
}

/// Makes the crate's component export a [`NetworkDriver`]. Does nothing in native builds.
#[macro_export]
macro_rules! network_driver {
    ($driver:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type DavitExport = $crate::network::Export<$driver>;
    $crate::bindings::base::export!(DavitExport with_types_in $crate::bindings::base);
            $crate::bindings::network::export!(
                DavitExport with_types_in $crate::bindings::network
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::network::checked::<$driver>;
    };
}

/// Stands for the exports in native builds: the type is checked, and counts as used.
#[doc(hidden)]
pub fn checked<D: NetworkDriver>() {}
