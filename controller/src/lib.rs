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
mod ephemeral_volume;
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

use davit_api::named;
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
        let client = named(&client, MANAGER, "leader-election");
        match election::acquire(client, &config.identity, &stop).await {
            Some(lease) => Some(lease),
            None => return Ok(()),
        }
    } else {
        None
    };
    let _running = config.pulse.running();
    let mut tasks = Tasks::new(stop.clone(), config.pulse.clone());
    tasks.of(&[Component::Controllers]);
    let caches = Arc::new(Caches::new(&named(&client, MANAGER, "shared-informers")));
    start_controllers(&client, &caches, &config, &mut tasks);
    tasks.of(&[Component::Scheduler]);
    scheduler::start(
        &named(&client, "kube-scheduler", "scheduler"),
        &caches,
        &mut tasks,
    );
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

/// What the writes of all controllers are those of, as in Kubernetes.
const MANAGER: &str = "kube-controller-manager";

/// Each writes in its own name, which is Kubernetes' where Kubernetes has the controller.
fn start_controllers(client: &Client, caches: &Arc<Caches>, config: &Config, tasks: &mut Tasks) {
    let as_ = |name: &str| named(client, MANAGER, name);
    namespace::start(&as_("namespace-controller"), caches, tasks);
    service_account::start(
        &as_("service-account-controller"),
        caches,
        &config.root_ca,
        tasks,
    );
    replica_set::start(client, caches, tasks);
    deployment::start(&as_("deployment-controller"), caches, tasks);
    endpoint_slice::start(&as_("endpointslice-controller"), caches, tasks);
    endpoints::start(&as_("endpoint-controller"), caches, tasks);
    ephemeral_volume::start(&as_("ephemeral-volume-controller"), caches, tasks);
    volume::start(client, caches, tasks);
    node_lifecycle::start(&as_("node-controller"), caches, tasks);
    pod_garbage::start(&as_("pod-garbage-collector"), caches, tasks);
    resource_quota::start(&as_("resourcequota-controller"), caches, tasks);
    network::start(&as_("network-controller"), caches, tasks);
    garbage::start(&as_("generic-garbage-collector"), tasks);
}
