//! Making one certificate, and reading back what one says.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Certificates are valid a little before they were made, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Common name of the CA certificates davit makes.
const AUTHORITY_NAME: &str = "davit-ca";

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPairPem {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl fmt::Debug for KeyPairPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPairPem")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client: the user is the common name, its group the organization.
    Client {
        /// User name.
        user: String,
        /// The one group davit's own identities have.
        group: String,
    },
    /// A server under these DNS names and IP addresses. A node's server is also given a subject.
    Server {
        /// Common name, for people who look at the certificate.
        subject: String,
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
}

impl Purpose {
    /// Whom a certificate of this purpose is for, for messages.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Client { user, .. } => user,
            Self::Server { subject, .. } => subject,
        }
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = match self {
            Self::Client { group, .. } => {
                let mut params = CertificateParams::default();
                params.distinguished_name = DistinguishedName::new();
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, group.as_str());
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params
            }
            Self::Server { names, .. } => {
                let mut params = CertificateParams::new(names.clone())?;
                params.distinguished_name = DistinguishedName::new();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params
            }
        };
        params
            .distinguished_name
            .push(DnType::CommonName, self.subject());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// Issues a certificate with a fresh key.
pub(super) fn leaf(
    purpose: &Purpose,
    issuer: &Issuer<'_, &KeyPair>,
    validity: Validity,
) -> Result<KeyPairPem, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = purpose.params()?;
    validity.set(&mut params);
    let certificate = params.signed_by(&key, issuer)?;
    Ok(KeyPairPem {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A self-signed CA certificate for `key`.
pub(super) fn authority(key: &KeyPair, validity: Validity) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    validity.set(&mut params);
    Ok(params.self_signed(key)?.pem())
}

/// When a certificate begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// From now on for so long, but not after its issuer.
    pub(super) fn new(now: OffsetDateTime, ttl: Duration, issuer_end: OffsetDateTime) -> Self {
        Self {
            not_before: now - CLOCK_SKEW,
            not_after: (now + ttl).min(issuer_end),
        }
    }

    pub(super) fn set(self, params: &mut CertificateParams) {
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        set_serial(params);
    }
}

fn set_serial(params: &mut CertificateParams) {
    // A renewed CA certificate has the old key; only the serial number tells the two apart.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

/// The facts of a certificate that decide whether it can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    not_before: OffsetDateTime,
    /// When it should be replaced: after two thirds of its life.
    pub(super) renew_at: OffsetDateTime,
    /// When it ends.
    pub(super) not_after: OffsetDateTime,
    /// Identifier of the key that signed it.
    pub(super) issuer_key: Option<Vec<u8>>,
    /// Identifier of its own key.
    pub(super) own_key: Option<Vec<u8>>,
    /// Its public key, as the certificate spells it.
    pub(super) public_key: Vec<u8>,
    /// What was signed, and the signature.
    signed: (Vec<u8>, Vec<u8>),
    common_name: String,
    organizations: Vec<String>,
    names: Vec<String>,
}

impl Facts {
    /// Reads a DER certificate.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        let start = validity.not_before.to_datetime();
        let not_after = validity.not_after.to_datetime();
        let subject = certificate.subject();
        let text = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            attributes
                .iter()
                .filter_map(|a| a.as_str().ok().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let mut facts = Self {
            not_before: start,
            renew_at: start + (not_after - start) * 2 / 3,
            not_after,
            issuer_key: None,
            own_key: None,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            signed: (
                certificate.tbs_certificate.as_ref().to_vec(),
                certificate.signature_value.data.to_vec(),
            ),
            common_name: text(subject.iter_common_name().collect()).concat(),
            organizations: text(subject.iter_organization().collect()),
            names: Vec::new(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    facts.issuer_key = id.key_identifier.as_ref().map(|key| key.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(id) => facts.own_key = Some(id.0.to_vec()),
                ParsedExtension::SubjectAlternativeName(list) => {
                    facts.names = list.general_names.iter().filter_map(name_of).collect();
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Whether it can be used and is not yet to be renewed.
    pub(super) fn is_good(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now < self.renew_at
    }

    /// Whether the key of another certificate signed this one, and nothing was changed since. A key of another kind than davit makes
    /// is known by its identifier only.
    pub(super) fn is_issued_by(&self, issuer: &Self) -> bool {
        let (content, signature) = &self.signed;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &issuer.public_key);
        let made_here = issuer.is_own_authority();
        self.issuer_key == issuer.own_key && (!made_here || key.verify(content, signature).is_ok())
    }

    /// Whether davit made this CA certificate, so that it may renew it under the same name.
    pub(super) fn is_own_authority(&self) -> bool {
        self.common_name == AUTHORITY_NAME
    }

    /// Whether the certificate says what one issued for `purpose` would say.
    pub(super) fn serves(&self, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Client { user, group } => {
                self.common_name == *user && self.organizations == [group.as_str()]
            }
            Purpose::Server { subject, names } => {
                self.common_name == *subject && names.iter().all(|name| self.names.contains(name))
            }
        }
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()?;
            Some(ip.to_string())
        }
        _ => None,
    }
}
