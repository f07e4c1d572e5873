//! The keys of an issuer, fetched when they are first needed and when a token names an unknown one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use http_body_util::{BodyExt, Limited};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::config::IssuerConfig;
use crate::callout::{Callouts, Place, Target, Trust};

/// After keys were fetched, an unknown one is not looked for again for so long: strangers must not make
/// this server call the issuer for every request.
const PAUSE: Duration = Duration::from_secs(10);
/// Keys are fetched anew after this, so that withdrawn ones go.
const KEPT: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 1 << 20;

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    discovery: String,
    trust: Trust,
    callouts: Arc<Callouts>,
    fetched: Mutex<Fetched>,
}

#[derive(Default)]
struct Fetched {
    keys: Option<JwkSet>,
    /// When it was last tried.
    at: Option<Instant>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(issuer: &IssuerConfig, callouts: Arc<Callouts>) -> Result<Self, String> {
        let discovery = if issuer.discovery_url.is_empty() {
            let url = issuer.url.trim_end_matches('/');
            format!("{url}/.well-known/openid-configuration")
        } else {
            issuer.discovery_url.clone()
        };
        Ok(Self {
            issuer: issuer.url.clone(),
            discovery,
            trust: Trust::bundle(issuer.certificate_authority.as_bytes()),
            callouts,
            fetched: Mutex::default(),
        })
    }

    /// The key a token names; without a name the only one there is.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<DecodingKey, String> {
        let mut fetched = self.fetched.lock().await;
        let old = fetched.at.is_none_or(|at| at.elapsed() > KEPT);
        if let Some(key) = fetched
            .keys
            .as_ref()
            .filter(|_| !old)
            .and_then(|keys| pick(keys, id))
        {
            return key;
        }
        if fetched.at.is_none_or(|at| at.elapsed() > PAUSE) {
            fetched.at = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => fetched.keys = Some(keys),
                // Keys that are known go on being believed while the issuer is away.
                Err(error) if fetched.keys.is_none() => return Err(error),
                Err(error) => tracing::warn!(issuer = self.issuer, error, "keys were not fetched"),
            }
        }
        let keys = fetched.keys.as_ref();
        keys.and_then(|keys| pick(keys, id)).unwrap_or_else(|| {
            Err(format!(
                "oidc: no key of {} has the id of the token's",
                self.issuer
            ))
        })
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let document: Value = self.get(&self.discovery).await?;
        let issuer = document["issuer"].as_str().unwrap_or_default();
        if issuer != self.issuer {
            let expected = &self.issuer;
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {expected:?} got {issuer:?}"
            ));
        }
        let keys = document["jwks_uri"].as_str().unwrap_or_default();
        self.get(keys).await
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let failed = |what: String| format!("oidc: get {url:?}: {what}");
        if !url.starts_with("https://") {
            return Err(failed("it is no https URL".to_owned()));
        }
        let target = Target {
            place: Place::Configured(url.to_owned()),
            trust: self.trust.clone(),
        };
        let request = Request::get(url)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.callouts.send(&target, request).await?;
            let code = response.status();
            let body = Limited::new(response.into_body(), MAX_BYTES)
                .collect()
                .await;
            let bytes = body.map_err(|error| error.to_string())?.to_bytes();
            if !code.is_success() {
                return Err(format!("answered {code}"));
            }
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        };
        let answered = tokio::time::timeout(TIMEOUT, exchange).await;
        answered
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(failed)
    }
}

fn pick(keys: &JwkSet, id: Option<&str>) -> Option<Result<DecodingKey, String>> {
    let key = match id {
        Some(id) => keys.find(id)?,
        None => match keys.keys.as_slice() {
            [only] => only,
            _ => return None,
        },
    };
    Some(DecodingKey::from_jwk(key).map_err(|error| error.to_string()))
}
