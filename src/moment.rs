//! Moments of the past as users write them: a revision, a time, or how long ago.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::connect::Connection;
use crate::fault::Fault;

/// A revision, or a time as the server takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment(String);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, Timestamp::now())
    }
}

fn parse(text: &str, now: Timestamp) -> Result<Moment, String> {
    if text.parse::<u64>().is_ok() || text.parse::<Timestamp>().is_ok() {
        return Ok(Moment(text.to_owned()));
    }
    let ago = text.parse::<SignedDuration>().ok();
    let time = ago.and_then(|ago| now.checked_sub(ago.unsigned_abs()).ok());
    time.map(|time| Moment(time.to_string())).ok_or_else(|| {
        "neither a revision, nor a time such as 2026-01-31T12:00:00Z, nor how long ago such as 10m or 1h30m"
            .to_owned()
    })
}

impl Moment {
    /// The revision this moment stands for, if the server can still read it.
    ///
    /// # Errors
    /// What the server says about a moment that is forgotten or has not come; that it keeps no history.
    pub(crate) async fn revision(&self, connection: &Connection) -> Result<u64, Fault> {
        let what = "reading the past";
        let path = format!("/davit/history?at={}", self.0.replace('+', "%2B"));
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| Fault::new(what, error, ""))?;
        let answer: Value = match connection.client.request(request).await {
            Ok(answer) => answer,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let cause =
                    "the server does not tell its history; it is not davit, or an older one";
                return Err(Fault::told(what, cause, ""));
            }
            Err(error) => return Err(Fault::request(what, &error)),
        };
        let revision = answer["at"]["resourceVersion"].as_str();
        revision
            .and_then(|revision| revision.parse().ok())
            .ok_or_else(|| Fault::told(what, "the server answered without a revision", ""))
    }
}

/// What a request adds to read at a revision.
pub(crate) fn exactly(revision: u64) -> [(&'static str, String); 2] {
    [
        ("resourceVersion", revision.to_string()),
        ("resourceVersionMatch", "Exact".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_revisions_times_or_ages() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let cases = [
            ("17", "17"),
            ("2026-01-31T11:00:00+01:00", "2026-01-31T11:00:00+01:00"),
            ("10m", "2026-01-31T11:50:00Z"),
            ("1h30m", "2026-01-31T10:30:00Z"),
            ("45s ago", "2026-01-31T11:59:15Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, now), Ok(Moment(expected.into())), "{text}");
        }
        for text in ["", "soon", "-", "1x", "2026-13-01T00:00:00Z"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
