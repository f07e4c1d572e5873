//! The API server: HTTP, authentication, admission, schema, patches, store.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests fail by panicking"
    )
)]

pub mod admission;
pub mod apply;
pub mod auth;
pub mod patch;
pub mod pki;
pub mod schema;
pub mod storage;
pub mod strategy;
