//! Health: which parts of the server have come up and still run, under kube-apiserver's names for them.
//!
//! `/livez`, `/readyz` and `/healthz` list the same checks, `/readyz` a few more. Everything that a check says is
//! looked up when it is asked for; nothing is polled in between.

mod log;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::body::Body;
use http::Response;

use crate::ApiServer;
use crate::error::StatusError;
use report::{Asked, Check, Outcome};

/// A part of the server that is made once at the start, or runs until the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The watch cache follows the store.
    Cache,
    /// The admission chain is put together.
    Admission,
    /// Custom resources are served and cleaned up.
    Definitions,
    /// The objects of every cluster exist.
    Objects,
    /// Ranges, addresses and ports of Services are followed.
    Addresses,
    /// Flow schemas and priority levels are followed.
    Fairness,
    /// Every group served here has its APIService.
    Registration,
    /// API services are checked and listed.
    Aggregation,
    /// Certificates are renewed.
    Certificates,
}

impl Part {
    const COUNT: usize = Self::Certificates as usize + 1;
}

/// States of a part; it starts with none of them.
const UP: u8 = 1;
const ENDED: u8 = 2;

/// What has been heard of each part.
#[derive(Debug, Default)]
pub(crate) struct Health([AtomicU8; Part::COUNT]);

impl Health {
    /// The part is made, or has done its first round.
    pub(crate) fn up(&self, part: Part) {
        self.set(part, UP);
    }

    /// Runs a part that is not supposed to end before the server; when it does, its checks fail.
    pub(crate) fn run(
        self: &Arc<Self>,
        part: Part,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let running = Running(self.clone(), part);
        self.up(part);
        tokio::spawn(async move {
            let _running = running;
            task.await;
        });
    }

    /// Whether everything has come up and runs.
    pub(crate) fn all_up(&self) -> bool {
        self.0.iter().all(|part| part.load(Ordering::Acquire) == UP)
    }

    /// Whether a part has come up and runs.
    pub(crate) fn is_up(&self, part: Part) -> bool {
        self.of(part).is_ok()
    }

    fn set(&self, part: Part, state: u8) {
        if let Some(have) = self.0.get(part as usize) {
            have.store(state, Ordering::Release);
        }
    }

    fn of(&self, part: Part) -> Outcome {
        let state = self.0.get(part as usize);
        match state.map(|state| state.load(Ordering::Acquire)) {
            Some(UP) => Ok(()),
            Some(ENDED) => Err("it ended before the server".to_owned()),
            _ => Err("not finished".to_owned()),
        }
    }
}

/// Says that a task ended, however it did.
struct Running(Arc<Health>, Part);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.1, ENDED);
    }
}

/// Kubernetes' names of what happens after the start, each with the part of this server that does it. Two of them
/// have an older name as well.
const HOOKS: [(&str, Part); 26] = [
    ("start-apiserver-admission-initializer", Part::Admission),
    (
        "start-kube-apiserver-admission-initializer",
        Part::Admission,
    ),
    ("generic-apiserver-start-informers", Part::Cache),
    ("priority-and-fairness-config-consumer", Part::Fairness),
    ("priority-and-fairness-filter", Part::Fairness),
    ("start-apiextensions-informers", Part::Cache),
    ("start-apiextensions-controllers", Part::Definitions),
    ("crd-informer-synced", Part::Definitions),
    ("start-system-namespaces-controller", Part::Objects),
    ("bootstrap-controller", Part::Objects),
    ("start-kubernetes-service-cidr-controller", Part::Addresses),
    ("start-service-ip-repair-controllers", Part::Addresses),
    ("rbac/bootstrap-roles", Part::Objects),
    (
        "scheduling/bootstrap-system-priority-classes",
        Part::Objects,
    ),
    ("priority-and-fairness-config-producer", Part::Objects),
    (
        "start-cluster-authentication-info-controller",
        Part::Objects,
    ),
    ("aggregator-reload-proxy-client-cert", Part::Certificates),
    ("start-kube-aggregator-informers", Part::Cache),
    ("apiservice-registration-controller", Part::Aggregation),
    (
        "apiservice-status-local-available-controller",
        Part::Aggregation,
    ),
    (
        "apiservice-status-remote-available-controller",
        Part::Aggregation,
    ),
    ("apiservice-status-available-controller", Part::Aggregation),
    ("apiservice-discovery-controller", Part::Aggregation),
    ("kube-apiserver-autoregistration", Part::Aggregation),
    ("apiservice-openapi-controller", Part::Aggregation),
    ("apiservice-openapiv3-controller", Part::Aggregation),
];

