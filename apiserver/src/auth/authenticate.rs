//! From a request's credentials to a user.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;

use super::protocol_token::ProtocolToken;
use super::token::{TokenIssuer, check_binding};
use super::{
    Error, InProcessUser, Issuers, ObjectSource, StaticTokens, TokenWebhook, UserInfo,
    bootstrap_tokens,
};
use crate::pki::{Authority, Peer};

/// What the authenticator is made of.
#[derive(Clone, Debug, Default)]
pub struct AuthenticatorConfig {
    /// Issuer of ServiceAccount tokens, such as `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences the API server answers to; tokens that ask for no audience get them. Empty: the issuer.
    pub audiences: Vec<String>,
    /// Tokens of a file.
    pub static_tokens: StaticTokens,
}

/// Finds out who sent a request.
pub struct Authenticator {
    issuer: TokenIssuer,
    audiences: Vec<String>,
    static_tokens: StaticTokens,
    issuers: ArcSwap<Issuers>,
    webhook: Option<TokenWebhook>,
    source: Arc<dyn ObjectSource>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator for the tokens signed with the key of `authority`.
    pub fn new(
        config: AuthenticatorConfig,
        authority: &Authority,
        source: Arc<dyn ObjectSource>,
    ) -> Self {
        let mut audiences = config.audiences;
        if audiences.is_empty() {
            audiences.push(config.issuer.clone());
        }
        Self {
            issuer: TokenIssuer::new(
                config.issuer,
                authority.service_account_key(),
                authority.clock().clone(),
            ),
            audiences,
            static_tokens: config.static_tokens,
            issuers: ArcSwap::default(),
            webhook: None,
            source,
        }
    }

    /// Tokens that this server does not know are those of other issuers, or known to a webhook.
    pub(crate) fn with_others(self, issuers: Issuers, webhook: Option<TokenWebhook>) -> Self {
        Self {
            issuers: ArcSwap::from_pointee(issuers),
            webhook,
            ..self
        }
    }

    /// Believes these other issuers from now on.
    pub(crate) fn set_issuers(&self, issuers: Issuers) {
        self.issuers.store(Arc::new(issuers));
    }

    /// Makes ServiceAccount tokens, and publishes the key they are checked with.
    pub fn token_issuer(&self) -> &TokenIssuer {
        &self.issuer
    }

    /// The audiences the API server answers to.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The user of a request: from the [`InProcessUser`] extension, the [`Peer`] extension of its
    /// connection, or the bearer token, which WebSockets may have among their protocols ([`ProtocolToken`]).
    ///
    /// `Ok(None)`: the request has no credentials. Such a request is served as
    /// [`UserInfo::anonymous`] on a public path ([`is_public_path`]) and refused with 401 elsewhere.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when there are credentials and none is valid.
    pub async fn authenticate(&self, parts: &Parts) -> Result<Option<Arc<UserInfo>>, Error> {
        if let Some(InProcessUser(user)) = parts.extensions.get() {
            return Ok(Some(user.clone()));
        }
        let peer = parts.extensions.get::<Peer>();
        let by_certificate =
            peer.map(|peer| of_peer(peer, self.issuer.clock.timestamp().as_second()));
        if let Some(Ok(user)) = by_certificate {
            return Ok(Some(user));
        }
        let by_token = match bearer_token(parts).transpose() {
            Ok(Some(token)) => Some(
                self.authenticate_token(token, &self.audiences)
                    .await
                    .map(|known| known.user),
            ),
            Ok(None) => None,
            Err(why) => Some(Err(Error::unauthorized(why))),
        };
        by_token.or(by_certificate).transpose()
    }

    /// The user a bearer token stands for at a server that answers to `audiences`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] with the reason, which clients must not be told.
    pub(super) async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenUser, Error> {
        let now = self.issuer.clock.timestamp();
        if let Some(claims) = self.issuer.verify(token).map_err(Error::unauthorized)? {
            let user = check_binding(&claims, audiences, now.as_second(), &*self.source)
                .map_err(Error::unauthorized)?;
            return Ok(TokenUser {
                user: Arc::new(user),
                audiences: common(audiences, &claims.aud),
            });
        }
        // Tokens that name no audience are for the API server itself.
        let asked = audiences;
        let audiences = common(audiences, &self.audiences);
        if audiences.is_empty() && self.webhook.is_none() {
            return Err(Error::unauthorized(
                "the token is not for the target audiences",
            ));
        }
        if let Some(user) = self
            .static_tokens
            .user(token)
            .filter(|_| !audiences.is_empty())
        {
            return Ok(TokenUser {
                user: user.clone(),
                audiences,
            });
        }
        match bootstrap_tokens::authenticate(token, now, &*self.source) {
            Ok(Some(user)) if !audiences.is_empty() => Ok(TokenUser {
                user: Arc::new(user),
                audiences,
            }),
            Ok(_) => {
                self.authenticate_elsewhere(token, asked, audiences, now)
                    .await
            }
            Err(reason) => Err(Error::unauthorized(reason)),
        }
    }

