//! After a start: half-done scopes are finished, drift is mended, strangers are removed.

use super::locks::Lock;
use super::{Host, Phase, ReplayReport};
use crate::error::CallError;
use crate::plan::ScopeId;
use crate::scope::{Record, Txn};
use std::sync::Arc;

impl Host {
    /// Finishes what an earlier process left half done, re-applies what drifted, and removes marked
    /// things that no scope knows. Needs no plugin.
    pub async fn replay(&self) -> ReplayReport {
        let mut report = ReplayReport::default();
        let mut records = self.store.list("");
        records.sort_by_key(|record| order(record.scope.kind()));
        let mut busy = Vec::new();
        for record in records {
            // Somebody at work on a scope must not be disturbed, nor hold up what others need.
            match self.locks.try_of(&record.scope) {
                Some(lock) => self.replay_scope(&record.scope, lock, &mut report).await,
                None => busy.push(record.scope.clone()),
            }
        }
        for scope in busy {
            let lock = self.locks.of(&scope).await;
            self.replay_scope(&scope, lock, &mut report).await;
        }
        report.collected = self.collect().await;
        report
    }

    /// One scope as it is recorded now: what it was when the round began may be gone by the time it has its turn, and
    /// would come back.
    async fn replay_scope(&self, scope: &ScopeId, lock: Lock, report: &mut ReplayReport) {
        let _held = lock;
        let Some(record) = self.store.get(scope) else {
            return;
        };
        let scope = scope.clone();
        match self.replay_one(&record).await {
            Ok(Replayed::Unchanged) => {}
            Ok(Replayed::Finished) => report.finished.push(scope),
            Ok(Replayed::Mended(what)) => report.mended.push((scope, what)),
            Err(error) => report.failed.push((scope, error.message)),
        }
    }

    async fn replay_one(&self, record: &Arc<Record>) -> Result<Replayed, CallError> {
        let orphan = is_orphan(record);
        match record.phase {
            Phase::Applied if orphan => Ok(Replayed::Unchanged),
            Phase::Applied => {
                let mended = self.confirm(record).await?;
                if mended.is_empty() {
                    return Ok(Replayed::Unchanged);
                }
                Ok(Replayed::Mended(mended.join("; ")))
            }
            Phase::Pending if !orphan => self.finish(record).await.map(|()| Replayed::Finished),
            Phase::Stuck => self.settle(&record.scope).await.map(|_| Replayed::Finished),
            Phase::Pending | Phase::Releasing => self
                .release_scope(&record.scope)
                .await
                .map(|()| Replayed::Finished),
        }
    }

    /// Brings a half-done plan in force. What fails stays recorded for the next try or a release.
    async fn finish(&self, record: &Record) -> Result<(), CallError> {
        let cx = record.context();
        if let Some(previous) = &record.previous {
            let rest = self.unshared(&previous.obsolete(&record.plan, record), record);
            if let Some(failure) = self.hands.undo(&cx, &rest).await.into_iter().next() {
                return Err(failure.into());
            }
        }
        self.confirm(record).await?;
        let applied = Record {
            phase: Phase::Applied,
            error: None,
            previous: None,
            ..record.clone()
        };
        self.store
            .commit(Txn {
                puts: vec![applied],
                ..Txn::default()
            })
            .await?;
        Ok(())
    }

    /// Whether the scope that a mark names is in force, and should be: its pod's namespace is still there.
    #[must_use]
    pub fn is_in_force(&self, mark: &str) -> bool {
        let scope = mark.splitn(3, ':').nth(2).unwrap_or_default();
        let record = self.store.get(&ScopeId::from_text(scope));
        record.is_some_and(|record| {
            record.mark() == mark && record.phase == Phase::Applied && !is_orphan(&record)
        })
    }

    /// Marks of things on the host whatever the ledger says, for who has taken everything back and wants to know.
    pub async fn leftovers(&self) -> Vec<String> {
        let marks = parking_lot::Mutex::new(std::collections::BTreeSet::new());
        let look = |mark: &str| {
            marks.lock().insert(mark.to_owned());
            true
        };
        for looked in [
            self.hands.network.collect(&look).await,
            self.hands.storage.collect(&look).await,
        ] {
            if let Err(error) = looked {
                marks.lock().insert(error.message);
            }
        }
        marks.into_inner().into_iter().collect()
    }

    /// Removes things that carry our mark but belong to no scope. What is made while this runs is recorded before it
    /// exists, so each thing is looked up when it is seen.
    pub async fn collect(&self) -> Vec<String> {
        let keep = |mark: &str| self.store.knows(mark);
        let mut collected = Vec::new();
        for outcome in [
            self.hands.network.collect(&keep).await,
            self.hands.storage.collect(&keep).await,
        ] {
            match outcome {
                Ok(marks) => collected.extend(marks),
                Err(error) => tracing::warn!(%error, "cannot look for things without an owner"),
            }
        }
        collected
    }
}

/// A pod's namespace that is gone took the pod's side with it; the host's side follows.
fn is_orphan(record: &Record) -> bool {
    record.netns.as_ref().is_some_and(|path| !path.exists())
}

enum Replayed {
    Unchanged,
    Finished,
    Mended(String),
}

/// What others build upon comes first.
fn order(kind: &str) -> usize {
    let kinds = ["node", "net", "volume", "stage", "publish"];
    kinds
        .iter()
        .position(|other| *other == kind)
        .unwrap_or(kinds.len())
}
