//! The host as seen from a driver: imports in WebAssembly, a fake natively.
//!
//! Every function here is called from one place, so that a driver that does not use it does not
//! import it either, and needs no grant for it.

#[cfg(not(target_family = "wasm"))]
pub(crate) mod fake;
#[cfg(target_family = "wasm")]
pub(crate) mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use fake::Host;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::Host;

pub use crate::bindings::base::davit::plugin::state::Area;
