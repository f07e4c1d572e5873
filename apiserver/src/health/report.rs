//! How checks are told: kube-apiserver's words, as monitors and tests read them.

use std::fmt::Write as _;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

/// Why a check fails.
pub(super) type Outcome = Result<(), String>;

/// One thing that has to hold.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

/// What the query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Every check is listed, also when all is well.
    verbose: bool,
    /// Checks that do not count.
    excluded: Vec<String>,
}

impl Asked {
    /// `verbose` counts whatever its value, as in Kubernetes.
    pub(super) fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "verbose" => asked.verbose = true,
                "exclude" => asked
                    .excluded
                    .extend(value.split(',').map(|name| name.trim().to_owned())),
                _ => {}
            }
        }
        asked.excluded.retain(|name| !name.is_empty());
        asked
    }
}

/// All checks together. Why one fails is told where it is asked for by name, which not everybody may.
pub(super) fn all(endpoint: &str, checks: &[Check], asked: &Asked) -> Response<Body> {
    let (healthy, report) = describe(endpoint, checks, asked);
    match (healthy, asked.verbose) {
        (true, false) => text(StatusCode::OK, "ok".to_owned()),
        (true, true) => text(StatusCode::OK, report),
        (false, _) => {
            let failed = checks.iter().filter_map(|check| {
                let why = check.outcome.as_ref().err()?;
                Some(format!("{}: {why}", check.name))
            });
            let failed: Vec<String> = failed.collect();
            tracing::info!(endpoint, failed = failed.join(", "), "not healthy");
            text(StatusCode::INTERNAL_SERVER_ERROR, report)
        }
    }
}

/// One check by its name; `None` if there is none of that name.
pub(super) fn one(checks: &[Check], name: &str) -> Option<Response<Body>> {
    let check = checks.iter().find(|check| check.name == name)?;
    Some(match &check.outcome {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(why) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("internal server error: {why}\n"),
        ),
    })
}

/// Whether all is well, and the list of checks.
fn describe(endpoint: &str, checks: &[Check], asked: &Asked) -> (bool, String) {
    let mut report = String::new();
    let mut healthy = true;
    for Check { name, outcome } in checks {
        // Writing to a String cannot fail.
        let _ = if asked.excluded.contains(name) {
            writeln!(report, "[+]{name} excluded: ok")
        } else if outcome.is_ok() {
            writeln!(report, "[+]{name} ok")
        } else {
            healthy = false;
            writeln!(report, "[-]{name} failed: reason withheld")
        };
    }
    let unknown = asked.excluded.iter();
    let unknown = unknown.filter(|name| !checks.iter().any(|check| check.name == **name));
    let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        let _ = writeln!(
            report,
            "warn: some health checks cannot be excluded: no matches for {names}"
        );
    }
    let verdict = if healthy { "passed" } else { "failed" };
    let _ = writeln!(report, "{endpoint} check {verdict}");
    (healthy, report)
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let fresh = HeaderValue::from_static("no-cache, private");
    headers.insert(header::CACHE_CONTROL, fresh);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        let check = |name: &str, outcome| Check {
            name: name.to_owned(),
            outcome,
        };
        vec![
            check("ping", Ok(())),
            check("etcd", Err("the disk is full".to_owned())),
        ]
    }

    #[test]
    fn a_failure_is_named_and_its_reason_is_not() {
        let (healthy, report) = describe("readyz", &checks(), &Asked::default());
        assert!(!healthy);
        assert_eq!(
            report,
            "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
        );
    }

    #[test]
    fn what_is_excluded_does_not_count() {
        let asked = Asked::read("verbose=0&exclude=etcd&exclude=nothing,&x=y");
        assert!(asked.verbose);
        let (healthy, report) = describe("livez", &checks(), &asked);
        assert!(healthy);
        assert_eq!(
            report,
            "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no \
             matches for \"nothing\"\nlivez check passed\n"
        );
    }

    #[test]
    fn one_check_tells_its_reason() {
        assert_eq!(one(&checks(), "ping").unwrap().status(), 200);
        assert_eq!(one(&checks(), "etcd").unwrap().status(), 500);
        assert!(one(&checks(), "poststarthook").is_none());
    }
}
