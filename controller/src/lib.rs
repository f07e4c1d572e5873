//! Controllers and the scheduler: each observes caches, plans with a pure function, and acts through a `kube::Client`.
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
#![forbid(unsafe_code)]

mod caches;
mod claim;
mod deployment;
mod election;
mod endpoint_slice;
mod endpoints;
mod error;
mod event;
mod garbage;
mod informer;
mod meta;
mod namespace;
mod network;
mod node_lifecycle;
mod node_selector;
mod pod_garbage;
mod pulse;
mod queue;
mod replica_set;
mod resource_quota;
mod runner;
mod scheduler;
mod service_account;
mod volume;

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use pulse::{Component, Pulse};

use crate::caches::Caches;
use crate::runner::Tasks;

/// What [`run`] needs to know about its surroundings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name under which this process competes for leadership; stable over restarts, so that a
    /// restarted process resumes its own lease at once.
    pub identity: String,
    /// Compete for the Lease `kube-system/davit-controller`. Off only where the store already
    /// admits a single process.
    pub leader_elect: bool,
    /// PEM bundle published as ConfigMap `kube-root-ca.crt` in every namespace.
    pub root_ca: String,
    /// Where [`run`] says how it is.
    pub pulse: Pulse,
}

/// Runs every controller and the scheduler until `shutdown` is cancelled or leadership is lost.
///
/// # Guarantees
/// Every controller is level-triggered and idempotent: it may be stopped at any point, run twice,
/// or resume on another server, and converges to the same state.
///
/// # Errors
/// [`Error::LeadershipLost`] when another process took the lease. Failures of single objects are
/// retried with backoff and never end this function.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let stop = shutdown.child_token();
    config.pulse.waiting();
    let lease = if config.leader_elect {
        match election::acquire(client.clone(), &config.identity, &stop).await {
            Some(lease) => Some(lease),
            None => return Ok(()),
        }
    } else {
        None
    };
    let _running = config.pulse.running();
    let mut tasks = Tasks::new(stop.clone(), config.pulse.clone());
    tasks.of(&[Component::Controllers]);
    let caches = Arc::new(Caches::new(&client));
    namespace::start(&client, &caches, &mut tasks);
    service_account::start(&client, &caches, &config.root_ca, &mut tasks);
    replica_set::start(&client, &caches, &mut tasks);
    deployment::start(&client, &caches, &mut tasks);
    endpoint_slice::start(&client, &caches, &mut tasks);
    endpoints::start(&client, &caches, &mut tasks);
    volume::start(&client, &caches, &mut tasks);
    node_lifecycle::start(&client, &caches, &mut tasks);
    pod_garbage::start(&client, &caches, &mut tasks);
    resource_quota::start(&client, &caches, &mut tasks);
    network::start(&client, &caches, &mut tasks);
    garbage::start(&client, &mut tasks);
    tasks.of(&[Component::Scheduler]);
    scheduler::start(&client, &caches, &mut tasks);
    tasks.of(Component::ALL);
    caches.start(&mut tasks);
    let outcome = match lease {
        Some(lease) => lease.hold(&stop).await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    };
    stop.cancel();
    tasks.join().await;
    outcome
}