    /// Tokens of other issuers, and those a webhook knows.
    async fn authenticate_elsewhere(
        &self,
        token: &str,
        asked: &[String],
        own: Vec<String>,
        now: Timestamp,
    ) -> Result<TokenUser, Error> {
        let issuers = self.issuers.load_full();
        if !own.is_empty()
            && let Some(result) = issuers.authenticate(token, now.as_second()).await
        {
            let user = Arc::new(result.map_err(Error::unauthorized)?);
            return Ok(TokenUser {
                user,
                audiences: own,
            });
        }
        let Some(webhook) = &self.webhook else {
            return Err(Error::unauthorized("the bearer token is unknown"));
        };
        let known = webhook.authenticate(token, asked, &self.audiences).await;
        let (user, audiences) = known.map_err(Error::unauthorized)?;
        Ok(TokenUser { user, audiences })
    }
}

/// Whom a token stands for, and for which of the asked audiences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenUser {
    pub(super) user: Arc<UserInfo>,
    pub(super) audiences: Vec<String>,
}

fn common(asked: &[String], offered: &[String]) -> Vec<String> {
    asked
        .iter()
        .filter(|audience| offered.contains(audience))
        .cloned()
        .collect()
}

/// The identity of a connection's certificate, if it is still valid at second `now`.
fn of_peer(peer: &Peer, now: i64) -> Result<Arc<UserInfo>, Error> {
    match peer {
        Peer::Verified { user, not_after } if now <= *not_after => Ok(user.clone()),
        Peer::Verified { .. } => Err(Error::unauthorized("the client certificate has expired")),
        Peer::Rejected { reason } => Err(Error::unauthorized(reason.clone())),
    }
}

/// The token of the headers, or what is wrong with it.
fn bearer_token(parts: &Parts) -> Option<Result<&str, &'static str>> {
    if let Some(token) = header_token(parts) {
        return Some(Ok(token));
    }
    let ProtocolToken(token) = parts.extensions.get()?;
    Some(token.as_deref().map_err(|why| *why))
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
fn header_token(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether anybody may read this path without credentials.
pub fn is_public_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/version")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::memory::Memory;
    use http::Request;

    fn authenticator() -> (Authenticator, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.csv");
        std::fs::write(&file, "secret,alice,1,dev\n").unwrap();
        let config = AuthenticatorConfig {
            issuer: "https://issuer".into(),
            static_tokens: StaticTokens::read(&file).unwrap(),
            ..AuthenticatorConfig::default()
        };
        let authority =
            Authority::load_or_create(&dir.path().join("pki"), crate::clock::Clock::default())
                .unwrap();
        let source: Arc<Memory> = Memory::with([]);
        (Authenticator::new(config, &authority, source), dir)
    }

    fn parts(authorization: Option<&str>, peer: Option<Peer>) -> Parts {
        let mut request = Request::builder();
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.extend(
            peer.map(|peer| {
                let mut extensions = http::Extensions::new();
                extensions.insert(peer);
                extensions
            })
            .unwrap_or_default(),
        );
        parts
    }

    #[tokio::test]
    async fn any_valid_credential_counts_and_an_invalid_one_is_not_anonymous() {
        let (authenticator, _dir) = authenticator();
        let bob = Peer::Verified {
            user: Arc::new(UserInfo::new("bob", ["x"])),
            not_after: i64::MAX,
        };
        let late = Peer::Verified {
            user: Arc::new(UserInfo::new("bob", ["x"])),
            not_after: 1,
        };
        let bad = Peer::Rejected {
            reason: "unknown issuer".into(),
        };
        let cases = [
            (None, None, Ok(None)),
            (None, Some(&bob), Ok(Some("bob"))),
            (Some("Bearer secret"), None, Ok(Some("alice"))),
            (Some("bearer  secret"), None, Ok(Some("alice"))),
            (Some("Bearer wrong"), Some(&bob), Ok(Some("bob"))),
            (Some("Bearer secret"), Some(&bad), Ok(Some("alice"))),
            (Some("Bearer wrong"), None, Err(())),
            (Some("Bearer wrong"), Some(&bad), Err(())),
            (None, Some(&bad), Err(())),
            (None, Some(&late), Err(())),
            (Some("Basic YTpi"), None, Ok(None)),
        ];
        for (header, peer, expected) in cases {
            let got = authenticator
                .authenticate(&parts(header, peer.cloned()))
                .await;
            let got = got
                .map(|user| user.map(|user| user.name.clone()))
                .map_err(|_| ());
            assert_eq!(
                got,
                expected.map(|name: Option<&str>| name.map(str::to_owned)),
                "{header:?} {peer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_token_among_protocols_counts_as_one_in_the_header() {
        let (authenticator, _dir) = authenticator();
        for (header, token, expected) in [
            (None, Ok("secret"), Ok("alice")),
            (None, Ok("wrong"), Err(())),
            (None, Err("broken"), Err(())),
            (Some("Bearer secret"), Err("broken"), Ok("alice")),
            (Some("Bearer wrong"), Ok("secret"), Err(())),
        ] {
            let mut parts = parts(header, None);
            let token = token.map(str::to_owned);
            parts.extensions.insert(ProtocolToken(token.clone()));
            let got = authenticator.authenticate(&parts).await;
            let got = got.map(|user| user.unwrap().name.clone()).map_err(drop);
            assert_eq!(got, expected.map(str::to_owned), "{header:?} {token:?}");
        }
    }

    #[test]
    fn few_paths_are_public() {
        for path in ["/livez", "/readyz", "/healthz", "/version", "/version/"] {
            assert!(is_public_path(path), "{path}");
        }
        for path in [
            "/",
            "/api",
            "/healthz/x",
            "/metrics",
            "/openapi/v3",
            "//version",
        ] {
            assert!(!is_public_path(path), "{path}");
        }
    }
}
