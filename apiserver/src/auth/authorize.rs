//! From a user and an action to a decision.

use std::sync::Arc;

use super::{Attributes, Decision, Error, ObjectSource, UserInfo, groups};

/// Decides what users may do.
pub struct Authorizer {
    _source: Arc<dyn ObjectSource>,
}

impl Authorizer {
    /// An authorizer for the roles and bindings of `source`.
    pub fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { _source: source }
    }

    /// Whether `user` may do this.
    pub async fn authorize(&self, user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        if user.in_group(groups::MASTERS) {
            return Decision::Allow {
                reason: String::new(),
            };
        }
        Decision::NoOpinion {
            reason: String::new(),
        }
    }

    /// [`Authorizer::authorize`], as a 403 when it is not allowed.
    pub async fn require(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), Error> {
        match self.authorize(user, attributes).await {
            Decision::Allow { .. } => Ok(()),
            Decision::NoOpinion { reason } | Decision::Deny { reason } => {
                Err(Error::forbidden(user, attributes, &reason))
            }
        }
    }
}
