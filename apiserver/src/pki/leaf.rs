//! An identity of the server that renews itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::issue::Facts;
use super::{Error, KeyPairPem, Purpose, file};

/// A certificate and key kept in one file, replaced in place when its time comes.
///
/// TLS configurations hold the leaf itself and ask it at every handshake, so a renewal needs no
/// restart and touches no open connection.
pub struct Leaf {
    path: PathBuf,
    pub(super) purpose: Purpose,
    current: ArcSwap<Current>,
}

struct Current {
    pem: KeyPairPem,
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

impl Leaf {
    /// Wraps a freshly issued pair and writes it to its file.
    pub(super) fn create(path: PathBuf, purpose: Purpose, pem: KeyPairPem) -> Result<Self, Error> {
        let current = Current::new(&purpose, pem)?;
        file::replace(&path, &current.text())?;
        Ok(Self {
            path,
            purpose,
            current: ArcSwap::from_pointee(current),
        })
    }

    /// The leaf of a file, if it is there, intact, for `purpose`, signed by `issuer`, and not
    /// due. Anything else is no error: the file is then replaced.
    pub(super) fn load(
        path: &std::path::Path,
        purpose: &Purpose,
        issuer: &Facts,
        now: OffsetDateTime,
    ) -> Result<Option<Self>, Error> {
        let Some(text) = file::read(path)? else {
            return Ok(None);
        };
        let (key, certificate) = match text.find("-----BEGIN CERTIFICATE-----") {
            Some(at) => text.split_at(at),
            None => return Ok(None),
        };
        let pem = KeyPairPem {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let Ok(current) = Current::new(purpose, pem) else {
            return Ok(None);
        };
        let facts = &current.facts;
        let usable = facts.serves(purpose) && facts.is_issued_by(issuer) && facts.is_good(now);
        Ok(usable.then(|| Self {
            path: path.to_owned(),
            purpose: purpose.clone(),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Puts a new pair in the old one's place, on disk first.
    pub(super) fn renew(&self, pem: KeyPairPem) -> Result<(), Error> {
        let current = Current::new(&self.purpose, pem)?;
        file::replace(&self.path, &current.text())?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// The certificate and key of this moment.
    pub fn pem(&self) -> KeyPairPem {
        self.current.load().pem.clone()
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.current.load().facts.not_after
    }

    /// Whether it can be used and is not yet to be renewed.
    pub(super) fn is_good(&self, now: OffsetDateTime) -> bool {
        self.current.load().facts.is_good(now)
    }

    /// When it should be renewed.
    pub(super) fn renew_at(&self) -> OffsetDateTime {
        self.current.load().facts.renew_at
    }
}

impl Current {
    fn new(purpose: &Purpose, pem: KeyPairPem) -> Result<Self, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Tls {
            subject: purpose.subject().to_owned(),
            source,
        };
        let chain = CertificateDer::pem_slice_iter(pem.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(error.into()))?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| failed(error.into()))?;
        let end = chain
            .first()
            .ok_or_else(|| failed("the file holds no certificate".into()))?;
        let facts = Facts::read(end).map_err(|what| failed(what.into()))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| failed(error.into()))?;
        Ok(Self {
            pem,
            certified: Arc::new(certified),
            facts,
        })
    }

    fn text(&self) -> String {
        format!("{}{}", self.pem.key, self.pem.certificate)
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("path", &self.path)
            .field("purpose", &self.purpose)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

impl ResolvesClientCert for Leaf {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
