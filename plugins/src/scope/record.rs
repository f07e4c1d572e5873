//! The record of one scope.

use super::Lease;
use crate::capabilities::ScopeContext;
use crate::executor::Phase;
use crate::plan::{Claim, NetworkOp, NetworkPlan, Op, Place, ScopeId, StoragePlan};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything the host knows of a scope. Written as a whole, so its parts always agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) scope: ScopeId,
    pub(crate) driver: String,
    pub(crate) phase: Phase,
    /// What went wrong, while `Stuck`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Digest of the request that led to the plan: the same request gets the same answer.
    pub(crate) request: String,
    /// The driver's code, grants and configuration that the plan comes from, as a digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) revision: String,
    pub(crate) plan: ScopePlan,
    /// The plan that was in force before, while a new one is `Pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<ScopePlan>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leases: Vec<Lease>,
    /// The driver's answer.
    pub(crate) answer: serde_json::Value,
    /// The pod's pinned network namespace, in `net/` scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns: Option<PathBuf>,
}

/// A plan of either kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScopePlan {
    Network(NetworkPlan),
    Storage(StoragePlan),
}

impl ScopePlan {
    /// What the plan takes for itself.
    pub(crate) fn claims(&self, scope: &ScopeId) -> Vec<Claim> {
        match self {
            Self::Network(plan) => plan.ops.iter().flat_map(|op| op.claims(scope)).collect(),
            Self::Storage(plan) => plan.ops.iter().flat_map(|op| op.claims(scope)).collect(),
        }
    }

    /// Kernel settings of the host that the plan sets, with what they were before.
    pub(crate) fn host_settings(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let ops = match self {
            Self::Network(plan) => plan.ops.as_slice(),
            Self::Storage(_) => &[],
        };
        ops.iter().filter_map(|op| match op {
            NetworkOp::Sysctl {
                place: Place::Host,
                key,
                former,
                ..
            } => Some((key.as_str(), former.as_deref())),
            _ => None,
        })
    }

    /// Keys of the steps, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Self::Network(plan) => plan.ops.iter().map(Op::key).collect(),
            Self::Storage(plan) => plan.ops.iter().map(Op::key).collect(),
        }
    }
}

impl Record {
    /// What the scope's steps are carried out with.
    pub(crate) fn context(&self) -> ScopeContext {
        ScopeContext {
            scope: self.scope.clone(),
            driver: self.driver.clone(),
            netns: self.netns.clone(),
        }
    }

    /// The mark of everything made for the scope.
    pub(crate) fn mark(&self) -> String {
        self.context().mark()
    }

    /// Steps that set kernel settings of the host, of the plan and of the one it replaces.
    pub(crate) fn host_settings(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let plans = std::iter::once(&self.plan).chain(&self.previous);
        plans.flat_map(ScopePlan::host_settings)
    }

    /// What the scope holds: claims of the plan, and of the one it replaces while that may still
    /// be in force.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims = self.plan.claims(&self.scope);
        claims.extend(
            self.previous
                .iter()
                .flat_map(|plan| plan.claims(&self.scope)),
        );
        claims
    }
}