/// The paths of all checks.
pub(crate) fn paths() -> Vec<String> {
    let common = ["ping", "log", "etcd", "autoregister-completion"].map(str::to_owned);
    let hooks = HOOKS
        .iter()
        .map(|(name, _)| format!("poststarthook/{name}"));
    let common: Vec<String> = common.into_iter().chain(hooks).collect();
    let ready = ["etcd-readiness", "clock", "informer-sync", "shutdown"];
    let mut paths: Vec<String> = ready.map(|name| format!("/readyz/{name}")).into();
    for endpoint in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{endpoint}"));
        paths.extend(common.iter().map(|name| format!("/{endpoint}/{name}")));
    }
    paths
}

impl ApiServer {
    /// Answers `/livez`, `/readyz` and `/healthz`, and each check by itself below them.
    pub(crate) async fn health(
        &self,
        path: &str,
        query: &str,
    ) -> Result<Response<Body>, StatusError> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let endpoint = parts.next().unwrap_or_default();
        let only = parts.next();
        let checks = self.checks(endpoint == "readyz").await;
        match only {
            None => Ok(report::all(endpoint, &checks, &Asked::read(query))),
            Some(name) => report::one(&checks, name).ok_or_else(StatusError::no_such_path),
        }
    }

    async fn checks(&self, ready: bool) -> Vec<Check> {
        let check = |name: &str, outcome| Check {
            name: name.to_owned(),
            outcome,
        };
        let mut checks = vec![
            // Whoever reads this was answered.
            check("ping", Ok(())),
            check("log", self.log_is_written().await),
            check("etcd", self.store_is_writable()),
        ];
        if ready {
            checks.push(check("etcd-readiness", self.store_is_writable()));
            let clock = self.clock().wrong();
            checks.push(check(
                "clock",
                clock.map_or(Ok(()), |wrong| Err(wrong.to_string())),
            ));
            checks.push(check("informer-sync", self.cache_is_current()));
        }
        let hooks = HOOKS.iter().map(|(name, part)| Check {
            name: format!("poststarthook/{name}"),
            outcome: self.health.of(*part),
        });
        checks.extend(hooks);
        let registered = self.health.of(Part::Registration);
        checks.push(check("autoregister-completion", registered));
        if ready {
            let stopping = self.shutdown.is_cancelled();
            let outcome = if stopping {
                Err("process is shutting down".to_owned())
            } else {
                Ok(())
            };
            checks.push(check("shutdown", outcome));
        }
        checks
    }

    async fn log_is_written(&self) -> Outcome {
        let audited = self.auditor.as_ref();
        if audited.is_some_and(|auditor| !auditor.is_writing()) {
            return Err("the audit log is not written any more".to_owned());
        }
        log::is_written().await
    }

    fn store_is_writable(&self) -> Outcome {
        match self.store.status().write_fault {
            Some(fault) => Err(fault.to_string()),
            None => Ok(()),
        }
    }

    fn cache_is_current(&self) -> Outcome {
        let acknowledged = self.store.revision();
        self.cache.catch_up();
        let seen = self.cache.revision();
        if seen >= acknowledged {
            Ok(())
        } else {
            Err(format!("the cache is at {seen} of {acknowledged}"))
        }
    }
}
