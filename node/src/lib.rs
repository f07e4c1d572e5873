//! The node agent: images, containers, networks, volumes, probes and logs.
//!
//! [`Agent`] joins the parts of a node: it watches the pods bound to it and runs one worker a pod
//! ([`pod`]), which observes, plans ([`pod::plan`]) and acts until the pod is as it was declared.
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

pub mod agent;
mod beneath;
mod cgroup;
mod dns;
pub mod downward;
pub mod env;
pub mod host;
pub mod image;
pub mod inputs;
mod kernel;
pub mod logs;
pub mod network;
pub mod pod;
pub mod probe;
mod proxy;
pub mod runtime;
mod seccomp;
mod server;
pub mod shim;
pub mod status;
pub mod storage;
pub mod volume;

pub use agent::{Agent, AgentConfig, ServingIdentity, TeardownReport, teardown};
