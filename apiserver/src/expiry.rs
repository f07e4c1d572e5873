//! Events are kept for an hour after they were last seen.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::ApiServer;
use crate::object;
use crate::selection::Selection;

const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Old events are looked for this often, so one may live this much longer.
const EVERY: Duration = Duration::from_secs(300);

/// Deletes old events until shutdown.
pub(crate) async fn run(server: Arc<ApiServer>) {
    loop {
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for event in expired(&server, Timestamp::now()) {
            let metadata = &event["metadata"];
            let (Some(namespace), Some(name)) =
                (metadata["namespace"].as_str(), metadata["name"].as_str())
            else {
                continue;
            };
            let options = json!({ "preconditions": {
                "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
            }});
            let path = format!("/api/v1/namespaces/{namespace}/events/{name}");
            // One that was seen again meanwhile stays, by the precondition.
            server.request(Method::DELETE, &path, Some(&options)).await;
        }
    }
}

fn expired(server: &ApiServer, now: Timestamp) -> Vec<Value> {
    let Some(resource) = server.registry.snapshot().find("", "v1", "events") else {
        return Vec::new();
    };
    server.cache.catch_up();
    let kind = server.cache.kind(&resource.prefix);
    let page = kind.page(&Selection::all(&resource, ""), None, 0, 0);
    let events = page
        .objects
        .iter()
        .filter_map(|object| object::parse(&object.bytes).ok());
    events.filter(|event| is_expired(event, now)).collect()
}

fn is_expired(event: &Value, now: Timestamp) -> bool {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    let times = times
        .into_iter()
        .filter_map(|time| time.as_str()?.parse::<Timestamp>().ok());
    times
        .max()
        .is_some_and(|seen| now.duration_since(seen) > KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ages_from_its_last_sighting() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let event = |created: &str, last: &str| json!({"metadata": {"creationTimestamp": created}, "lastTimestamp": last});
        assert!(is_expired(
            &event("2026-01-01T10:00:00Z", "2026-01-01T10:30:00Z"),
            now
        ));
        assert!(!is_expired(
            &event("2026-01-01T10:00:00Z", "2026-01-01T11:30:00Z"),
            now
        ));
        assert!(!is_expired(&json!({}), now));
    }
}
