//! TLS as the servers of a cluster speak it: client certificates are asked for, never required.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, Leaf};
use crate::auth::UserInfo;

/// Who is at the other end of a TLS connection, by its certificate.
///
/// The server makes one when a handshake is done and gives it to every request of the connection as an
/// extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A certificate of the cluster's CA.
    Verified {
        /// The identity in it.
        user: Arc<UserInfo>,
        /// Second after 1970 when the certificate ends; a connection may outlive it.
        not_after: i64,
    },
    /// A certificate that proves nothing. Other credentials of the request still count.
    Rejected {
        /// Why, for the log.
        reason: String,
    },
}

/// Everything needed to judge client certificates.
pub(super) struct Trust {
    pub(super) roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Trusts the certificates that `ca` issued.
    pub(super) fn new(ca: CertificateDer<'static>) -> Result<Self, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Tls {
            subject: "the certificate authority".into(),
            source,
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(|error| failed(error.into()))?;
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(Self { roots, verifier })
    }

    /// Judges the certificates a client showed; `None` when it showed none.
    pub(super) fn judge(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        now: SystemTime,
    ) -> Option<Peer> {
        let (end, intermediates) = chain?.split_first()?;
        let rejected = |reason: String| Some(Peer::Rejected { reason });
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        if let Err(error) = self.verifier.verify_client_cert(end, intermediates, now) {
            return rejected(error.to_string());
        }
        match X509Certificate::from_der(end) {
            Ok((_, certificate)) => Some(identity(&certificate)),
            Err(error) => rejected(error.to_string()),
        }
    }

    /// Serves with `leaf`; HTTP/2 is preferred, HTTP/1.1 spoken.
    pub(super) fn server_config(&self, leaf: Arc<Leaf>) -> Result<ServerConfig, Error> {
        let subject = leaf.purpose.subject().to_owned();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls {
                subject,
                source: error.into(),
            })?
            .with_client_cert_verifier(Arc::new(Deferred(self.verifier.clone())))
            .with_cert_resolver(leaf);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Calls servers of the cluster as `leaf`.
    pub(super) fn client_config(&self, leaf: Arc<Leaf>) -> Result<ClientConfig, Error> {
        let subject = leaf.purpose.subject().to_owned();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls {
                subject,
                source: error.into(),
            })?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(leaf))
    }
}

/// User and groups of a verified certificate: common name and organizations.
fn identity(certificate: &X509Certificate<'_>) -> Peer {
    let subject = certificate.subject();
    let name: String = subject
        .iter_common_name()
        .filter_map(|a| a.as_str().ok())
        .collect();
    if name.is_empty() {
        return Peer::Rejected {
            reason: "the client certificate has no common name".into(),
        };
    }
    let groups = subject.iter_organization().filter_map(|a| a.as_str().ok());
    Peer::Verified {
        user: Arc::new(UserInfo::new(name, groups)),
        not_after: certificate.validity().not_after.timestamp(),
    }
}

/// Lets the handshake pass whatever the certificate is worth, as long as the client owns its key.
///
/// A useless certificate must not end the connection: the request is to be answered with 401, or by its
/// bearer token. [`Trust::judge`] verifies the chain right after the handshake, and only its verdict
/// gives an identity.
struct Deferred(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferred")
    }
}

impl ClientCertVerifier for Deferred {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
