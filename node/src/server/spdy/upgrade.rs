//! The way from an HTTP request to a SPDY connection.
use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::server::Refusal;

/// Where both sides say which protocol they speak over the streams.
const PROTOCOL: &str = "x-stream-protocol-version";

/// Whether a request asks for SPDY.
pub(in crate::server) fn is_wanted(parts: &Parts) -> bool {
    let has = |name: header::HeaderName, wanted: &str| {
        let values = parts.headers.get_all(name);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "spdy/3.1")
}

/// The first protocol of the client's that is spoken here; none if it names none, as very old clients do.
///
/// # Errors
/// None of those it names is spoken here.
pub(in crate::server) fn negotiate<'a>(
    parts: &Parts,
    spoken: &[&'a str],
) -> Result<Option<&'a str>, Refusal> {
    let asked = asked(&parts.headers);
    if asked.is_empty() {
        return Ok(None);
    }
    let chosen = asked
        .iter()
        .find_map(|asked| spoken.iter().find(|spoken| *spoken == asked));
    let refused = || {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts {spoken:?}"
        );
        Refusal::new(StatusCode::FORBIDDEN, message)
    };
    chosen.map(|chosen| Some(*chosen)).ok_or_else(refused)
}

fn asked(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(PROTOCOL);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

/// Grants the upgrade; `session` runs once the connection is there.
///
/// # Errors
/// The connection cannot be upgraded.
pub(in crate::server) fn upgrade<F>(
    parts: &mut Parts,
    protocol: &str,
    session: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let client = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
        let message = "unable to upgrade: the connection cannot be upgraded";
        Refusal::new(StatusCode::BAD_REQUEST, message)
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(PROTOCOL, protocol);
    }
    tokio::spawn(async move {
        if let Ok(connection) = client.await {
            session(TokioIo::new(connection)).await;
        }
    });
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_clients_order_decides() {
        let spoken = ["v4", "v3"];
        let table: [(&[(&str, &str)], Option<Option<&str>>); 4] = [
            (
                &[(PROTOCOL, "v5"), (PROTOCOL, "v3"), (PROTOCOL, "v4")],
                Some(Some("v3")),
            ),
            (&[(PROTOCOL, "v5, v4")], Some(Some("v4"))),
            (&[], Some(None)),
            (&[(PROTOCOL, "v9")], None),
        ];
        for (headers, expected) in table {
            let chosen = negotiate(&parts(headers), &spoken).ok();
            assert_eq!(chosen, expected, "{headers:?}");
        }
        let upgrade = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "SPDY/3.1"),
        ];
        assert!(is_wanted(&parts(&upgrade)));
        assert!(!is_wanted(&parts(&upgrade[1..])));
    }
}
