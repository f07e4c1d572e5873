//! The way every request takes: who is it, as whom does it act, may it do this.

use std::sync::Arc;

use http::request::Parts;

use super::{
    Attributes, Authenticator, Authorizer, Error, Reviews, Target, UserInfo, impersonate,
    is_public_path,
};

/// Authentication, impersonation and authorization in one call.
#[derive(Clone, Debug)]
pub struct Gate {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

impl Gate {
    /// A gate with these two.
    pub fn new(authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Self {
        Self {
            authenticator,
            authorizer,
        }
    }

    /// The authenticator.
    pub fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    /// The authorizer.
    pub fn authorizer(&self) -> &Arc<Authorizer> {
        &self.authorizer
    }

    /// Answers review objects.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.authenticator.clone(), self.authorizer.clone())
    }

    /// The user a request acts as, if the action is allowed.
    ///
    /// A request without credentials passes on a public path only, as `system:anonymous`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::Forbidden`] and, for bad impersonation headers,
    /// [`Error::BadRequest`].
    pub async fn admit(
        &self,
        parts: &Parts,
        attributes: &Attributes<'_>,
    ) -> Result<Arc<UserInfo>, Error> {
        let Some(user) = self.authenticator.authenticate(parts).await? else {
            return match attributes.target {
                Target::Path(path) if is_public_path(path) && attributes.verb == "get" => {
                    Ok(Arc::new(UserInfo::anonymous()))
                }
                _ => Err(Error::unauthorized("the request has no credentials")),
            };
        };
        let user = impersonate::resolve(&self.authorizer, user, &parts.headers).await?;
        self.authorizer.require(&user, attributes).await?;
        Ok(user)
    }
}
