//! Changes that are computed from the stored value at the moment of the commit.
use std::fmt;
use std::sync::Arc;

use super::Value;

type Change = dyn Fn(&[u8]) -> Option<Value> + Send + Sync;

/// Makes a new value from the stored one, or refuses.
///
/// The committer calls it between the transactions before and after, so it must be quick, must not block, and must depend on
/// nothing but the bytes.
#[derive(Clone)]
pub struct Amend(Arc<Change>);

impl Amend {
    /// A change by a function.
    pub fn new(change: impl Fn(&[u8]) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// The value after the change; `None` when it is refused.
    pub(super) fn apply(&self, stored: &[u8]) -> Option<Value> {
        (self.0)(stored)
    }
}

impl fmt::Debug for Amend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Amend")
    }
}
