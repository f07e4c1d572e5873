//! Answers to challenges: basic authentication, and tokens from the server that the registry names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::challenge::Challenge;
use super::{MAX_SMALL, Repository};
use crate::image::auth::Credentials;
use crate::image::error::Error;

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Repository<'_> {
    /// The `Authorization` header that satisfies one of `challenges`.
    pub(super) async fn authorize(&self, challenges: &[Challenge]) -> Result<HeaderValue, Error> {
        if let Some(Credentials::Registry(token)) = &self.credentials {
            return self.header(format!("Bearer {token}"));
        }
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        if let Some((realm, service)) = bearer {
            let token = self.token(realm, service.as_deref()).await?;
            return self.header(format!("Bearer {token}"));
        }
        match &self.credentials {
            Some(basic @ Credentials::Basic { .. }) if challenges.contains(&Challenge::Basic) => {
                self.header(basic_auth(basic).unwrap_or_default())
            }
            _ => Err(self.unauthorized()),
        }
    }

    /// Fetches a pull token for this repository, as Docker does: GET with basic authentication or anonymously, POST with a
    /// refresh token.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, Error> {
        let refuse = |reason| Error::Redirect {
            registry: self.registry.clone(),
            what: "authentication".to_owned(),
            to: realm
                .split('?')
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect(),
            reason,
        };
        let uri: Uri = realm
            .parse()
            .map_err(|_invalid| refuse("it is no valid address"))?;
        // A password goes out only over TLS, or to this machine by a registry on this machine.
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => self.origin.is_plain() && self.transport.allows_plain_uri(&uri),
            _ => false,
        };
        if !is_safe {
            return Err(refuse("credentials are sent over https only"));
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut query = Vec::new();
        query.extend(service.map(|service| ("service", service)));
        query.push(("scope", scope.as_str()));
        let mut headers = HeaderMap::new();
        let (method, uri, body) = match &self.credentials {
            Some(Credentials::Identity(token)) => {
                query.push(("grant_type", "refresh_token"));
                query.push(("client_id", "davit"));
                query.push(("refresh_token", token));
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, form);
                (Method::POST, uri, encode(&query).into_bytes())
            }
            credentials => {
                let basic = credentials.as_ref().and_then(basic_auth);
                if let Some(basic) = basic {
                    headers.insert(AUTHORIZATION, self.header(basic)?);
                }
                let separator = if uri.query().is_some() { '&' } else { '?' };
                let uri = format!("{uri}{separator}{}", encode(&query));
                let uri = uri
                    .parse()
                    .map_err(|_invalid| refuse("it is no valid address"))?;
                (Method::GET, uri, Vec::new())
            }
        };
        let operation = format!("{method} {}", realm.split('?').next().unwrap_or_default());
        let answer = self.transport.send(method, &uri, &headers, body);
        let answer = tokio::time::timeout(self.patience.silence, answer).await;
        let answer = answer.map_err(|_elapsed| self.stalled(&operation, "no answer came"))?;
        let answer = answer.map_err(|source| self.unreachable(&operation, source))?;
        let refused = matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
        );
        if refused {
            return Err(self.unauthorized());
        }
        if !answer.status().is_success() {
            return Err(self.failure(answer, &operation).await);
        }
        let body = self
            .read(answer.into_body(), MAX_SMALL, "the token")
            .await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| refuse("it gives no token"))
    }

    fn header(&self, text: String) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::from_str(&text).map_err(|_invalid| self.unauthorized())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn basic_auth(credentials: &Credentials) -> Option<String> {
    let Credentials::Basic { username, password } = credentials else {
        return None;
    };
    Some(format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    ))
}

/// A query or form of these pairs.
fn encode(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                encoded.push(char::from(byte));
            } else {
                encoded.push('%');
                encoded.push_str(&hex::encode_upper([byte]));
            }
        }
        encoded
    };
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", encode(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let query = encode(&[("service", "a b&c"), ("scope", "repository:x/é:pull")]);
        assert_eq!(
            query,
            "service=a%20b%26c&scope=repository%3Ax%2F%C3%A9%3Apull"
        );
    }
}
