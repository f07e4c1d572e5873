//! After a start: half-done scopes are finished, drift is mended, strangers are removed.

use super::carry_out::context;
use super::{Host, Phase, ReplayReport};
use crate::error::CallError;
use crate::scope::{Record, Txn};
use std::sync::Arc;

impl Host {
    /// Finishes what an earlier process left half done, re-applies what drifted, and removes marked
    /// things that no scope knows. Needs no plugin.
    pub async fn replay(&self) -> ReplayReport {
        let mut report = ReplayReport::default();
        let mut records = self.store.list("");
        records.sort_by_key(|record| order(record.scope.kind()));
        for record in records {
            let scope = record.scope.clone();
            match self.replay_one(&record).await {
                Ok(Replayed::Unchanged) => {}
                Ok(Replayed::Finished) => report.finished.push(scope),
                Ok(Replayed::Mended(what)) => report.mended.push((scope, what)),
                Err(error) => report.failed.push((scope, error.message)),
            }
        }
        report.collected = self.collect().await;
        report
    }

    async fn replay_one(&self, record: &Arc<Record>) -> Result<Replayed, CallError> {
        // A pod's namespace that is gone took the pod's side with it; the host's side follows.
        let orphan = record.netns.as_ref().is_some_and(|path| !path.exists());
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
        let cx = context(record);
        if let Some(previous) = &record.previous {
            let rest = previous.obsolete(&record.plan, record);
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

    /// Removes things that carry our mark but belong to no scope.
    async fn collect(&self) -> Vec<String> {
        let known: std::collections::HashSet<String> = self
            .store
            .list("")
            .iter()
            .map(|record| context(record).mark())
            .collect();
        let keep = |mark: &str| known.contains(mark);
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
