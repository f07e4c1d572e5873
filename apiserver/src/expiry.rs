//! Events are kept for an hour after they were last seen, and not more than some thousand of them: they are what a busy cluster makes
//! most of, and all objects are in memory.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::ApiServer;
use crate::object;
use crate::selection::Selection;
use crate::storage::Revision;

const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Old events are looked for this often, so one may live this much longer.
const EVERY: Duration = Duration::from_secs(60);
/// The most Events that are left when it was looked; the oldest go first.
const MOST: usize = 10_000;

/// Deletes old events until shutdown.
pub(crate) async fn run(server: Arc<ApiServer>) {
    loop {
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for event in expired(&server, server.clock().timestamp()) {
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
    let surplus = surplus(page.objects.iter().map(|object| object.revision), MOST);
    let events = page.objects.iter().filter_map(|object| {
        let event = object::parse(&object.bytes).ok()?;
        (object.revision < surplus || is_expired(&event, now)).then_some(event)
    });
    events.collect()
}

/// The revision before which objects are too many.
fn surplus(revisions: impl Iterator<Item = Revision>, most: usize) -> Revision {
    let mut revisions: Vec<Revision> = revisions.collect();
    let Some(over) = revisions.len().checked_sub(most).filter(|over| *over > 0) else {
        return 0;
    };
    revisions.sort_unstable();
    revisions.get(over).copied().unwrap_or_default()
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
    fn the_oldest_of_too_many_go() {
        assert_eq!(surplus([5, 3, 9, 7].into_iter(), 4), 0);
        assert_eq!(surplus([5, 3, 9, 7].into_iter(), 3), 5);
        assert_eq!(surplus([5, 3, 9, 7].into_iter(), 1), 9);
    }

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
