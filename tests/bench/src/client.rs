//! A plain HTTP/1.1 client over TLS with the admin's certificate: a few connections, each used by
//! several requests in turn, so that the server is measured and not a client library.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Credentials of a kubeconfig.
#[derive(Clone)]
pub(crate) struct Target {
    port: u16,
    tls: TlsConnector,
}

/// A few keep-alive connections.
pub(crate) struct Pool {
    connections: Vec<Mutex<SendRequest<Full<Bytes>>>>,
}

impl Target {
    pub(crate) fn new(port: u16, kubeconfig: &str) -> Result<Self> {
        let config: Value = serde_saphyr::from_str(kubeconfig)?;
        let field = |path: &str| -> Result<Vec<u8>> {
            let text = config.pointer(path).and_then(Value::as_str);
            let text = text.with_context(|| format!("the kubeconfig has no {path}"))?;
            Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
        };
        let ca = field("/clusters/0/cluster/certificate-authority-data")?;
        let certificate = field("/users/0/user/client-certificate-data")?;
        let key = field("/users/0/user/client-key-data")?;
        let mut roots = rustls::RootCertStore::empty();
        for found in rustls_pemfile::certs(&mut ca.as_slice()) {
            roots.add(found?)?;
        }
        let chain = rustls_pemfile::certs(&mut certificate.as_slice()).collect::<Result<_, _>>()?;
        let key = rustls_pemfile::private_key(&mut key.as_slice())?.context("no private key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self {
            port,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    pub(crate) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self
            .tls
            .connect(ServerName::try_from("127.0.0.1")?, stream)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(crate) async fn pool(&self, size: usize) -> Result<Pool> {
        let mut connections = Vec::with_capacity(size);
        for _ in 0..size {
            connections.push(Mutex::new(self.connect().await?));
        }
        Ok(Pool { connections })
    }
}

impl Pool {
    /// One request on connection `slot`; the answer's body. Anything but 2xx is an error.
    pub(crate) async fn send(
        &self,
        slot: usize,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Bytes> {
        let connection = &self.connections[slot % self.connections.len()];
        let mut sender = connection.lock().await;
        let answer = sender.send_request(request(method, path, body)?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

fn request(
    method: Method,
    path: &str,
    body: Option<(&str, Bytes)>,
) -> Result<Request<Full<Bytes>>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "davit");
    let (kind, bytes) = body.unwrap_or(("", Bytes::new()));
    if !kind.is_empty() {
        builder = builder.header("content-type", kind);
    }
    Ok(builder.body(Full::new(bytes))?)
}

/// Opens a watch; the stream of its body.
pub(crate) async fn watch(target: &Target, path: &str) -> Result<Incoming> {
    let mut sender = target.connect().await?;
    let answer = sender
        .send_request(request(Method::GET, path, None)?)
        .await?;
    if !answer.status().is_success() {
        bail!("{path}: {}", answer.status());
    }
    // The connection ends with its sender, so that must live as long as the stream.
    tokio::spawn(async move {
        let _kept = sender;
        std::future::pending::<()>().await;
    });
    Ok(answer.into_body())
}

/// Whether the server says that it is ready. Anonymous, and blind to the certificate, since this
/// runs before there is a kubeconfig.
pub(crate) fn is_ready(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(builder) = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
    else {
        return false;
    };
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind(provider)))
        .with_no_client_auth();
    let Ok(name) = ServerName::try_from("127.0.0.1") else {
        return false;
    };
    let Ok(session) = rustls::ClientConnection::new(Arc::new(config), name) else {
        return false;
    };
    let mut stream = rustls::StreamOwned::new(session, stream);
    let asked =
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: davit\r\nconnection: close\r\n\r\n");
    let mut text = [0; 16];
    asked.is_ok()
        && stream.read(&mut text).is_ok_and(|read| {
            text.get(..read)
                .is_some_and(|text| text.starts_with(b"HTTP/1.1 200"))
        })
}

#[derive(Debug)]
struct Blind(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
