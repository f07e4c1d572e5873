//! The audit log (audit.k8s.io/v1): who asked for what and what came of it, as a policy file says.
//!
//! The request only gathers; a thread of its own makes the lines and writes them. When that thread is
//! behind, requests wait for it, so no event is lost. Without a policy file nothing of this happens.

mod file;
mod line;
mod policy;
#[cfg(test)]
mod tests;
mod trail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use tokio::sync::mpsc;

use crate::auth::{Attributes, UserInfo};
use file::LogFile;
use line::Record;
use policy::Policy;
pub(crate) use trail::{RemoteAddress, Trail};

/// Events that may wait to be written.
const WAITING: usize = 4096;

/// Where the policy is and where its events go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The policy file (audit.k8s.io/v1 Policy, YAML or JSON).
    pub policy: PathBuf,
    /// The log: one event a line. `-` is standard output.
    pub log: PathBuf,
    /// The log is put aside when it has so many bytes.
    pub max_bytes: u64,
    /// Logs put aside that are kept; 0 keeps all.
    pub max_files: usize,
    /// How long they are kept; zero is for ever.
    pub max_age: Duration,
}

impl Settings {
    /// The usual sizes: 100 MiB a file, ten files.
    pub fn new(policy: PathBuf, log: PathBuf) -> Self {
        Self {
            policy,
            log,
            max_bytes: 100 << 20,
            max_files: 10,
            max_age: Duration::ZERO,
        }
    }
}

/// Why there can be no audit log. None of these goes away by trying again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy file cannot be read.
    #[error("cannot read the audit policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The policy file says nothing that can be followed.
    #[error("the audit policy {} is not valid: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log cannot be written.
    #[error("cannot write the audit log {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Decides what is logged, and passes it on.
#[derive(Debug)]
pub(crate) struct Auditor {
    policy: Policy,
    records: mpsc::Sender<Record>,
}

impl Auditor {
    /// Reads the policy and starts the thread that writes.
    pub(crate) fn open(settings: &Settings) -> Result<Arc<Self>, Error> {
        let policy = Policy::load(&settings.policy)?;
        let file = LogFile::open(settings)?;
        let (records, waiting) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(file, waiting))
            .map_err(|source| Error::Write {
                path: settings.log.clone(),
                source,
            })?;
        Ok(Arc::new(Self { policy, records }))
    }

    /// Whether the thread that writes is there.
    pub(crate) fn is_writing(&self) -> bool {
        !self.records.is_closed()
    }

    /// The trail of a request that is to be logged.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        parts: &Parts,
        user: &Arc<UserInfo>,
        attributes: &Attributes<'_>,
    ) -> Option<Trail> {
        let rule = self.policy.choose(user, attributes)?;
        let trail = Trail::new(self.clone(), rule, parts, user.clone(), attributes);
        trail.received().await;
        Some(trail)
    }

    /// Logs a request whose credentials were not accepted.
    pub(crate) async fn refused(self: &Arc<Self>, parts: &Parts, attributes: &Attributes<'_>) {
        let nobody = Arc::new(UserInfo::default());
        if let Some(rule) = self.policy.choose(&nobody, attributes) {
            let trail = Trail::new(self.clone(), rule, parts, nobody, attributes);
            trail.unauthenticated(parts).await;
        }
    }
}

fn write(mut file: LogFile, mut waiting: mpsc::Receiver<Record>) {
    while let Some(record) = waiting.blocking_recv() {
        if let Err(error) = file.append(&record.into_line()) {
            tracing::error!(%error, "an audit event could not be written");
        }
        // Events that came together are flushed together.
        if waiting.is_empty()
            && let Err(error) = file.flush()
        {
            tracing::error!(%error, "audit events could not be written");
        }
    }
}
