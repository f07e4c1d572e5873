//! Users of other identity providers: JSON Web Tokens of OpenID Connect issuers, as an
//! AuthenticationConfiguration file (apiserver.config.k8s.io/v1) says.

mod claims;
mod config;
mod keys;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigError, UserInfo};
use crate::callout::Callouts;
use claims::Mapping;
use config::{AuthenticationConfiguration, Jwt};
use keys::Keys;

/// Signatures that are believed. Symmetric ones are not: whoever checks those could make them.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];
/// Clocks of issuers may be so many seconds ahead.
const LEEWAY: i64 = 10;

/// The issuers of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    url: String,
    audiences: Vec<String>,
    mapping: Mapping,
    keys: Keys,
}

/// Claims that say what a token is, whatever its issuer.
#[derive(Debug, Deserialize)]
struct Head {
    iss: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<i64>,
    nbf: Option<i64>,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audiences {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

impl Issuers {
    /// Reads a configuration file.
    pub(crate) fn load(path: &Path, callouts: &Arc<Callouts>) -> Result<Self, ConfigError> {
        let text = ConfigError::read(path)?;
        Self::parse(&text, callouts).map_err(|reason| ConfigError::invalid(path, reason))
    }

    fn parse(text: &str, callouts: &Arc<Callouts>) -> Result<Self, String> {
        let config = AuthenticationConfiguration::parse(text)?;
        let issuers = config.jwt.into_iter().enumerate();
        let issuers = issuers.map(|(number, jwt)| {
            Issuer::new(jwt, callouts.clone()).map_err(|what| format!("jwt[{number}]: {what}"))
        });
        issuers.collect::<Result<_, _>>().map(Self)
    }

    /// The user of a token; `None` when it is no token of these issuers.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        now: i64,
    ) -> Option<Result<UserInfo, String>> {
        if self.0.is_empty() {
            return None;
        }
        let head = jsonwebtoken::dangerous::insecure_decode_claims::<Head>(token).ok()?;
        let issuer = self.0.iter().find(|issuer| issuer.url == head.iss)?;
        Some(issuer.user(token, &head, now).await)
    }
}

impl Issuer {
    fn new(jwt: Jwt, callouts: Arc<Callouts>) -> Result<Self, String> {
        let keys = Keys::new(&jwt.issuer, callouts)?;
        Ok(Self {
            mapping: Mapping::new(&jwt)?,
            url: jwt.issuer.url,
            audiences: jwt.issuer.audiences,
            keys,
        })
    }

    async fn user(&self, token: &str, head: &Head, now: i64) -> Result<UserInfo, String> {
        // What costs nothing is checked before keys are fetched for a stranger.
        match head.exp {
            None => return Err("oidc: the token has no expiry".to_owned()),
            Some(end) if end < now => return Err("oidc: token is expired".to_owned()),
            Some(_) => {}
        }
        if head.nbf.is_some_and(|start| start > now + LEEWAY) {
            return Err("oidc: token is not valid yet".to_owned());
        }
        if !self.audiences.iter().any(|audience| head.aud.has(audience)) {
            return Err("oidc: expected audience is not in the token".to_owned());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(format!(
                "oidc: signature algorithm {:?} is not accepted",
                header.alg
            ));
        }
        let key = self.keys.find(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims: Map<String, Value> = jsonwebtoken::decode(token, &key, &validation)
            .map_err(|error| format!("oidc: verify token: {error}"))?
            .claims;
        self.mapping.user(&claims.into())
    }
}
