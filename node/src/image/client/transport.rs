//! Connections to registries: TLS with the system's authorities, plain http for loopback, and an optional proxy.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use http::uri::Authority;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tower::Service;

use super::origin::{Origin, is_loopback};
use crate::image::error::Error;
use crate::image::store::Options;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

type BoxError = Box<dyn StdError + Send + Sync>;
type HttpClient = Client<HttpsConnector<Dial>, Full<Bytes>>;

/// Shared by all pulls. Certificates are read at the first request, not when a node starts.
#[derive(Debug)]
pub(in crate::image) struct Transport {
    options: Arc<Options>,
    /// By directory of additional authorities; most registries have none and share one.
    clients: Mutex<HashMap<Option<PathBuf>, HttpClient>>,
}

impl Transport {
    pub(in crate::image) fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            clients: Mutex::default(),
        }
    }

    /// True if this registry may be spoken to without TLS.
    pub(super) fn allows_plain(&self, origin: &Origin) -> bool {
        origin.uri("/").is_ok_and(|uri| self.allows_plain_uri(&uri))
    }

    /// True if this address may be spoken to without TLS.
    pub(super) fn allows_plain_uri(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else {
            return false;
        };
        let listed = &self.options.insecure_registries;
        is_loopback(authority.host())
            || listed.iter().any(|host| {
                host.eq_ignore_ascii_case(authority.as_str())
                    || host.eq_ignore_ascii_case(authority.host())
            })
    }

    /// Sends one request; redirects are the caller's business.
    pub(in crate::image) async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, BoxError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let agent = concat!("davit/", env!("CARGO_PKG_VERSION"));
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(agent));
        Ok(self.client(uri)?.request(request).await?)
    }

    /// The client whose authorities fit the host.
    fn client(&self, uri: &Uri) -> Result<HttpClient, BoxError> {
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let dir = self.options.certs_dir.join(authority);
        let dir = (uri.scheme_str() == Some("https") && dir.is_dir()).then_some(dir);
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&dir) {
            return Ok(client.clone());
        }
        let client = self.make(dir.as_deref())?;
        clients.insert(dir, client.clone());
        Ok(client)
    }

    fn make(&self, authorities: Option<&Path>) -> Result<HttpClient, BoxError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let proxy = match &self.options.proxy {
            None => Matcher::from_env(),
            Some(proxy) => {
                let no_proxy = self.options.no_proxy.as_deref().unwrap_or_default();
                Matcher::builder().all(proxy.as_str()).no(no_proxy).build()
            }
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls(authorities)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Dial {
                http,
                proxy: Arc::new(proxy),
            });
        Ok(Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector))
    }

    fn tls(&self, authorities: Option<&Path>) -> Result<rustls::ClientConfig, BoxError> {
        let mut roots = rustls::RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
        }
        roots.add_parsable_certificates(native.certs);
        let mut files = self.options.extra_roots.clone();
        if let Some(dir) = authorities {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                files.extend(
                    path.extension()
                        .is_some_and(|end| end == "crt")
                        .then_some(path),
                );
            }
        }
        for path in &files {
            let named = |reason: BoxError| -> BoxError {
                format!("certificate authority {}: {reason}", path.display()).into()
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| named(e.into()))? {
                let certificate = certificate.map_err(|error| named(error.into()))?;
                roots
                    .add(certificate)
                    .map_err(|error| named(error.into()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }
}

/// True if nobody listens there, so that asking again with TLS is of no use.
pub(super) fn is_refused(error: &Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Opens TCP connections, directly or through the proxy's CONNECT.
#[derive(Clone, Debug)]
struct Dial {
    http: HttpConnector,
    proxy: Arc<Matcher>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let direct = uri.host().is_some_and(is_loopback);
        let intercept = if direct {
            None
        } else {
            self.proxy.intercept(&uri)
        };
        let Some(intercept) = intercept else {
            let connecting = self.http.call(uri);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(intercept.uri().clone(), self.http.clone());
        if let Some(auth) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        Box::pin(async move { Ok(tunnel.call(uri).await?) })
    }
}
