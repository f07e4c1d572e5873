//! The two actuators behind plans of either kind, with step numbers turned into step names.

use crate::capabilities::{ActError, NetworkActuator, ScopeContext, StepError, StorageActuator};
use crate::error::CallError;
use crate::plan::{Claim, NetworkPlan, Op, StoragePlan};
use crate::scope::{Record, ScopePlan};
use std::sync::Arc;

/// What carries plans out.
pub(super) struct Hands {
    pub(super) network: Arc<dyn NetworkActuator>,
    pub(super) storage: Arc<dyn StorageActuator>,
}

/// A step that failed, by name.
#[derive(Clone, Debug)]
pub(super) struct StepFailure {
    pub(super) step: String,
    pub(super) error: ActError,
}

impl StepFailure {
    fn of<O: Op>(ops: &[O], failure: StepError) -> Self {
        let step = ops.get(failure.index).map_or_else(String::new, Op::key);
        Self {
            step,
            error: failure.error,
        }
    }
}

impl From<StepFailure> for CallError {
    fn from(failure: StepFailure) -> Self {
        Self::from(failure.error).within(&failure.step)
    }
}

impl Hands {
    pub(super) async fn ensure(
        &self,
        cx: &ScopeContext,
        plan: &ScopePlan,
    ) -> Result<(), StepFailure> {
        match plan {
            ScopePlan::Network(NetworkPlan { ops }) => {
                let outcome = self.network.ensure(cx, ops).await;
                outcome.map_err(|failure| StepFailure::of(ops, failure))
            }
            ScopePlan::Storage(StoragePlan { ops }) => {
                let outcome = self.storage.ensure(cx, ops).await;
                outcome.map_err(|failure| StepFailure::of(ops, failure))
            }
        }
    }

    pub(super) async fn undo(&self, cx: &ScopeContext, plan: &ScopePlan) -> Vec<StepFailure> {
        match plan {
            ScopePlan::Network(NetworkPlan { ops }) if !ops.is_empty() => {
                let failures = self.network.undo(cx, ops).await.into_iter();
                failures
                    .map(|failure| StepFailure::of(ops, failure))
                    .collect()
            }
            ScopePlan::Storage(StoragePlan { ops }) if !ops.is_empty() => {
                let failures = self.storage.undo(cx, ops).await.into_iter();
                failures
                    .map(|failure| StepFailure::of(ops, failure))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is missing or different, a line each.
    pub(super) async fn read_back(
        &self,
        cx: &ScopeContext,
        plan: &ScopePlan,
    ) -> Result<Vec<String>, ActError> {
        let (keys, drifts) = match plan {
            ScopePlan::Network(NetworkPlan { ops }) => {
                (plan.keys(), self.network.read_back(cx, ops).await?)
            }
            ScopePlan::Storage(StoragePlan { ops }) => {
                (plan.keys(), self.storage.read_back(cx, ops).await?)
            }
        };
        let line = |drift: crate::capabilities::Drift| {
            let step = keys.get(drift.index).map_or("", String::as_str);
            format!("{step}: {}", drift.what)
        };
        Ok(drifts.into_iter().map(line).collect())
    }
}

impl ScopePlan {
    /// The steps of this plan that must be undone before `next` is made: those it has not, and those
    /// that take something else there.
    pub(super) fn obsolete(&self, next: &Self, record: &Record) -> Self {
        match (self, next) {
            (Self::Network(old), Self::Network(new)) => Self::Network(NetworkPlan {
                ops: obsolete(&old.ops, &new.ops, record),
            }),
            (Self::Storage(old), Self::Storage(new)) => Self::Storage(StoragePlan {
                ops: obsolete(&old.ops, &new.ops, record),
            }),
            _ => self.clone(),
        }
    }

    /// The plan without the steps that another scope needs as well.
    pub(super) fn without(&self, needed: impl Fn(&[Claim]) -> bool, record: &Record) -> Self {
        let keep = |claims: Vec<Claim>| !needed(&claims);
        match self {
            Self::Network(plan) => {
                let own = plan.ops.iter().filter(|op| keep(op.claims(&record.scope)));
                Self::Network(NetworkPlan {
                    ops: own.cloned().collect(),
                })
            }
            Self::Storage(plan) => {
                let own = plan.ops.iter().filter(|op| keep(op.claims(&record.scope)));
                Self::Storage(StoragePlan {
                    ops: own.cloned().collect(),
                })
            }
        }
    }
}

fn obsolete<O: Op>(old: &[O], new: &[O], record: &Record) -> Vec<O> {
    use crate::plan::{Change, diff};
    let mut gone = diff(old, new)
        .into_iter()
        .filter_map(|change| match change {
            Change::Remove(op) => Some(op),
            Change::Replace { old, new }
                if old.claims(&record.scope) != new.claims(&record.scope) =>
            {
                Some(old)
            }
            Change::Replace { .. } | Change::Add(_) => None,
        });
    let mut ops: Vec<O> = gone.by_ref().collect();
    // `undo` goes from the last to the first, so the order is that of the old plan.
    ops.sort_by_key(|op| old.iter().position(|other| other == op));
    ops
}
