//! Making plans so: journal, act, read back; and back to the former state when a step fails.

use super::Host;
use super::hands::StepFailure;
use crate::error::{CallError, Code};
use crate::executor::Phase;
use crate::scope::{CommitError, Record, ScopePlan, Session, Txn};
use std::sync::Arc;

/// A planned scope that nothing was done for yet.
pub(super) struct Prepared {
    pub(super) record: Record,
    /// The record it replaces.
    pub(super) before: Option<Arc<Record>>,
    /// Holds the reserved addresses until the record does.
    pub(super) session: Session,
}

impl Host {
    /// Journals the plans and makes them so: all of them, or none.
    ///
    /// `aborted` means that the driver read values which changed meanwhile: plan again.
    pub(super) async fn carry_out(&self, mut prepared: Vec<Prepared>) -> Result<(), CallError> {
        self.check(&mut prepared).await?;
        let mut txn = Txn::default();
        for item in &prepared {
            item.session.add_to(&mut txn);
            txn.puts.push(pending(item));
        }
        self.store.commit(txn).await?;
        let plans: Vec<(Record, Option<Arc<Record>>)> = prepared
            .into_iter()
            .map(|item| (item.record, item.before))
            .collect();
        for (done, (record, before)) in plans.iter().enumerate() {
            if let Err(error) = self.make(record, before.as_deref()).await {
                self.back(plans.get(..=done).unwrap_or(&plans), &error)
                    .await;
                self.forget_untouched(plans.get(done + 1..).unwrap_or_default())
                    .await;
                return Err(error);
            }
        }
        let applied = |record: &Record| Record {
            phase: Phase::Applied,
            ..record.clone()
        };
        let puts = plans.iter().map(|(record, _)| applied(record)).collect();
        self.store
            .commit(Txn {
                puts,
                ..Txn::default()
            })
            .await?;
        for (record, _) in &plans {
            self.settled(&record.scope);
        }
        Ok(())
    }

    /// Brings one plan in force and looks whether it is.
    async fn make(&self, record: &Record, before: Option<&Record>) -> Result<(), CallError> {
        let cx = record.context();
        if let Some(before) = before {
            let obsolete = before.plan.obsolete(&record.plan, record);
            let obsolete = self.unshared(&obsolete, record);
            if let Some(failure) = self.hands.undo(&cx, &obsolete).await.into_iter().next() {
                return Err(failure.into());
            }
        }
        self.hands.ensure(&cx, &record.plan).await?;
        let drift = self.hands.read_back(&cx, &record.plan).await?;
        match drift.first() {
            None => Ok(()),
            Some(line) => {
                let message = format!("{line}, although it was made a moment ago");
                Err(CallError::new(Code::Unavailable, message))
            }
        }
    }

    /// Undoes plans that were begun, last first, and puts what was in force before back.
    async fn back(&self, plans: &[(Record, Option<Arc<Record>>)], cause: &CallError) {
        for (record, before) in plans.iter().rev() {
            let failures = match before {
                None => self.undo_all(record).await,
                Some(before) => self.restore(record, before).await,
            };
            let txn = match (failures.first(), before) {
                (None, None) => Txn {
                    removes: vec![record.scope.clone()],
                    ..Txn::default()
                },
                (None, Some(before)) => Txn {
                    puts: vec![Record::clone(before)],
                    ..Txn::default()
                },
                (Some(failure), _) => {
                    let why = format!(
                        "{cause}; undoing {} failed as well: {}",
                        failure.step, failure.error
                    );
                    let stuck = Record {
                        phase: Phase::Stuck,
                        error: Some(why),
                        previous: before.as_ref().map(|before| before.plan.clone()),
                        ..record.clone()
                    };
                    Txn {
                        puts: vec![stuck],
                        ..Txn::default()
                    }
                }
            };
            if let Err(error) = self.store.commit(txn).await {
                // The record stays Pending; a restart finishes or undoes it.
                tracing::error!(scope = %record.scope, %error, "cannot record that a plan was undone");
            }
        }
    }

