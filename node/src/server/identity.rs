//! Who the node API is and whom it lets in.
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::agent::ServingIdentity;

/// Clients of these groups may read everything of the node. The API server is in the first, which has no rights but this: it
/// calls the address that a node says is its own, and may be answered by somebody else, even by itself.
const TRUSTED_GROUPS: [&str; 2] = ["davit:node-clients", "system:masters"];

/// The node API's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text holds no certificate or key.
    #[error("the {what} of the node API cannot be read")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The authority cannot be used to verify clients.
    #[error("the cluster's authority cannot verify clients")]
    Authority(#[source] rustls::server::VerifierBuilderError),
    /// Certificate and key do not fit.
    #[error("the certificate of the node API cannot be used")]
    Certificate(#[source] rustls::Error),
}

/// How connections are secured: clients must show a certificate of the cluster's authority.
///
/// # Errors
/// See [`TlsError`].
pub(crate) fn tls(identity: &ServingIdentity) -> Result<Arc<ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates("client authority", &identity.client_ca_pem)? {
        roots.add(root).map_err(TlsError::Certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Authority)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Certificate)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&identity.certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|source| TlsError::Pem { what, source })
}

impl ServingIdentity {
    /// An identity that stays as it is, all of it in PEM: the certificate chain, leaf first, its private key, and the
    /// cluster's authority.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn from_pem(
        certificate: &str,
        key: &str,
        client_ca: impl Into<String>,
    ) -> Result<Self, TlsError> {
        let chain = certificates("certificate", certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|source| TlsError::Pem {
                what: "key",
                source,
            })?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider);
        let certified = certified.map_err(TlsError::Certificate)?;
        Ok(Self {
            certificate: Arc::new(SingleCertAndKey::from(certified)),
            client_ca_pem: client_ca.into(),
        })
    }
}

/// Whether the verified client is in a trusted group; other users of the cluster have no business here.
pub(super) fn is_trusted(chain: Option<&[CertificateDer<'_>]>) -> bool {
    let Some(leaf) = chain.and_then(<[CertificateDer<'_>]>::first) else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let mut groups = certificate
        .subject()
        .iter_organization()
        .filter_map(|group| group.as_str().ok());
    groups.any(|group| TRUSTED_GROUPS.contains(&group))
}
