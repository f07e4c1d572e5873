//! The API server: HTTP, authentication, admission, schema, patches, store.

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

mod addresses;
pub mod admission;
mod aggregation;
mod api_server;
pub mod apply;
pub mod audit;
pub mod auth;
mod bootstrap;
pub mod cache;
mod callout;
mod certificates;
pub mod clock;
mod components;
mod compress;
mod config;
pub mod convert;
mod crd;
mod discovery;
pub mod error;
mod expiry;
mod fairness;
mod handler;
mod health;
mod metrics;
pub mod object;
mod past;
pub mod patch;
mod paths;
mod pending;
pub mod pki;
mod protobuf;
mod reload;
mod request;
pub mod resource;
pub mod schema;
mod sealing;
mod selection;
mod server;
pub mod storage;
pub mod strategy;
pub mod table;

pub use api_server::ApiServer;
pub use config::{Build, Config, Error, Patience, StoreKind};
