//! Resource quotas: what an object counts, which quotas it counts against, and what a write does to one.
//!
//! Shared by the API server, which charges every write in the transaction that makes it, and by the controller, which counts
//! everything anew. Follows `pkg/quota/v1` and the `ResourceQuota` admission plugin of Kubernetes.

mod pod;
mod scope;
mod usage;
mod write;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use usage::{Counted, counts};
pub use write::{Effect, Write};

use crate::Quantity;
use scope::Requirement;

/// Amounts by resource name, such as `requests.cpu` or `count/deployments.apps`.
pub type Amounts = BTreeMap<String, Quantity>;

/// A kind by API group (empty for the core group) and plural name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counting {
    /// API group.
    pub group: String,
    /// Plural name, such as `pods`.
    pub plural: String,
}

impl Counting {
    /// The kind `plural` of `group`.
    #[must_use]
    pub fn new(group: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// The resource that counts the objects of any kind.
    fn count_name(&self) -> String {
        if self.group.is_empty() {
            format!("count/{}", self.plural)
        } else {
            format!("count/{}.{}", self.plural, self.group)
        }
    }
}

/// A ResourceQuota as far as counting needs it.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// What its owner declared.
    pub declared: Amounts,
    /// What is in force: `status.hard`.
    pub hard: Amounts,
    /// What is used: `status.used`.
    pub used: Amounts,
    scopes: Vec<Requirement>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    hard: Option<Amounts>,
    scopes: Option<Vec<String>>,
    scope_selector: Option<Selector>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    hard: Option<Amounts>,
    used: Option<Amounts>,
}

impl Quota {
    /// Reads a ResourceQuota.
    ///
    /// # Errors
    /// When spec or status are not those of a quota.
    pub fn read(object: &Value) -> Result<Self, serde_json::Error> {
        let part = |name: &str| object.get(name).filter(|part| !part.is_null());
        let spec = part("spec").map_or_else(|| Ok(Spec::default()), Spec::deserialize)?;
        let status = part("status").map_or_else(|| Ok(Status::default()), Status::deserialize)?;
        let scopes = spec.scopes.unwrap_or_default().into_iter();
        let mut requirements: Vec<Requirement> = scopes.map(Requirement::exists).collect();
        let selector = spec.scope_selector.unwrap_or_default();
        requirements.extend(selector.match_expressions.unwrap_or_default());
        Ok(Self {
            name: object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            declared: spec.hard.unwrap_or_default(),
            hard: status.hard.unwrap_or_default(),
            used: status.used.unwrap_or_default(),
            scopes: requirements,
        })
    }

    /// Whether the object is within all scopes of the quota.
    #[must_use]
    pub fn includes(&self, counted: &Counted) -> bool {
        self.scopes.iter().all(|scope| scope.matches(counted))
    }
}

/// Amounts as messages show them: `cpu=1,pods=2`.
fn shown(amounts: &Amounts) -> String {
    let parts = amounts
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"));
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
