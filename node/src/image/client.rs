//! A pulling client of the OCI distribution API, for one repository of one registry.
//!
//! Why not a library: credentials must never follow a redirect to another host, every answer must be bounded in size
//! and in time, and a broken download must go on where it stopped.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::RwLock;

use super::auth::Credentials;
use super::digest::Digest;
use super::error::Error;
use super::manifest;
use super::reference::Reference;
use challenge::Challenge;
use origin::Origin;

mod blob;
mod challenge;
mod origin;
#[cfg(test)]
mod tests;
mod token;
mod transport;

pub(super) use transport::Transport;

/// Docker Hub answers under another name than people write.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";
const MAX_REDIRECTS: usize = 5;
/// Most bytes of an error or token answer that are read.
const MAX_SMALL: u64 = 1 << 20;

/// How slow a registry may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Longest silence: until headers come, or between two pieces of a body.
    pub(super) silence: Duration,
    /// A body must bring `least` bytes in each such time.
    pub(super) window: Duration,
    /// See `window`.
    pub(super) least: u64,
    /// First pause before a broken download goes on; doubled each time.
    pub(super) pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            window: Duration::from_secs(60),
            least: 60 << 10,
            pause: Duration::from_millis(200),
        }
    }
}

/// A manifest as the registry gave it.
#[derive(Clone, Debug)]
pub(super) struct RawManifest {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) content_type: Option<String>,
}

/// A conversation about one repository.
#[derive(Debug)]
pub(super) struct Repository<'t> {
    transport: &'t Transport,
    /// As the user wrote it, for messages.
    registry: String,
    image: String,
    repository: String,
    origin: Origin,
    credentials: Option<Credentials>,
    authorization: RwLock<Option<HeaderValue>>,
    patience: Patience,
}

impl<'t> Repository<'t> {
    /// Finds out how the registry is spoken to; nothing is sent to one that speaks TLS.
    ///
    /// # Errors
    /// A loopback or insecure registry cannot be reached.
    pub(super) async fn open(
        transport: &'t Transport,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self, Error> {
        let registry = reference.registry();
        let host = if registry == HUB { HUB_HOST } else { registry };
        let mut opened = Self {
            transport,
            registry: registry.to_owned(),
            image: reference.to_string(),
            repository: reference.repository().to_owned(),
            origin: Origin::https(host),
            credentials,
            authorization: RwLock::new(None),
            patience: Patience::default(),
        };
        if transport.allows_plain(&opened.origin) {
            opened.choose_scheme().await?;
        }
        Ok(opened)
    }

    #[cfg(test)]
    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Plain http unless the other side turns out to speak TLS.
    async fn choose_scheme(&mut self) -> Result<(), Error> {
        let plain = self.origin.plain();
        let uri = plain
            .uri("/v2/")
            .map_err(|reason| self.wrong_uri("/v2/", reason))?;
        match self
            .send(Method::GET, &uri, &HeaderMap::new(), "GET /v2/")
            .await
        {
            Ok(answer) if answer.status() != StatusCode::BAD_REQUEST => self.origin = plain,
            Ok(_speaks_tls) => {}
            Err(error @ Error::Unreachable { .. }) if transport::is_refused(&error) => {
                return Err(error);
            }
            Err(_garbled) => {}
        }
        Ok(())
    }

