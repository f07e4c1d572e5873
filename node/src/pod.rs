//! One pod on this node: what is known of it, what to do next, what its status says, and the worker that does it.
//!
//! The parts follow observe → plan → act: [`observed`] holds what is known, [`plan`](mod@plan) decides from it without
//! any effect, the worker carries the steps out and feeds their outcomes back into [`observed`].

mod act;
pub mod admission;
pub mod backoff;
pub mod config;
pub mod dns;
#[cfg(test)]
pub(crate) mod double;
pub mod files;
mod hooks;
pub mod hosts;
pub mod members;
mod mount_points;
pub mod observed;
pub mod plan;
pub mod record;
pub mod resize;
pub mod resources;
pub mod restart;
pub mod room;
pub mod security;
pub mod services;
pub mod signals;
pub mod step;
mod sysctls;
pub mod worker;

pub use observed::Observed;
pub use plan::plan;
pub use step::{Outcome, Step};
