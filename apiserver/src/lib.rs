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

pub mod apply;
pub mod patch;
pub mod schema;
pub mod strategy;
