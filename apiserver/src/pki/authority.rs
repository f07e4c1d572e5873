//! The certificate authority: what it is made of, what it issues, how it stays fresh.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ServerConfig};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::issue::{self, Facts, Validity};
use super::tls::{Peer, Trust};
use super::{CertificateRequest, Error, KeyPairPem, Kubeconfig, Leaf, Purpose, SigningKey, file};
use crate::clock::Clock;

/// How long the CA certificate lasts.
const CA_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the identities of the server last.
const LEAF_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// The longest sleep between two looks at what is due: wall clocks jump, timers do not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The cluster's certificate authority.
///
/// # Guarantees
/// - The CA's key never changes, so whatever it issued stays valid until its own end, even after the
///   CA certificate was renewed.
/// - Nothing is renewed by a clock that is not believed ([`Clock::wrong`]), and what is issued then is dated by the time that is known.
/// - [`Authority::maintain`] renews every [`Leaf`], kubeconfig file and the CA certificate after two
///   thirds of their life, without a restart.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    key: KeyPair,
    certificate: ArcSwap<CaCertificate>,
    trust: Trust,
    service_account: Arc<SigningKey>,
    kept: Mutex<Kept>,
    clock: Clock,
}

#[derive(Debug)]
struct CaCertificate {
    pem: String,
    der: CertificateDer<'static>,
    facts: Facts,
}

/// What is to be renewed.
#[derive(Debug, Default)]
struct Kept {
    leaves: Vec<Arc<Leaf>>,
    kubeconfigs: Vec<KubeconfigFile>,
}

#[derive(Debug)]
struct KubeconfigFile {
    path: PathBuf,
    server: String,
    identity: Arc<Leaf>,
}

impl Authority {
    /// Opens the authority in `dir`, making whatever is missing.
    ///
    /// # Errors
    /// A file that cannot be read or written, or a damaged key. A damaged key is never replaced.
    pub fn load_or_create(dir: &Path, clock: Clock) -> Result<Arc<Self>, Error> {
        file::make_private_dir(dir)?;
        let key = load_or_create_key(&dir.join("ca.key"))?;
        let now = clock.now().into();
        let certificate = CaCertificate::load_or_create(&dir.join("ca.crt"), &key, now)?;
        let trust = Trust::new(certificate.der.clone())?;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            key,
            certificate: ArcSwap::from_pointee(certificate),
            trust,
            service_account: Arc::new(SigningKey::load_or_create(
                &dir.join("service-account.key"),
            )?),
            kept: Mutex::default(),
            clock,
        }))
    }

    /// The time that decides what is due.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now().into()
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> String {
        self.certificate.load().pem.clone()
    }

    /// The key that signs ServiceAccount tokens.
    pub fn service_account_key(&self) -> Arc<SigningKey> {
        self.service_account.clone()
    }

    /// Issues a client certificate for `user` in `group` that ends after `ttl`. It is not kept.
    pub fn issue_client(
        &self,
        user: &str,
        group: &str,
        ttl: Duration,
    ) -> Result<KeyPairPem, Error> {
        self.issue(
            &Purpose::Client {
                user: user.to_owned(),
                group: group.to_owned(),
            },
            ttl,
        )
    }

    /// Issues a server certificate for DNS names and IP addresses that ends after `ttl`. It is not kept.
    pub fn issue_server(
        &self,
        subject: &str,
        names: &[String],
        ttl: Duration,
    ) -> Result<KeyPairPem, Error> {
        self.issue(
            &Purpose::Server {
                subject: subject.to_owned(),
                names: names.to_vec(),
            },
            ttl,
        )
    }

    /// Signs a request for these usages; the certificate in PEM ends after `ttl`.
    ///
    /// # Errors
    /// What the cryptographic libraries refuse, in words.
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        ttl: Duration,
    ) -> Result<String, String> {
        let ca = self.certificate.load();
        let issuer = Issuer::from_ca_cert_der(&ca.der, &self.key).map_err(|e| e.to_string())?;
        let validity = Validity::new(self.now(), ttl, ca.facts.not_after);
        request.sign(&issuer, &self.key, validity, usages)
    }

    /// The identity kept in `<dir>/<file>.pem`: the one found there if it is still good for `purpose`,
    /// else a new one. It is renewed from now on.
    pub fn leaf(&self, file: &str, purpose: Purpose) -> Result<Arc<Leaf>, Error> {
        let path = self.dir.join(format!("{file}.pem"));
        let ca = self.certificate.load();
        let now = self.now();
        let leaf = match Leaf::load(&path, &purpose, &ca.facts, now)? {
            Some(leaf) => leaf,
            None => {
                let pem = self.issue(&purpose, LEAF_TTL)?;
                Leaf::create(path, purpose, pem)?
            }
        };
        let leaf = Arc::new(leaf);
        self.kept.lock().leaves.push(leaf.clone());
        Ok(leaf)
    }

    /// TLS for a server with this identity. Client certificates are asked for and judged by
    /// [`Authority::judge_peer`].
    pub fn server_config(&self, leaf: Arc<Leaf>) -> Result<Arc<ServerConfig>, Error> {
        self.trust.server_config(leaf).map(Arc::new)
    }

    /// TLS for a client that trusts this CA only and shows this identity.
    pub fn client_config(&self, leaf: Arc<Leaf>) -> Result<ClientConfig, Error> {
        self.trust.client_config(leaf)
    }

    /// Who is at the other end, by the certificates of a finished handshake
    /// (`ServerConnection::peer_certificates`); `None` without a certificate.
    pub fn judge_peer(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
        self.trust.judge(chain, self.clock.now())
    }

    /// Writes a kubeconfig with this identity to `path` (mode 0600), and again at every renewal.
    pub fn keep_kubeconfig(
        &self,
        path: PathBuf,
        server: String,
        identity: Arc<Leaf>,
    ) -> Result<(), Error> {
        let file = KubeconfigFile {
            path,
            server,
            identity,
        };
        self.write_kubeconfig(&file)?;
        self.kept.lock().kubeconfigs.push(file);
        Ok(())
    }

    /// Renews what is due until `shutdown`. A failed renewal is logged and tried again within the hour;
    /// what is in use stays in use.
    pub async fn maintain(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let now = self.now();
            if let Err(error) = self.renew_due(now) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot renew certificates"
                );
            }
            let pause = self.next_due().map_or(LONGEST_SLEEP, |due| {
                Duration::try_from(due - now)
                    .unwrap_or_default()
                    .min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause.max(Duration::from_secs(60))) => {}
            }
        }
    }

    /// Renews everything whose time came by `now`.
    pub(super) fn renew_due(&self, now: OffsetDateTime) -> Result<(), Error> {
        let mut renewed = false;
        if self.certificate.load().is_due(now) {
            let fresh = CaCertificate::create(&self.dir.join("ca.crt"), &self.key, now)?;
            self.certificate.store(Arc::new(fresh));
            renewed = true;
        }
        let kept = self.kept.lock();
        for leaf in kept.leaves.iter().filter(|leaf| !leaf.is_good(now)) {
            leaf.renew(self.issue(&leaf.purpose, LEAF_TTL)?)?;
            tracing::info!(subject = leaf.purpose.subject(), "renewed a certificate");
            renewed = true;
        }
        if renewed {
            kept.kubeconfigs
                .iter()
                .try_for_each(|file| self.write_kubeconfig(file))?;
        }
        Ok(())
    }

    /// When the next renewal is due.
    fn next_due(&self) -> Option<OffsetDateTime> {
        let ca = self.certificate.load().facts.renew_at;
        let kept = self.kept.lock();
        kept.leaves
            .iter()
            .map(|leaf| leaf.renew_at())
            .chain([ca])
            .min()
    }

    fn issue(&self, purpose: &Purpose, ttl: Duration) -> Result<KeyPairPem, Error> {
        let ca = self.certificate.load();
        Issuer::from_ca_cert_der(&ca.der, &self.key)
            .and_then(|issuer| {
                let validity = Validity::new(self.now(), ttl, ca.facts.not_after);
                issue::leaf(purpose, &issuer, validity)
            })
            .map_err(|source| Error::Issue {
                subject: purpose.subject().to_owned(),
                source,
            })
    }

    fn write_kubeconfig(&self, file: &KubeconfigFile) -> Result<(), Error> {
        let identity = file.identity.pem();
        let ca = self.ca_pem();
        let text = Kubeconfig {
            server: &file.server,
            ca: &ca,
            identity: &identity,
        }
        .to_yaml();
        file::replace(&file.path, &text)
    }
}

