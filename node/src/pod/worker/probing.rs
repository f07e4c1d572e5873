//! Keeps the probes of a pod running that should, and takes in what they say.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::super::members;
use super::super::observed::Known;
use super::super::services::Severity;
use super::super::step::Outcome;
use super::Worker;
use crate::probe::{self, Key, Report, Target};

/// The probes that run, each in a task of its own; dropping this ends them.
pub(super) struct Probes {
    tasks: HashMap<Key, AbortHandle>,
    sender: mpsc::UnboundedSender<(Key, Report)>,
}

impl Probes {
    pub(super) fn new(sender: mpsc::UnboundedSender<(Key, Report)>) -> Self {
        Self {
            tasks: HashMap::new(),
            sender,
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Worker {
    /// Starts the probes that should run and do not, and ends those that should not.
    pub(super) fn probe(&mut self) {
        let desired = probe::desired(&self.pod, &self.seen);
        self.probes.tasks.retain(|key, task| {
            let keep = desired.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for key in desired {
            if !self.probes.tasks.contains_key(&key)
                && let Some(task) = self.start_probe(&key)
            {
                self.probes.tasks.insert(key, task);
            }
        }
    }

    fn start_probe(&self, key: &Key) -> Option<AbortHandle> {
        let container = members::member(&self.pod, &key.container)?
            .container
            .into_owned();
        let running = self
            .seen
            .containers
            .get(&key.container)
            .and_then(Known::running)?;
        let declared = probe::of(&container, key.kind)?.clone();
        let services = &self.ground.services;
        let ip = self
            .seen
            .ips
            .first()
            .or_else(|| services.node.ips.first())
            .copied();
        let target = Target {
            ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            on_host: members::spec(&self.pod).host_network == Some(true),
            pod_uid: members::uid(&self.pod).to_owned(),
            id: key.id.clone(),
            container,
            runtime: services.runtime.clone(),
        };
        let known = running.probes.get(&key.kind).copied();
        let (sender, key) = (self.probes.sender.clone(), key.clone());
        let started_at = running.started_at;
        let kind = key.kind;
        let task = tokio::spawn(probe::run(
            target,
            declared,
            kind,
            known,
            started_at,
            move |report| {
                // A worker that has ended needs no reports.
                let _ = sender.send((key.clone(), report));
            },
        ));
        Some(task.abort_handle())
    }

    pub(super) fn probed(&mut self, key: Key, report: Report) {
        match report {
            Report::Changed(passing) => {
                let Key {
                    container,
                    id,
                    kind,
                } = key;
                self.finish(Outcome::Probed {
                    container,
                    id,
                    kind,
                    passing,
                });
            }
            Report::Trouble { message, errored } => {
                let verb = if errored { "errored" } else { "failed" };
                let message = format!("{} probe {verb}: {message}", key.kind.title());
                let services = &self.ground.services;
                services.events.event(
                    &self.pod,
                    Some(&key.container),
                    Severity::Warning,
                    "Unhealthy",
                    message,
                );
            }
        }
    }
}
