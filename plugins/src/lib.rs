//! The WebAssembly plugin host: engine, grants, scopes and typed driver facades.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::too_many_lines,
        clippy::type_complexity,
        reason = "tests fail by panicking and hold long tables"
    )
)]

mod breaker;
mod bundled;
pub mod capabilities;
mod engine;
mod error;
pub mod executor;
mod grants;
mod imports;
pub mod network;
pub mod plan;
mod plugin_host;
mod registry;
mod scope;
pub mod storage;
pub mod testing;

pub use bundled::{bundled_plugins, samples};
pub use engine::{Engine, EngineConfig, EngineError, LoadError, compile_main};
pub use error::{CallError, Code};
pub use grants::{Denied, GrantSet, InvalidGrant};
pub use plugin_host::{PluginHost, PluginHostConfig, StartError, status_of_unreadable};
pub use registry::{DriverInfo, Registry};
