//! Calls to servers that users configure: admission and conversion webhooks, extension API servers.
//!
//! An address of this machine or its link is called only where a file of the administrator names it (`reach.rs`).
//! Only https is spoken, no redirect is followed, and time and sizes are bounded. A Service is called at one of
//! its ready endpoints, since the API server may run where cluster addresses lead nowhere. Connections are kept
//! and shared by all calls with the same address and trust.

mod dial;
mod place;
mod reach;
mod trust;
mod tunnel;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;

use crate::auth::ObjectSource;
use dial::Dial;
pub(crate) use dial::{Resolved, Unresolved, cause, resolve};
pub(crate) use place::Place;
pub(crate) use reach::Reach;
pub(crate) use trust::{Credential, Trust};
pub(crate) use tunnel::tunnel;

/// The largest answer that is read into memory.
const MAX_ANSWER: usize = 16 << 20;
/// Clients kept for addresses that were called before.
const MAX_CLIENTS: usize = 256;
/// Unused connections are closed after this.
const IDLE: Duration = Duration::from_secs(90);

type Client = legacy::Client<HttpsConnector<Dial>, Body>;
type AnyClient = legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// The clients of a server.
pub(crate) struct Callouts {
    source: Arc<dyn ObjectSource>,
    /// Shown to those who ask for a certificate and are meant to see one.
    identity: Option<Arc<dyn ResolvesClientCert>>,
    reach: Arc<Reach>,
    clients: Mutex<HashMap<(Place, Trust), Client>>,
    /// For whatever users run behind a proxy of this server.
    anywhere: Mutex<Option<AnyClient>>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No answer: the address, the connection, TLS or the time; a retry may help.
    #[error("{method} {url:?}: {cause}")]
    Unanswered {
        method: &'static str,
        url: String,
        cause: String,
    },
    /// An answer that is no success.
    #[error("{0}")]
    Refused(String),
}

/// A server and how it is known to be the right one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) trust: Trust,
}

impl Target {
    /// From the `clientConfig` of a webhook.
    ///
    /// # Errors
    /// Text for the user.
    pub(crate) fn from_client_config(config: &serde_json::Value) -> Result<Self, String> {
        use base64::Engine as _;
        let place = Place::from_client_config(config)?;
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .map_err(|error| format!("the CA bundle is not base64: {error}"))?;
        let trust = Trust::bundle(&bundle);
        Ok(Self { place, trust })
    }
}

impl std::fmt::Debug for Callouts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callouts").finish_non_exhaustive()
    }
}

impl Callouts {
    /// Reads Services and their endpoints from `source`; shows `identity` to targets that trust says so of; calls what users
    /// name only where `reach` lets it.
    pub(crate) fn new(
        source: Arc<dyn ObjectSource>,
        identity: Option<Arc<dyn ResolvesClientCert>>,
        reach: Reach,
    ) -> Self {
        Self {
            source,
            identity,
            reach: Arc::new(reach),
            clients: Mutex::default(),
            anywhere: Mutex::default(),
        }
    }

    /// Posts a JSON document and returns the document that is answered.
    ///
    /// # Errors
    /// No answer within `timeout`, or one that is not a success.
    pub(crate) async fn post(
        &self,
        target: &Target,
        query: &str,
        timeout: Duration,
        document: Vec<u8>,
    ) -> Result<Bytes, Error> {
        let url = format!("{}{query}", target.place.url());
        let unanswered = |cause: String| Error::Unanswered {
            method: "Post",
            url: url.clone(),
            cause,
        };
        let request = Request::post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Body::from(document))
            .map_err(|error| unanswered(error.to_string()))?;
        let exchange = async {
            let response = self.send(target, request).await.map_err(&unanswered)?;
            let code = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await;
            let body = body.map_err(|error| unanswered(error.to_string()))?;
            Ok((code, body.to_bytes()))
        };
        let (code, body) = tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| unanswered("context deadline exceeded".to_owned()))??;
        if code.is_success() {
            return Ok(body);
        }
        Err(Error::Refused(refusal(code, &body)))
    }

    /// Sends any request, whose address must be the target's, and returns what is answered as it comes.
    ///
    /// # Errors
    /// What kept the target from answering.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let client = self.client(target)?;
        client
            .request(request)
            .await
            .map_err(|error| dial::cause(&error))
    }

    /// Sends a request to a pod or another port of a node, over http or https, whose address stands in it as a number.
    /// Certificates are not verified, as the
    /// proxies of Kubernetes do not, for nobody could have certified an address of a pod.
    ///
    /// # Errors
    /// The address must not be called, or what kept the other side from answering.
    pub(crate) async fn send_anywhere(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let client = self.any_client()?;
        let authority = request.uri().authority().map(ToString::to_string);
        let host = request.uri().host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let address = address.map_err(|_| format!("dial tcp: {host:?} is no address"))?;
        self.reach
            .check(address)
            .map_err(|why| format!("dial tcp {host}: {why}"))?;
        client.request(request).await.map_err(|error| {
            let authority = authority.unwrap_or_default();
            format!("dial tcp {authority}: {}", dial::cause(&error))
        })
    }

    fn any_client(&self) -> Result<AnyClient, String> {
        let mut kept = self.anywhere.lock();
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let trust = Trust {
            blindly: true,
            ..Trust::default()
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust.client_config(None)?)
            .https_or_http()
            .enable_http1()
            .build();
        let client: AnyClient = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(kept.insert(client).clone())
    }

    fn client(&self, target: &Target) -> Result<Client, String> {
        let key = (target.place.origin(), target.trust.clone());
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let tls = target.trust.client_config(self.identity.as_ref())?;
        let dial = Dial::new(&target.place, self.source.clone(), self.reach.clone());
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(dial);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// An answer that is no success, in client-go's words.
fn refusal(code: StatusCode, body: &[u8]) -> String {
    let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if status["kind"] == "Status"
        && let Some(message) = status["message"].as_str()
    {
        return message.to_owned();
    }
    let text: String = String::from_utf8_lossy(body)
        .trim()
        .chars()
        .take(1024)
        .collect();
    match code.as_u16() {
        401 => "the server has asked for the client to provide credentials".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        500.. => {
            let text = if text.is_empty() { "unknown" } else { &*text };
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        code => {
            format!(
                "the server responded with the status code {code} but did not return more information"
            )
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
