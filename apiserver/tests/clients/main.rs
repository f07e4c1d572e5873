//! Stock clients against a server over TLS: kubectl of three ages, helm, Python's client, kube-rs, and bare
//! requests. Every test runs against a server of its own inside this process, or against the cluster of
//! `DAVIT_TEST_KUBECONFIG`, whatever serves it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test drives real clients and fails by panicking"
)]

mod attacks;
mod cluster;
mod helm;
mod kube_rs;
mod kubectl;
mod lifecycle;
mod programs;
mod protocol;
mod python;
mod samples;
mod surface;
