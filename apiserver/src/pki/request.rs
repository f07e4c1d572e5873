//! Certificates for keys that others made: reading a request, and signing it.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SigningKey as _,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::Validity;

/// A request for a certificate (PKCS #10) whose signature was checked.
#[derive(Debug)]
pub struct CertificateRequest {
    params: CertificateSigningRequestParams,
    /// The subject as it was written.
    subject: Vec<u8>,
    /// Common name of the subject.
    pub common_name: String,
    /// Organizations of the subject: a client's groups.
    pub organizations: Vec<String>,
    /// How many alternative names of each sort it asks for.
    pub names: AlternativeNames,
}

/// Numbers of alternative names by their sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlternativeNames {
    /// DNS names.
    pub dns: usize,
    /// IP addresses.
    pub ip: usize,
    /// Mail addresses.
    pub email: usize,
    /// URIs and everything else.
    pub other: usize,
}

impl CertificateRequest {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// What is wrong with it, in words for its author.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        let params =
            CertificateSigningRequestParams::from_der(&der).map_err(|error| error.to_string())?;
        let (_, read) =
            X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        let subject = &read.certification_request_info.subject;
        let common_name = subject.iter_common_name().filter_map(|a| a.as_str().ok());
        let organizations = subject.iter_organization();
        let organizations = organizations.filter_map(|a| a.as_str().ok().map(str::to_owned));
        let mut names = AlternativeNames::default();
        for name in &params.params.subject_alt_names {
            match name {
                SanType::DnsName(_) => names.dns += 1,
                SanType::IpAddress(_) => names.ip += 1,
                SanType::Rfc822Name(_) => names.email += 1,
                _ => names.other += 1,
            }
        }
        Ok(Self {
            subject: subject.as_raw().to_vec(),
            common_name: common_name.collect(),
            organizations: organizations.collect(),
            names,
            params,
        })
    }

    /// The same request for another subject, in DER.
    #[cfg(test)]
    pub(crate) fn set_subject(&mut self, subject: Vec<u8>) {
        self.subject = subject;
    }

    /// The certificate in PEM: subject and alternative names as asked for, never a CA. `usages` are Kubernetes' names; those it does not know are left out.
    pub(super) fn sign(
        &self,
        issuer: &Issuer<'_, &KeyPair>,
        key: &KeyPair,
        validity: Validity,
        usages: &[String],
    ) -> Result<String, String> {
        let mut params = CertificateParams::default();
        params
            .subject_alt_names
            .clone_from(&self.params.params.subject_alt_names);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = usages.iter().filter_map(|usage| key_usage(usage)).collect();
        params.extended_key_usages = usages.iter().filter_map(|u| extended_usage(u)).collect();
        params.use_authority_key_identifier_extension = true;
        validity.set(&mut params);
        let certificate = params
            .signed_by(&self.params.public_key, issuer)
            .map_err(|error| error.to_string())?;
        let der = with_subject(certificate.der(), &self.subject, key)?;
        Ok(to_pem(&der))
    }
}

fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        _ => return None,
    })
}

fn extended_usage(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match usage {
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        _ => return None,
    })
}

/// The certificate with another subject, signed again. Names are taken over byte by byte because a
/// [`rcgen::DistinguishedName`] holds one attribute of a kind, while a user's groups are many organizations.
fn with_subject(der: &[u8], subject: &[u8], key: &KeyPair) -> Result<Vec<u8>, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let whole = certificate.tbs_certificate.as_ref();
    let old = certificate.tbs_certificate.subject.as_raw();
    let at = (old.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
    let broken = || "the certificate made cannot be read".to_owned();
    let head = header_bytes(whole).ok_or_else(broken)?;
    let before = at.and_then(|at| whole.get(head..at)).ok_or_else(broken)?;
    let after = at
        .and_then(|at| whole.get(at + old.len()..))
        .ok_or_else(broken)?;
    let signed = encoded(SEQUENCE, &[before, subject, after].concat());
    let signature = key.sign(&signed).map_err(|error| error.to_string())?;
    let mut bits = vec![0];
    bits.extend(signature);
    // The algorithm stands between what is signed and the signature.
    let outer = header_bytes(der).ok_or_else(broken)?;
    let rest = der.get(outer + whole.len()..).ok_or_else(broken)?;
    let algorithm = header_bytes(rest).zip(length(rest));
    let algorithm = algorithm.and_then(|(head, length)| rest.get(..head + length));
    let algorithm = algorithm.ok_or_else(broken)?;
    let bits = encoded(BIT_STRING, &bits);
    Ok(encoded(SEQUENCE, &[&signed, algorithm, &bits].concat()))
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Bytes of tag and length of a DER element with a tag of one byte.
fn header_bytes(der: &[u8]) -> Option<usize> {
    let first = *der.get(1)?;
    Some(if first < 0x80 {
        2
    } else {
        2 + usize::from(first & 0x7f)
    })
}

/// Bytes of its content.
fn length(der: &[u8]) -> Option<usize> {
    let first = *der.get(1)?;
    if first < 0x80 {
        return Some(first.into());
    }
    let digits = der.get(2..2 + usize::from(first & 0x7f))?;
    Some(
        digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
    )
}

fn encoded(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if let Some(short) = u8::try_from(length).ok().filter(|length| *length < 0x80) {
        out.push(short);
    } else {
        let digits = length.to_be_bytes();
        let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
        out.push(0x80 | digits.len() as u8);
        out.extend(digits);
    }
    out.extend(content);
    out
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// What a signed certificate ends at, in seconds after 1970; for those who clean up.
pub(crate) fn end_of(pem: &[u8]) -> Option<i64> {
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
