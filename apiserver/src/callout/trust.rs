//! Whose certificates are believed when a server is called.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How a server proves who it is, and whether it learns who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Certificates in PEM; the system's own when there are none.
    pub(crate) bundle: Option<Arc<[u8]>>,
    /// Any certificate will do (`insecureSkipTLSVerify`).
    pub(crate) blindly: bool,
    /// The API server shows its client certificate.
    pub(crate) identified: bool,
    /// Shown instead of it.
    pub(crate) credential: Option<Credential>,
}

/// A client certificate with its key, in PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    certificate: Arc<[u8]>,
    key: Arc<[u8]>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl Credential {
    /// # Errors
    /// Text for the user when they are not PEM.
    pub(crate) fn new(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let credential = Self {
            certificate: certificate.into(),
            key: key.into(),
        };
        credential.parts()?;
        Ok(credential)
    }

    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("the client certificate is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err("the client certificate is not PEM".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("the client key is not PEM: {error}"))?;
        Ok((chain, key))
    }
}

impl Trust {
    /// Trusts a bundle in PEM; the system's certificates when it is empty.
    pub(crate) fn bundle(pem: &[u8]) -> Self {
        Self {
            bundle: (!pem.is_empty()).then(|| pem.into()),
            ..Self::default()
        }
    }

    pub(super) fn client_config(
        &self,
        identity: Option<&Arc<dyn ResolvesClientCert>>,
    ) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(provider.clone())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        if let Some(credential) = &self.credential {
            let (chain, key) = credential.parts()?;
            let config = builder.with_client_auth_cert(chain, key);
            return config
                .map_err(|error| format!("the client certificate is not usable: {error}"));
        }
        Ok(match identity.filter(|_| self.identified) {
            Some(identity) => builder.with_client_cert_resolver(identity.clone()),
            None => builder.with_no_client_auth(),
        })
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        if self.blindly {
            return Ok(Arc::new(Verifier {
                inner: None,
                roots: Vec::new(),
                provider,
            }));
        }
        let roots: Vec<CertificateDer<'static>> = match &self.bundle {
            Some(pem) => CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("the CA bundle is not PEM: {error}"))?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let inner = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone())
            .build()
            .map_err(|_| "the CA bundle holds no certificate".to_owned())?;
        Ok(Arc::new(Verifier {
            inner: Some(inner),
            roots,
            provider,
        }))
    }
}

/// Accepts what the Web PKI rules accept, and a server whose very certificate is in the bundle: many webhooks
/// make one self-signed certificate that is its own authority.
#[derive(Debug)]
struct Verifier {
    /// None trusts blindly.
    inner: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        if !self.roots.iter().any(|root| root == end_entity) {
            return inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        }
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (_, certificate) = X509Certificate::from_der(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let validity = certificate.validity();
        if seconds > validity.not_after.timestamp() {
            return Err(rustls::Error::InvalidCertificate(CertificateError::Expired));
        }
        if seconds < validity.not_before.timestamp() {
            return Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet,
            ));
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
