//! What a component is linked to: what every plugin has, and the granted interfaces. What is not
//! linked does not exist for it.

use super::bindings::davit::{network, plugin, storage};
use crate::imports::CallState;
use davit_api::Interface;
use std::collections::BTreeSet;
use wasmtime::component::{HasSelf, Linker};

pub(super) fn linker(
    engine: &wasmtime::Engine,
    granted: &BTreeSet<Interface>,
) -> wasmtime::Result<Linker<CallState>> {
    type Own = HasSelf<CallState>;
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    plugin::types::add_to_linker::<_, Own>(l, |state| state)?;
    plugin::context::add_to_linker::<_, Own>(l, |state| state)?;
    plugin::log::add_to_linker::<_, Own>(l, |state| state)?;
    network::types::add_to_linker::<_, Own>(l, |state| state)?;
    network::plan::add_to_linker::<_, Own>(l, |state| state)?;
    storage::types::add_to_linker::<_, Own>(l, |state| state)?;
    storage::plan::add_to_linker::<_, Own>(l, |state| state)?;
    for interface in granted {
        match interface {
            Interface::State => plugin::state::add_to_linker::<_, Own>(l, |state| state)?,
            Interface::NetworkIpam => network::ipam::add_to_linker::<_, Own>(l, |state| state)?,
            Interface::NetworkInspect => {
                network::inspect::add_to_linker::<_, Own>(l, |state| state)?;
            }
            Interface::StorageInspect => {
                storage::inspect::add_to_linker::<_, Own>(l, |state| state)?;
            }
        }
    }
    Ok(linker)
}
