//! What the signers of `kubernetes.io` put their name to, and what they refuse.

use std::time::Duration;

use serde_json::Value;

use super::{
    CLIENT, NODE_CLIENT, NODE_SERVING, are, node_client_flaw, request_of, signer_of, usages_of,
};
use crate::pki::{Authority, CertificateRequest};

/// How long certificates last at most.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// And at least, whatever is asked for.
const SHORTEST: Duration = Duration::from_secs(600);

/// The certificate in PEM, or why the signer refuses; `None` for signers that are not davit's, among them
/// `kubernetes.io/legacy-unknown`, which has no meaning a certificate could be relied on for.
pub(super) fn plan(authority: &Authority, object: &Value) -> Option<Result<String, String>> {
    let signer = signer_of(object);
    if !matches!(signer, CLIENT | NODE_CLIENT | NODE_SERVING) {
        return None;
    }
    let seconds = object["spec"]["expirationSeconds"].as_u64();
    let ttl = seconds
        .map_or(LONGEST, Duration::from_secs)
        .clamp(SHORTEST, LONGEST);
    let usages = usages_of(object);
    Some(
        request_of(object).and_then(|request| match flaw(signer, &request, &usages) {
            Some(flaw) => Err(flaw.to_owned()),
            None => authority.sign_request(&request, &usages, ttl),
        }),
    )
}

fn flaw(signer: &str, request: &CertificateRequest, usages: &[String]) -> Option<&'static str> {
    let encryption = ["digital signature", "key encipherment"];
    match signer {
        NODE_CLIENT => node_client_flaw(request, usages),
        NODE_SERVING => serving_flaw(request, usages),
        _ if !are(usages, &["client auth"], &encryption) => {
            Some("invalid usage for client certificate")
        }
        _ => None,
    }
}

fn serving_flaw(request: &CertificateRequest, usages: &[String]) -> Option<&'static str> {
    let names = request.names;
    if request.organizations != ["system:nodes"] {
        Some("subject organization is not system:nodes")
    } else if names.dns == 0 && names.ip == 0 {
        Some("DNS or IP subjectAltName is required")
    } else if names.email > 0 {
        Some("Email subjectAltNames are not allowed")
    } else if names.other > 0 {
        Some("URI subjectAltNames are not allowed")
    } else if !request.common_name.starts_with("system:node:") {
        Some("subject common name does not begin with system:node: ")
    } else if !are(
        usages,
        &["digital signature", "server auth"],
        &["key encipherment"],
    ) {
        Some("usages did not match [digital signature key encipherment server auth]")
    } else {
        None
    }
}
