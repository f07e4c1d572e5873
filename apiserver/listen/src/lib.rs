//! Listening without being exhausted: one accept loop for every listener of davit, bounds on connections in all and from
//! one source, and the limit of descriptors that the bounds are shares of.
//!
//! [`Acceptor::next`] hands out connections and never fails: what goes wrong is waited out, and said once.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests fail by panicking"
    )
)]
#![forbid(unsafe_code)]

mod accept;
mod bounds;
mod complaint;
mod connection;
pub mod descriptors;
mod seats;
#[cfg(test)]
mod tests;

pub use accept::{Accepted, Acceptor, Listen};
pub use bounds::Bounds;
pub use connection::Connection;
pub use seats::Source;
