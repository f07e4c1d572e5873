//! A TLS server on loopback for tests: answers with whatever a closure makes of the request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{Certificate, CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What it answers: a code, headers, a body. Code 0 never answers.
pub(crate) type Answered = (u16, Vec<(&'static str, String)>, String);

/// A running server; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Its certificate, which is its own authority.
    pub(crate) pem: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The configuration of a server with a self-signed certificate for `names`, and that certificate.
pub(crate) fn self_signed(names: &[&str]) -> (Arc<rustls::ServerConfig>, Certificate) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (Arc::new(tls), certificate)
}

impl Server {
    /// Serves under `names` with a self-signed certificate.
    pub(crate) async fn start(
        names: &[&str],
        answer: impl Fn(&Asked) -> Answered + Send + Sync + 'static,
    ) -> Self {
        let (tls, certificate) = self_signed(names);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            pem: certificate.pem(),
            asked: Arc::default(),
        };
        let asked = server.asked.clone();
        let answer = Arc::new(answer);
        let acceptor = TlsAcceptor::from(tls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asked, answer) = (acceptor.clone(), asked.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (asked, answer) = (asked.clone(), answer.clone());
                        async move { Ok::<_, Infallible>(respond(request, &asked, &*answer).await) }
                    });
                    // A client that hangs up in the middle is part of the tests.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Its address as a URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A `caBundle`.
    pub(crate) fn bundle(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&self.pem)
    }
}

async fn respond(
    request: Request<Incoming>,
    asked: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Answered + Send + Sync),
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let one = Asked {
        path: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    asked.lock().push(one.clone());
    let (code, headers, text) = answer(&one);
    if code == 0 {
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
