//! What a server remembers: from which revision on its objects can be read as they were, and which revision a
//! time stands for.
//!
//! `GET /davit/history` says both; with `at=TIME` (RFC 3339) or `at=REVISION` also whether that can be read.
//! Objects are then read with `resourceVersion=REVISION&resourceVersionMatch=Exact`.

use std::time::SystemTime;

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::error::StatusError;
use crate::handler::Answer;
use crate::storage::{Revision, Status};

/// A moment that is asked for.
#[derive(Debug, PartialEq)]
enum Moment {
    Revision(Revision),
    Time(Timestamp),
}

/// Answers the description of the history.
pub(crate) fn describe(server: &ApiServer, query: &str) -> Result<Response<Body>, StatusError> {
    let status = server.store.status();
    let mut document = json!({
        "kind": "History", "apiVersion": "davit.dev/v1alpha1",
        "oldest": { "resourceVersion": status.oldest.to_string() },
        "newest": { "resourceVersion": status.revision.to_string() },
        "retention": {
            "seconds": server.config.store_options.history_age.as_secs(),
            "bytes": server.config.store_options.history_bytes,
        },
    });
    if let Some(oldest) = text(status.oldest_time) {
        document["oldest"]["time"] = oldest;
    }
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    if let Some((_, at)) = pairs.find(|(key, _)| key == "at") {
        let found = |time: SystemTime| server.store.revision_at(time);
        let at = resolve(&moment(&at)?, &status, Timestamp::now(), found)?;
        document["at"] = json!({ "resourceVersion": at.to_string() });
    }
    Ok(Answer::json(StatusCode::OK, &document).into_response())
}

fn text(time: Option<SystemTime>) -> Option<Value> {
    Some(Timestamp::try_from(time?).ok()?.to_string().into())
}

fn moment(text: &str) -> Result<Moment, StatusError> {
    if let Ok(revision) = text.parse() {
        return Ok(Moment::Revision(revision));
    }
    text.parse().map(Moment::Time).map_err(|_| {
        StatusError::bad_request(format!(
            "invalid at {text:?}: neither a revision nor a time such as 2026-01-31T12:00:00Z"
        ))
    })
}

/// The revision of a moment, if it can still be read.
fn resolve(
    moment: &Moment,
    status: &Status,
    now: Timestamp,
    found: impl Fn(SystemTime) -> Option<Revision>,
) -> Result<Revision, StatusError> {
    let oldest = match text(status.oldest_time) {
        Some(time) => format!(
            "revision {} of {}",
            status.oldest,
            time.as_str().unwrap_or_default()
        ),
        None => format!("revision {}", status.oldest),
    };
    match *moment {
        Moment::Revision(revision) if revision > status.revision => {
            Err(StatusError::bad_request(format!(
                "revision {revision} has not come yet; the newest is {}",
                status.revision
            )))
        }
        Moment::Revision(revision) if revision < status.oldest => Err(StatusError::expired(
            format!("revision {revision} is forgotten; the oldest that is kept is {oldest}"),
        )),
        Moment::Revision(revision) => Ok(revision),
        Moment::Time(time) if time > now => {
            Err(StatusError::bad_request(format!("{time} has not come yet")))
        }
        Moment::Time(time) => found(time.into()).ok_or_else(|| {
            StatusError::expired(format!(
                "what there was at {time} is forgotten; the oldest that is kept is {oldest}"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_within_what_is_kept_have_a_revision() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let status = Status {
            revision: 30,
            oldest: 20,
            oldest_time: Some(time("2026-01-01T10:00:00Z").into()),
            newest_time: None,
            keys: 0,
            value_bytes: 0,
            history_bytes: 0,
            write_fault: None,
        };
        let now = time("2026-01-01T12:00:00Z");
        let half = SystemTime::from(time("2026-01-01T11:00:00Z"));
        let found = |at: SystemTime| (at >= half).then_some(25);
        let ask = |text: &str| {
            let found = moment(text).and_then(|moment| resolve(&moment, &status, now, found));
            found.map_err(|error| (error.code(), error.to_string()))
        };
        assert_eq!((ask("20"), ask("30")), (Ok(20), Ok(30)));
        assert_eq!(ask("2026-01-01T13:00:00+02:00").map_err(|e| e.0), Ok(25));
        let cases = [
            (
                "19",
                410,
                "revision 19 is forgotten; the oldest that is kept is revision 20 of 2026-01-01T10:00:00Z",
            ),
            ("31", 400, "revision 31 has not come yet; the newest is 30"),
            ("2026-01-01T10:30:00Z", 410, "is forgotten"),
            ("2026-01-01T12:00:01Z", 400, "has not come yet"),
            ("yesterday", 400, "neither a revision nor a time"),
            ("-1", 400, "neither"),
        ];
        for (text, code, message) in cases {
            let (got, why) = ask(text).unwrap_err();
            assert!(got == code && why.contains(message), "{text}: {got} {why}");
        }
    }
}