    /// Fetches the manifest or index `key` (a tag or digest) and verifies it if `key` is a digest.
    ///
    /// # Errors
    /// Unauthorized, not found, too large, damaged, or no answer.
    pub(super) async fn manifest(&self, key: &str) -> Result<RawManifest, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        let answer = self.get(&format!("manifests/{key}"), &headers).await?;
        let header = answer.headers().get(CONTENT_TYPE);
        let content_type = header
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let bytes = self
            .read(answer.into_body(), manifest::MAX_MANIFEST, "the manifest")
            .await?;
        let digest = match key.parse::<Digest>() {
            Err(_tag) => Digest::sha256(&bytes),
            Ok(expected) => {
                let actual = expected.same_algorithm(&bytes);
                if actual != expected {
                    let what = format!("the manifest of {}", self.image);
                    return Err(Error::DigestMismatch {
                        what,
                        expected,
                        actual,
                    });
                }
                actual
            }
        };
        Ok(RawManifest {
            bytes,
            digest,
            content_type,
        })
    }

    /// Fetches a small blob into memory, verified.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub(super) async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let answer = self
            .get(&format!("blobs/{digest}"), &HeaderMap::new())
            .await?;
        let what = format!("blob {digest}");
        let bytes = self.read(answer.into_body(), limit, &what).await?;
        let actual = digest.same_algorithm(&bytes);
        if actual != *digest {
            return Err(Error::DigestMismatch {
                what,
                expected: digest.clone(),
                actual,
            });
        }
        Ok(bytes)
    }

    /// Asks for a blob from byte `from` on.
    async fn blob(&self, digest: &Digest, from: u64) -> Result<http::Response<Incoming>, Error> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        self.get(&format!("blobs/{digest}"), &headers).await
    }

    /// A GET beneath the repository: authenticated where the registry asks, redirected where that is safe.
    async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<http::Response<Incoming>, Error> {
        let path = format!("/v2/{}/{path}", self.repository);
        let operation = format!("GET {path}");
        let mut uri = self
            .origin
            .uri(&path)
            .map_err(|reason| self.wrong_uri(&path, reason))?;
        let (mut redirects, mut challenged) = (0, false);
        loop {
            let mut headers = headers.clone();
            // The one place where credentials are attached: to the registry itself, and to nobody it points at.
            let is_registry = self.origin.is_of(&uri);
            if is_registry {
                headers.extend(
                    self.authorization
                        .read()
                        .clone()
                        .map(|value| (AUTHORIZATION, value)),
                );
            }
            let answer = self.send(Method::GET, &uri, &headers, &operation).await?;
            match answer.status() {
                status if status.is_success() => return Ok(answer),
                StatusCode::UNAUTHORIZED if is_registry && !challenged => {
                    challenged = true;
                    let challenges = Challenge::all(answer.headers());
                    let value = self.authorize(&challenges).await?;
                    *self.authorization.write() = Some(value);
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    redirects += 1;
                    uri = self.redirected(&uri, answer.headers(), redirects, &path)?;
                }
                _ => return Err(self.failure(answer, &operation).await),
            }
        }
    }

    fn redirected(
        &self,
        from: &Uri,
        headers: &HeaderMap,
        count: usize,
        what: &str,
    ) -> Result<Uri, Error> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default();
        let refuse = |reason| Error::Redirect {
            registry: self.registry.clone(),
            what: what.to_owned(),
            to: location
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect(),
            reason,
        };
        if count > MAX_REDIRECTS {
            return Err(refuse("too many redirects"));
        }
        let to = origin::resolve(from, location).map_err(refuse)?;
        let is_plain = to.scheme_str() == Some("http");
        if is_plain && !(self.origin.is_plain() && self.transport.allows_plain_uri(&to)) {
            return Err(refuse("it would leave TLS"));
        }
        Ok(to)
    }

    async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        operation: &str,
    ) -> Result<http::Response<Incoming>, Error> {
        let answer = self.transport.send(method, uri, headers, Vec::new());
        match tokio::time::timeout(self.patience.silence, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(self.unreachable(operation, source)),
            Err(_elapsed) => Err(self.stalled(operation, "no answer came")),
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    async fn read(&self, mut body: Incoming, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(self.patience.silence, body.frame()).await;
            let frame = frame.map_err(|_elapsed| self.stalled(what, "the answer stopped"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|source| self.unreachable(what, source.into()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(Error::TooLarge {
                    what: format!("{what} of {}", self.image),
                    limit,
                });
            }
            bytes.extend_from_slice(&data);
        }
    }

    /// Turns an unsuccessful answer into the error that says what to do.
    async fn failure(&self, answer: http::Response<Incoming>, operation: &str) -> Error {
        let status = answer.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(),
            StatusCode::NOT_FOUND => Error::NotFound {
                reference: self.image.clone(),
            },
            _ => {
                let body = self.read(answer.into_body(), MAX_SMALL, operation).await;
                Error::Registry {
                    registry: self.registry.clone(),
                    operation: operation.to_owned(),
                    status: status.as_u16(),
                    message: message(&body.unwrap_or_default(), status),
                }
            }
        }
    }

    fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            reference: self.image.clone(),
            registry: self.registry.clone(),
        }
    }

    fn unreachable(
        &self,
        operation: &str,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Error {
        let (registry, operation) = (self.registry.clone(), operation.to_owned());
        Error::Unreachable {
            registry,
            operation,
            source,
        }
    }

    fn stalled(&self, what: &str, detail: &str) -> Error {
        let (what, detail) = (what.to_owned(), detail.to_owned());
        Error::Stalled {
            registry: self.registry.clone(),
            what,
            detail,
        }
    }

    fn wrong_uri(&self, to: &str, reason: &'static str) -> Error {
        let (registry, what) = (self.registry.clone(), self.image.clone());
        Error::Redirect {
            registry,
            what,
            to: to.to_owned(),
            reason,
        }
    }
}

/// What a registry says is wrong: the first message of its JSON, or nothing but the status.
fn message(body: &[u8], status: StatusCode) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let first = json.as_ref().and_then(|json| json.pointer("/errors/0"));
    let part = |key| {
        first
            .and_then(|first| first.get(key))
            .and_then(|text| text.as_str())
    };
    let text = match (part("code"), part("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => status
            .canonical_reason()
            .unwrap_or("no reason given")
            .to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
