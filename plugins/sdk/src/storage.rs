//! Storage drivers: make volumes and give them to pods.

#[cfg(target_family = "wasm")]
mod export;
mod plan;

pub use crate::bindings::storage::davit::storage::inspect::SpaceInfo;
pub use crate::bindings::storage::davit::storage::plan::{CopyMode, Owner};
pub use crate::bindings::storage::davit::storage::types::{
    AccessMode, CreateRequest, Expanded, NodeInfo, PublishRequest, Source, StageRequest, Topology,
    UseMode, Volume, VolumeMode, VolumeRef, VolumeStats,
};
pub use crate::context::Context;
pub use crate::{Code, Error, ErrorExt, Health, Manifest, NoConfig, Result};
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use export::Export;
pub use plan::{Op, Plan};

use serde::de::DeserializeOwned;

/// The context of a driver's calls.
pub type Cx<D> = Context<<D as StorageDriver>::Config>;

/// A storage driver: plans what a volume needs, and how a pod gets it.
///
/// Functions may be called again with the same request; the host compares plans by the keys of
/// their steps. Nothing is to be undone: a scope's steps are removed by the host.
pub trait StorageDriver: Sized {
    /// `Plugin.spec.config`; [`NoConfig`] for none.
    type Config: DeserializeOwned;

    /// Who the driver is. Must not ask the host for anything.
    fn manifest() -> Manifest;

    /// Makes a volume; `request.name` stays the same over retries.
    ///
    /// # Errors
    /// When such a volume cannot be made here.
    fn create(cx: &Cx<Self>, request: &CreateRequest) -> Result<(Volume, Plan)>;

    /// The remote part of deleting a volume; the host removes what the plan made.
    ///
    /// # Errors
    /// When it has to be tried again.
    fn delete(_cx: &Cx<Self>, _volume: &VolumeRef) -> Result<()> {
        Ok(())
    }

    /// Grows a volume: the new size and the whole plan of the volume at that size.
    ///
    /// # Errors
    /// `unimplemented` unless the driver can.
    fn expand(
        _cx: &Cx<Self>,
        volume: &VolumeRef,
        _required_bytes: u64,
        _limit_bytes: Option<u64>,
        _used_as: &UseMode,
    ) -> Result<(Expanded, Plan)> {
        Err(Error::unimplemented(format!(
            "volume {}: the driver cannot grow volumes",
            volume.id
        )))
    }

    /// Bytes that new volumes can have.
    ///
    /// # Errors
    /// When it cannot tell.
    fn capacity(
        cx: &Cx<Self>,
        parameters: &[(String, String)],
        segment: &[(String, String)],
    ) -> Result<u64>;

    /// What the driver says about this node.
    ///
    /// # Errors
    /// When it cannot tell.
    fn node_info(cx: &Cx<Self>) -> Result<NodeInfo> {
        let node_id = cx.node_name();
        let topology = vec![("kubernetes.io/hostname".to_owned(), node_id.clone())];
        Ok(NodeInfo {
            node_id,
            max_volumes: 0,
            topology,
        })
    }

    /// Makes a volume usable on this node, once for all its pods.
    ///
    /// # Errors
    /// When it cannot be.
    fn stage(_cx: &Cx<Self>, _request: &StageRequest) -> Result<Plan> {
        Ok(Plan::new())
    }

    /// Gives a staged volume to one pod; the plan ends with what is exposed.
    ///
    /// # Errors
    /// When it cannot be.
    fn publish(cx: &Cx<Self>, request: &PublishRequest) -> Result<Plan>;

    /// How full a volume is; `None` lets the host ask the file system.
    ///
    /// # Errors
    /// When it cannot tell.
    fn stats(_cx: &Cx<Self>, _volume: &VolumeRef) -> Result<Option<VolumeStats>> {
        Ok(None)
    }

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

impl<C> Context<C> {
    /// Names of the granted roots. Needs the grant `storage.inspect`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn roots(&self) -> Result<Vec<String>> {
        self.host().roots()
    }

    /// Space beneath a root. Needs the grant `storage.inspect`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn space(&self, root: &str) -> Result<SpaceInfo> {
        self.host().space(root)
    }
}

/// Makes the crate's component export a [`StorageDriver`]. Does nothing in native builds.
#[macro_export]
macro_rules! storage_driver {
    ($driver:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type DavitExport = $crate::storage::Export<$driver>;
    $crate::bindings::base::export!(DavitExport with_types_in $crate::bindings::base);
            $crate::bindings::storage::export!(
                DavitExport with_types_in $crate::bindings::storage
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::storage::checked::<$driver>;
    };
}

/// Stands for the exports in native builds: the type is checked, and counts as used.
#[doc(hidden)]
pub fn checked<D: StorageDriver>() {}
