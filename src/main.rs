//! The davit binary: a Kubernetes-style declarative reconciler in one process.
//!
//! `main` is a list of phases: become a shim or a container's first process if that is what this
//! invocation is for; read the command line; start the runtime; run the command; report.

#![forbid(unsafe_code)]

mod access;
mod agent;
mod catalog;
mod cli;
mod connect;
mod defaults;
mod document;
mod fault;
mod images;
mod listen;
mod lock;
mod logging;
mod manifest;
mod moment;
mod output;
mod parts;
mod progress;
mod reexec;
mod sanitize;
mod server;
mod shutdown;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::fault::Fault;

/// Requests build and drop trees of small values; this allocator does that in half the time of the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The shim clones containers, so it must run before there is a second thread.
    if let Some(code) = reexec::dispatch() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    logging::start(&cli.logging());
    // Before anything listens: bounds on connections are shares of it.
    if let Err(error) = davit_listen::descriptors::raise() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // A second call only says that a provider is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failure = ExitCode::from(cli.failure());
    match run(cli) {
        Ok(()) | Err(Fault::ClosedPipe) => ExitCode::SUCCESS,
        Err(Fault::Differs) => ExitCode::FAILURE,
        Err(fault) => {
            output::complain(&fault);
            failure
        }
    }
}

fn run(cli: Cli) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new("starting", error, "free memory or raise the process limit"))?;
    let result = runtime.block_on(cli.run());
    // Whatever still blocks has no effect that anybody waits for.
    runtime.shutdown_background();
    result
}
