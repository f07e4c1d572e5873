//! The bundled drivers and misbehaving ones, loaded as WebAssembly, on a machine in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "drivers/contract_network.rs"]
mod contract_network;
#[path = "drivers/contract_storage.rs"]
mod contract_storage;
#[path = "drivers/crashes.rs"]
mod crashes;
#[path = "drivers/hostile.rs"]
mod hostile;
#[path = "drivers/misbehaving.rs"]
mod misbehaving;
#[path = "drivers/objects.rs"]
mod objects;
#[path = "drivers/world.rs"]
mod world;
