//! Priority and fairness: every request gets a flow and a priority level by FlowSchema, and a seat or a
//! place in a queue of its level by PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io/v1).
//!
//! Classifying reads a table that a task keeps current, so that a request of an exempt level costs a few
//! comparisons and others one short lock more.

mod bootstrap;
mod seats;
mod status;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod work;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use bootstrap::{objects, plan};
pub(crate) use seats::Permit;
pub(crate) use status::{maintain, settle};

use crate::auth::{Attributes, Kind, ObjectSource, UserInfo};
use crate::error::StatusError;
use seats::{Outcome, Refusal, Seats};
use table::{Flow, Table};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub(crate) const FLOW_SCHEMAS: Kind = Kind {
    group: GROUP,
    plural: "flowschemas",
};
pub(crate) const PRIORITY_LEVELS: Kind = Kind {
    group: GROUP,
    plural: "prioritylevelconfigurations",
};

/// How long a request waits for a seat: a quarter of what it may take in all.
const PATIENCE: Duration = Duration::from_secs(15);

const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Who may be served now, and who waits.
pub(crate) struct Fairness {
    table: ArcSwap<Table>,
    seats: Arc<Seats>,
}

/// What a request was classified as; for its headers.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Class {
    /// Tells the client what its request was classified as.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_HEADER, self.schema);
        headers.insert(LEVEL_HEADER, self.level);
    }
}

impl Fairness {
    /// Serves `total` requests of limited levels at once, shared out by the levels' shares.
    pub(crate) fn new(total: u32, source: &dyn ObjectSource) -> Self {
        let fairness = Self {
            table: ArcSwap::default(),
            seats: Arc::new(Seats::new(total)),
        };
        fairness.refresh(source);
        fairness
    }

    /// Takes over the schemas and levels of now.
    pub(crate) fn refresh(&self, source: &dyn ObjectSource) {
        let table = Table::read(source, &self.table.load());
        self.seats.configure(table.levels());
        self.table.store(Arc::new(table));
    }

    /// Seats for the request, at once or after a while in a queue; `None` in an exempt level. `width` says how many
    /// it needs. What the request was classified as is told in any case.
    ///
    /// # Errors
    /// 429 when there is neither a seat nor a place in the queue, or no seat in time.
    pub(crate) async fn admit(
        &self,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        class: &mut Option<Class>,
        width: impl FnOnce() -> u32,
    ) -> Result<Option<Permit>, StatusError> {
        let Flow {
            schema,
            level,
            hash,
        } = self.table.load().classify(user, attributes);
        *class = Some(Class {
            schema: schema.uid.clone(),
            level: level.uid.clone(),
        });
        if level.exempt {
            schema.count_dispatched();
            return Ok(None);
        }
        let refused = |refusal| {
            schema.count_refused(refusal);
            Err(StatusError::too_many_requests(
                "Too many requests, please try again later.",
                1,
            ))
        };
        let permit = match self.seats.take(&level.name, hash, width()) {
            Outcome::Seated(permit) => permit,
            Outcome::Refused(refusal) => return refused(refusal),
            Outcome::Queued(turn) => match tokio::time::timeout(PATIENCE, turn).await {
                Ok(Ok(permit)) => permit,
                _ => return refused(Refusal::TimedOut),
            },
        };
        schema.count_dispatched();
        Ok(Some(permit))
    }

    /// The metrics of all levels and schemas, under Kubernetes' names.
    pub(crate) fn render(&self, out: &mut String) {
        let table = self.table.load();
        let name = "apiserver_flowcontrol_dispatched_requests_total";
        let _ = writeln!(out, "# TYPE {name} counter");
        for schema in table.schemas() {
            let labels = schema.labels();
            let _ = writeln!(out, "{name}{{{labels}}} {}", schema.dispatched());
        }
        let name = "apiserver_flowcontrol_rejected_requests_total";
        let _ = writeln!(out, "# TYPE {name} counter");
        for schema in table.schemas() {
            for (reason, count) in schema.refused() {
                let labels = schema.labels();
                let _ = writeln!(out, "{name}{{{labels},reason=\"{reason}\"}} {count}");
            }
        }
        for (name, values) in self.seats.gauges() {
            let _ = writeln!(out, "# TYPE {name} gauge");
            for (level, value) in values {
                let _ = writeln!(out, "{name}{{priority_level=\"{level}\"}} {value}");
            }
        }
    }
}

impl std::fmt::Debug for Fairness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fairness").finish_non_exhaustive()
    }
}
