//! The WebAssembly plugin host: engine, grants, scopes and typed driver facades.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests fail by panicking"
    )
)]

pub mod capabilities;
mod error;
pub mod executor;
pub mod network;
pub mod plan;
mod plugin_host;
mod registry;
pub mod storage;

pub use error::{CallError, Code};
pub use plugin_host::{PluginHost, PluginHostConfig, StartError};
pub use registry::Registry;
