//! CertificateSigningRequests: nodes' own are approved, approved ones are signed, old ones removed.
//!
//! This runs beside the handlers and not among the controllers, because the key of the authority never leaves
//! this part of davit; what it decides it writes through the API like anybody else.

mod approve;
mod clean;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::{Kind, ObjectSource};
use crate::handler::now;
use crate::pki::CertificateRequest;
use crate::{ApiServer, object};

const REQUESTS: Kind = Kind {
    group: "certificates.k8s.io",
    plural: "certificatesigningrequests",
};
const COLLECTION: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

/// The longest sleep between two looks at what is due: wall clocks jump, timers do not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Follows the requests until the server stops.
pub(crate) async fn run(server: Arc<ApiServer>) {
    loop {
        // Nothing is signed by a clock that is not believed; requests wait.
        let right = server
            .shutdown
            .run_until_cancelled(server.clock().is_right());
        if right.await.is_none() {
            return;
        }
        let cache = &*server.cache;
        let seen = cache.version(REQUESTS);
        let now = server.clock().timestamp();
        let mut next = LONGEST_SLEEP;
        for bytes in cache.list(REQUESTS, "") {
            let Ok(object) = object::parse(&bytes) else {
                continue;
            };
            handle(&server, &object).await;
            next = next.min(clean_up(&server, &object, now).await);
        }
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = cache.changed(REQUESTS, seen) => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// Takes one request a step further, if it waits for this server.
async fn handle(server: &Arc<ApiServer>, object: &Value) {
    let state = State::of(object);
    if state == State::Approved {
        let (path, change) = match sign::plan(&server.authority, object) {
            Some(Ok(certificate)) => (
                "status",
                json!({ "certificate": STANDARD.encode(certificate) }),
            ),
            Some(Err(reason)) => {
                let failed = condition("Failed", "SignerValidationFailure", &reason);
                ("status", json!({ "conditions": with(object, failed) }))
            }
            None => return,
        };
        write(server, object, path, change).await;
    } else if state == State::Pending
        && let Some(message) = approve::plan(&server.authorizer, object).await
    {
        let approved = condition("Approved", "AutoApproved", message);
        let change = json!({ "conditions": with(object, approved) });
        write(server, object, "approval", change).await;
    }
}

/// Removes a request whose time is over; otherwise says how long it may stay.
async fn clean_up(server: &Arc<ApiServer>, object: &Value, now: Timestamp) -> Duration {
    let left = clean::time_left(object, now);
    if !left.is_zero() {
        // At least a second, or an unparsable time would keep this loop busy.
        return left.max(Duration::from_secs(1));
    }
    let metadata = &object["metadata"];
    let options = json!({ "preconditions": {
        "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
    }});
    server
        .request(Method::DELETE, &path_of(object), Some(&options))
        .await;
    LONGEST_SLEEP
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A decision.
    Pending,
    /// The certificate.
    Approved,
    /// Nothing any more.
    Done,
}

impl State {
    fn of(object: &Value) -> Self {
        let status = &object["status"];
        let issued = status["certificate"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        match (
            has(object, "Denied") || has(object, "Failed") || issued,
            has(object, "Approved"),
        ) {
            (true, _) => Self::Done,
            (false, true) => Self::Approved,
            (false, false) => Self::Pending,
        }
    }
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn has(object: &Value, kind: &str) -> bool {
    conditions(object)
        .iter()
        .any(|condition| condition["type"] == kind)
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    let now = now().to_string();
    json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now,
    })
}

fn with(object: &Value, condition: Value) -> Vec<Value> {
    let mut all = conditions(object).to_vec();
    all.push(condition);
    all
}

fn path_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let set = percent_encoding::NON_ALPHANUMERIC;
    format!(
        "{COLLECTION}/{}",
        percent_encoding::utf8_percent_encode(name, set)
    )
}

/// Changes the status. Somebody else's write in between makes this one fail, and the loop looks again.
async fn write(server: &Arc<ApiServer>, object: &Value, subresource: &str, status: Value) {
    let version = &object["metadata"]["resourceVersion"];
    let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
    let path = format!("{}/{subresource}", path_of(object));
    let (code, answer) = server.request(Method::PATCH, &path, Some(&patch)).await;
    if !code.is_success() && code != http::StatusCode::CONFLICT {
        tracing::warn!(path, %code, message = %answer["message"], "a certificate request could not be written");
    }
}

/// The request in an object.
fn request_of(object: &Value) -> Result<CertificateRequest, String> {
    let text = object["spec"]["request"].as_str().unwrap_or_default();
    let pem = STANDARD.decode(text).map_err(|error| error.to_string())?;
    CertificateRequest::parse(&pem)
}

fn usages_of(object: &Value) -> Vec<String> {
    let usages = object["spec"]["usages"].as_array().into_iter().flatten();
    usages
        .filter_map(|usage| usage.as_str().map(str::to_owned))
        .collect()
}

fn signer_of(object: &Value) -> &str {
    object["spec"]["signerName"].as_str().unwrap_or_default()
}

/// Whether usages are all of `required` and nothing but those and `optional`.
fn are(usages: &[String], required: &[&str], optional: &[&str]) -> bool {
    let has = |wanted: &&str| usages.iter().any(|usage| usage == wanted);
    let known = |usage: &String| {
        let usage = usage.as_str();
        required.contains(&usage) || optional.contains(&usage)
    };
    required.iter().all(has) && usages.iter().all(known)
}

/// What keeps a request from being one of a node's client.
fn node_client_flaw(request: &CertificateRequest, usages: &[String]) -> Option<&'static str> {
    let names = request.names;
    if request.organizations != ["system:nodes"] {
        Some("subject organization is not system:nodes")
    } else if names.dns > 0 {
        Some("DNS subjectAltNames are not allowed")
    } else if names.email > 0 {
        Some("Email subjectAltNames are not allowed")
    } else if names.ip > 0 {
        Some("IP subjectAltNames are not allowed")
    } else if names.other > 0 {
        Some("URI subjectAltNames are not allowed")
    } else if !request.common_name.starts_with("system:node:") {
        Some("subject common name does not begin with system:node: ")
    } else if !are(
        usages,
        &["digital signature", "client auth"],
        &["key encipherment"],
    ) {
        Some("usages did not match [client auth digital signature key encipherment]")
    } else {
        None
    }
}
