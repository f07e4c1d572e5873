//! How long requests are kept: an hour after their end, a day while nobody decides.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{conditions, has};
use crate::pki;

const DECIDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;

/// How long a request may stay; zero when its time is over.
pub(super) fn time_left(object: &Value, now: Timestamp) -> Duration {
    let certificate = object["status"]["certificate"].as_str().unwrap_or_default();
    let issued = !certificate.is_empty();
    let mut ends = Vec::new();
    if issued {
        let pem = STANDARD.decode(certificate).unwrap_or_default();
        ends.extend(pki::end_of(&pem));
    }
    for (kind, counts) in [("Approved", issued), ("Denied", true), ("Failed", true)] {
        ends.extend(
            since(object, kind)
                .filter(|_| counts)
                .map(|start| start + DECIDED),
        );
    }
    let decided = has(object, "Approved") || has(object, "Denied") || has(object, "Failed");
    let created = time(&object["metadata"]["creationTimestamp"]);
    if !decided || !issued && has(object, "Approved") {
        ends.extend(created.map(|start| start + PENDING));
    }
    let left = ends
        .into_iter()
        .min()
        .map_or(PENDING, |end| end - now.as_second());
    Duration::from_secs(u64::try_from(left).unwrap_or_default())
}

fn since(object: &Value, kind: &str) -> Option<i64> {
    let condition = conditions(object)
        .iter()
        .find(|condition| condition["type"] == kind)?;
    time(&condition["lastUpdateTime"])
}

fn time(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<Timestamp>().ok()?.as_second())
}