fn load_or_create_key(path: &Path) -> Result<KeyPair, Error> {
    if let Some(pem) = file::read(path)? {
        return KeyPair::from_pem(&pem).map_err(|error| Error::Damaged {
            path: path.to_owned(),
            what: error.to_string(),
        });
    }
    let key = KeyPair::generate().map_err(ca_failed)?;
    file::replace(path, &key.serialize_pem())?;
    Ok(key)
}

fn ca_failed(source: rcgen::Error) -> Error {
    Error::Issue {
        subject: "the certificate authority".into(),
        source,
    }
}

impl CaCertificate {
    fn load_or_create(path: &Path, key: &KeyPair, now: OffsetDateTime) -> Result<Self, Error> {
        let Some(pem) = file::read(path)? else {
            return Self::create(path, key, now);
        };
        let loaded = Self::parse(pem).map_err(|what| Error::Damaged {
            path: path.to_owned(),
            what,
        })?;
        if loaded.facts.public_key != key.public_key_raw() {
            let what = "it does not belong to ca.key".to_owned();
            return Err(Error::Damaged {
                path: path.to_owned(),
                what,
            });
        }
        if loaded.is_due(now) {
            Self::create(path, key, now)
        } else {
            Ok(loaded)
        }
    }

    /// Whether it is time to renew it, or it was made by a clock that was ahead. A CA the user brought keeps its name and extensions, so only the
    /// user can renew it.
    fn is_due(&self, now: OffsetDateTime) -> bool {
        !self.facts.is_good(now) && self.facts.is_own_authority()
    }

    fn create(path: &Path, key: &KeyPair, now: OffsetDateTime) -> Result<Self, Error> {
        let validity = Validity::new(now, CA_TTL, now + CA_TTL);
        let pem = issue::authority(key, validity).map_err(ca_failed)?;
        file::replace(path, &pem)?;
        Self::parse(pem).map_err(|what| Error::Damaged {
            path: path.to_owned(),
            what,
        })
    }

    fn parse(pem: String) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let facts = Facts::read(&der)?;
        Ok(Self { pem, der, facts })
    }
}
