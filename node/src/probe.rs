//! Probes of containers: which ones to run, how verdicts are counted, and the loop that runs one.
//!
//! [`desired`] and [`Tally`] are pure. A running probe tells the pod's worker only when its verdict changes; nothing polls.
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::pod::members::{self, Role};
use crate::pod::observed::{Known, Observed};
use crate::pod::plan::is_ending;
use crate::pod::services::PodRuntime;
use crate::pod::step::ProbeKind;

mod exec;
pub(crate) use exec::printable;
mod grpc;
pub(crate) mod http;
mod tcp;
#[cfg(test)]
mod tests;

/// What one try of a probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It was answered, and not well.
    Fail(String),
    /// It could not be carried out; does not count.
    Error(String),
}

/// One probe of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Name of the container.
    pub container: String,
    /// Id of its present run.
    pub id: String,
    /// Which probe.
    pub kind: ProbeKind,
}

/// The probes that should run now.
///
/// Startup probes run until they have passed and hold the others back. A container that is ending is probed for readiness only.
pub fn desired(pod: &Pod, seen: &Observed) -> Vec<Key> {
    let ending = is_ending(pod, seen);
    let mut keys = Vec::new();
    for member in members::members(pod).filter(|member| member.role != Role::Init) {
        let Some(running) = seen.containers.get(member.name()).and_then(Known::running) else {
            continue;
        };
        if running.post_start != crate::pod::observed::Hook::Done {
            continue;
        }
        let vital = !ending && running.stop.is_none();
        let started = running.is_started(&member);
        let mut add = |kind, wanted: bool| {
            if wanted && of(&member.container, kind).is_some() {
                keys.push(Key {
                    container: member.name().to_owned(),
                    id: running.id.clone(),
                    kind,
                });
            }
        };
        add(ProbeKind::Startup, vital && !started);
        add(ProbeKind::Liveness, vital && started);
        add(ProbeKind::Readiness, started);
    }
    keys
}

/// The declaration of a container's probe.
pub fn of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// Counts tries against the probe's thresholds.
#[derive(Debug, Clone)]
pub struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
    verdict: Option<bool>,
}

impl Tally {
    /// Before the first try: ready and started only count once proven, alive until disproven. `known` is the verdict an
    /// earlier agent came to.
    pub fn new(probe: &Probe, kind: ProbeKind, known: Option<bool>) -> Self {
        let threshold = |value: Option<i32>, default| {
            value
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(default)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            run: 0,
            verdict: known.or(match kind {
                ProbeKind::Startup => None,
                ProbeKind::Liveness => Some(true),
                ProbeKind::Readiness => Some(false),
            }),
        }
    }

    /// Takes in one try; the new verdict if it changed.
    pub fn record(&mut self, passed: bool) -> Option<bool> {
        if self.last == Some(passed) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(passed);
            self.run = 1;
        }
        let threshold = if passed {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < threshold || self.verdict == Some(passed) {
            return None;
        }
        self.verdict = Some(passed);
        self.verdict
    }
}

/// What a probe is aimed at.
#[derive(Clone)]
pub struct Target {
    /// The pod's address; of the node for `hostNetwork`.
    pub ip: IpAddr,
    /// Whether the pod has the node's own network: only then may the host that a probe names be the node itself.
    pub on_host: bool,
    /// The pod's UID.
    pub pod_uid: String,
    /// The container's id.
    pub id: String,
    /// The container, for the names of its ports.
    pub container: Container,
    /// Runs commands for `exec`.
    pub runtime: Arc<dyn PodRuntime>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("ip", &self.ip)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The number of a port given by number or name.
    pub(crate) fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self
                    .container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_deref() == Some(name));
                named
                    .map(|port| port.container_port)
                    .or_else(|| name.parse().ok())
            }
        };
        let number = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number > 0);
        number.ok_or_else(|| match port {
            IntOrString::Int(number) => format!("invalid port number: {number}"),
            IntOrString::String(name) => format!("couldn't find port: {name}"),
        })
    }
}

/// Tries a probe once, within its own timeout.
pub async fn check(target: &Target, probe: &Probe) -> Verdict {
    let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1));
    if let Some(action) = &probe.exec {
        return exec::check(target, action, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return http::check(target, action, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp::check(target, action, timeout).await;
    }
    match &probe.grpc {
        Some(action) => grpc::check(target, action, timeout).await,
        None => Verdict::Error(
            "missing probe handler: give one of exec, httpGet, tcpSocket, grpc".to_owned(),
        ),
    }
}

/// What a running probe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Thresholds were crossed.
    Changed(bool),
    /// One try went wrong, for an Event: the message and whether it was an error of the probe itself.
    Trouble {
        /// What it said.
        message: String,
        /// It could not be carried out.
        errored: bool,
    },
}

/// Runs one probe until its work is done: a startup probe until it has passed, a liveness probe until it has failed,
/// a readiness probe until the future is dropped.
pub async fn run(
    target: Target,
    probe: Probe,
    kind: ProbeKind,
    known: Option<bool>,
    started_at: Timestamp,
    report: impl Fn(Report) + Send,
) {
    let mut tally = Tally::new(&probe, kind, known);
    let period = Duration::from_secs(seconds(probe.period_seconds, 10));
    tokio::time::sleep_until(first_try(&probe, started_at)).await;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let passed = match check(&target, &probe).await {
            Verdict::Pass => true,
            Verdict::Fail(message) => {
                report(Report::Trouble {
                    message,
                    errored: false,
                });
                false
            }
            Verdict::Error(message) => {
                report(Report::Trouble {
                    message,
                    errored: true,
                });
                continue;
            }
        };
        let Some(verdict) = tally.record(passed) else {
            continue;
        };
        report(Report::Changed(verdict));
        let done = match kind {
            ProbeKind::Startup => true,
            ProbeKind::Liveness => !verdict,
            ProbeKind::Readiness => false,
        };
        if done {
            return;
        }
    }
}

/// The first try comes `initialDelaySeconds` after the container's start, at once if that is past.
fn first_try(probe: &Probe, started_at: Timestamp) -> Instant {
    let delay = SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0)));
    let due = started_at.checked_add(delay).unwrap_or(started_at);
    let left = due.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(left).unwrap_or_default()
}

fn seconds(value: Option<i32>, default: u64) -> u64 {
    value
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(default)
}