    /// Drops records of plans that were journalled together with a failed one but never begun.
    async fn forget_untouched(&self, plans: &[(Record, Option<Arc<Record>>)]) {
        let mut txn = Txn::default();
        for (record, before) in plans {
            match before {
                Some(before) => txn.puts.push(Record::clone(before)),
                None => txn.removes.push(record.scope.clone()),
            }
        }
        if let Err(error) = self.store.commit(txn).await {
            tracing::error!(%error, "cannot forget plans that were not begun");
        }
    }

    /// Undoes everything that a record may have in force, but for what other scopes share.
    pub(super) async fn undo_all(&self, record: &Record) -> Vec<StepFailure> {
        let cx = record.context();
        let mut failures = self
            .hands
            .undo(&cx, &self.unshared(&record.plan, record))
            .await;
        if let Some(previous) = &record.previous {
            let rest = previous.obsolete(&record.plan, record);
            failures.extend(self.hands.undo(&cx, &self.unshared(&rest, record)).await);
        }
        failures
    }

    async fn restore(&self, record: &Record, before: &Record) -> Vec<StepFailure> {
        let cx = record.context();
        let added = record.plan.obsolete(&before.plan, record);
        let mut failures = self.hands.undo(&cx, &self.unshared(&added, record)).await;
        failures.extend(
            self.hands
                .ensure(&before.context(), &before.plan)
                .await
                .err(),
        );
        failures
    }

    pub(super) fn unshared(&self, plan: &ScopePlan, record: &Record) -> ScopePlan {
        plan.without(|claims| self.store.shared(&record.scope, claims), record)
    }

    /// Looks whether a recorded plan is in force, and makes it so where it is not. Returns what was
    /// mended.
    pub(super) async fn confirm(&self, record: &Record) -> Result<Vec<String>, CallError> {
        let cx = record.context();
        let drift = self.hands.read_back(&cx, &record.plan).await?;
        if drift.is_empty() {
            return Ok(drift);
        }
        self.hands.ensure(&cx, &record.plan).await?;
        let left = self.hands.read_back(&cx, &record.plan).await?;
        match left.into_iter().next() {
            None => Ok(drift),
            Some(line) => {
                let message = format!("{line}, although it was mended a moment ago");
                Err(CallError::new(Code::Unavailable, message))
            }
        }
    }

    /// Puts a half-done scope back to the plan that was in force before.
    pub(super) async fn go_back(&self, record: &Record) -> Result<Arc<Record>, CallError> {
        let previous = record
            .previous
            .clone()
            .unwrap_or_else(|| record.plan.clone());
        let before = Record {
            phase: Phase::Applied,
            error: None,
            // The request it was planned for is not known any more: the next one plans again.
            request: String::new(),
            plan: previous,
            previous: None,
            ..record.clone()
        };
        if let Some(failure) = self.restore(record, &before).await.into_iter().next() {
            return Err(failure.into());
        }
        self.store
            .commit(Txn {
                puts: vec![before.clone()],
                ..Txn::default()
            })
            .await?;
        Ok(Arc::new(before))
    }

    /// Drops a record that holds nothing any more.
    pub(super) async fn forget(&self, record: &Record) -> Result<(), CallError> {
        let removes = vec![record.scope.clone()];
        self.store
            .commit(Txn {
                removes,
                ..Txn::default()
            })
            .await?;
        self.settled(&record.scope);
        Ok(())
    }
}

/// The record to be journalled before acting: it holds the addresses of the old plan too, until
/// that is no longer in force.
fn pending(item: &Prepared) -> Record {
    let mut record = Record {
        phase: Phase::Pending,
        ..item.record.clone()
    };
    if let Some(before) = &item.before {
        record.previous = Some(before.plan.clone());
        let held = |address| {
            item.record
                .leases
                .iter()
                .any(|lease| lease.address == address)
        };
        let old = before.leases.iter().filter(|lease| !held(lease.address));
        record.leases.extend(old.cloned());
    }
    record
}

impl From<CommitError> for CallError {
    fn from(error: CommitError) -> Self {
        let code = match &error {
            CommitError::Claimed { .. } => Code::AlreadyExists,
            CommitError::Twice { .. } => Code::InvalidArgument,
            CommitError::Stale { .. } => Code::Aborted,
            CommitError::Io(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
