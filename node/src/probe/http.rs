//! Probing by an HTTP request; also carries out `httpGet` hooks.
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue, LOCATION};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{HTTPGetAction, HTTPHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Target, Verdict, tcp};

const MOST_REDIRECTS: usize = 10;
const AGENT: &str = "kube-probe/1.37";

pub(super) async fn check(target: &Target, action: &HTTPGetAction, timeout: Duration) -> Verdict {
    match get(target, action, timeout).await {
        Ok(Answer {
            status: 200..=399, ..
        }) => Verdict::Pass,
        Ok(Answer { status, .. }) => {
            Verdict::Fail(format!("HTTP probe failed with statuscode: {status}"))
        }
        Err(Failure::Request(message)) => Verdict::Error(message),
        Err(Failure::Exchange(message)) => Verdict::Fail(message),
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code; a redirect to another host is not followed and counts as it is.
    pub(crate) status: u16,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request cannot be made.
    Request(String),
    /// The server did not answer.
    Exchange(String),
}

/// Where a request goes.
#[derive(Clone)]
struct Place {
    https: bool,
    host: Option<String>,
    ip: IpAddr,
    on_host: bool,
    port: u16,
    path: String,
}

impl Place {
    fn authority(&self) -> String {
        match (&self.host, self.ip) {
            (Some(host), _) if host.contains(':') => format!("[{host}]:{}", self.port),
            (Some(host), _) => format!("{host}:{}", self.port),
            (None, ip) => std::net::SocketAddr::new(ip, self.port).to_string(),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Where a redirect leads, if it stays on this host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let uri: Uri = location.parse().ok()?;
        let path = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let Some(host) = uri.host() else {
            return Some(Self {
                path,
                ..self.clone()
            });
        };
        let same = self
            .host
            .as_deref()
            .map_or_else(|| self.ip.to_string() == host, |own| own == host);
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        same.then(|| Self {
            https,
            port,
            path,
            ..self.clone()
        })
    }
}

/// Asks as an `httpGet` action says.
pub(crate) async fn get(
    target: &Target,
    action: &HTTPGetAction,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let path = action.path.clone().unwrap_or_default();
    let mut place = Place {
        https: action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: action.host.clone().filter(|host| !host.is_empty()),
        ip: target.ip,
        on_host: target.on_host,
        port: target.port(&action.port).map_err(Failure::Request)?,
        path: if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        },
    };
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let deadline = tokio::time::Instant::now() + timeout;
    for _ in 0..MOST_REDIRECTS {
        let url = place.url();
        let exchange = tokio::time::timeout_at(deadline, exchange(&place, headers, timeout));
        let (status, location) = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Failure::Exchange(message))) => {
                return Err(Failure::Exchange(format!("Get \"{url}\": {message}")));
            }
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {
                let message =
                    format!("Get \"{url}\": context deadline exceeded while awaiting the answer");
                return Err(Failure::Exchange(message));
            }
        };
        match location.and_then(|location| place.redirected(&location)) {
            Some(next) if (300..=399).contains(&status) => place = next,
            _ => return Ok(Answer { status }),
        }
    }
    Err(Failure::Exchange(format!(
        "Get \"{}\": stopped after {MOST_REDIRECTS} redirects",
        place.url()
    )))
}

async fn exchange(
    place: &Place,
    headers: &[HTTPHeader],
    timeout: Duration,
) -> Result<(u16, Option<String>), Failure> {
    let request = request(place, headers)?;
    let stream = tcp::connect(
        place.host.as_deref(),
        place.ip,
        place.port,
        place.on_host,
        timeout,
    )
    .await
    .map_err(Failure::Exchange)?;
    if !place.https {
        return send(stream, request).await;
    }
    let name = place.host.clone().unwrap_or_else(|| place.ip.to_string());
    let name = rustls::pki_types::ServerName::try_from(name)
        .map_err(|error| Failure::Request(error.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(&TRUSTING))
        .connect(name, stream)
        .await
        .map_err(|error| Failure::Exchange(error.to_string()))?;
    send(stream, request).await
}

fn request(place: &Place, headers: &[HTTPHeader]) -> Result<Request<Empty<bytes::Bytes>>, Failure> {
    let mut request = Request::get(place.path.as_str())
        .header("user-agent", AGENT)
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|error| Failure::Request(format!("httpGet path \"{}\": {error}", place.path)))?;
    let map = request.headers_mut();
    for header in headers {
        let name = HeaderName::try_from(&header.name);
        let value = HeaderValue::try_from(&header.value);
        match (name, value) {
            (Ok(name), Ok(value)) if value.is_empty() && name.as_str() != "host" => {
                drop(map.remove(name))
            }
            (Ok(name), Ok(value)) => drop(map.insert(name, value)),
            _ => {
                return Err(Failure::Request(format!(
                    "httpHeaders \"{}\" is no valid HTTP header",
                    header.name
                )));
            }
        }
    }
    if !map.contains_key(HOST) {
        let host = HeaderValue::try_from(place.authority())
            .map_err(|error| Failure::Request(error.to_string()))?;
        map.insert(HOST, host);
    }
    Ok(request)
}

async fn send<S>(
    stream: S,
    request: Request<Empty<bytes::Bytes>>,
) -> Result<(u16, Option<String>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Failure::Exchange(crate::pod::services::chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let ask = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // Nothing of the body is needed; reading its first frame lets well-behaved servers finish their write.
        let _ = response.into_body().frame().await;
        Ok((status, location))
    };
    // The connection is driven beside the request and dropped with it.
    let mut connection = std::pin::pin!(connection);
    let mut ask = std::pin::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer.map_err(failed),
        ended = &mut connection => match ended {
            Ok(()) => ask.await.map_err(failed),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Probes check that a server answers, not who it is.
static TRUSTING: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(trust::Anyone(Arc::clone(&provider)));
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.unwrap_or_else(|_| rustls::ClientConfig::builder());
    Arc::new(
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
});

/// A verifier that accepts every certificate, as kubelet's probes do; signatures are still checked.
mod trust {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(
                message,
                cert,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(
                message,
                cert,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
