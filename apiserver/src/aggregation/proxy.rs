//! Hands a request to the server of its group, in the name of the user.

use std::time::Duration;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::External;
use crate::ApiServer;
use crate::auth::UserInfo;
use crate::callout::tunnel;
use crate::error::StatusError;

/// Requests that are not streams are given up after this.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a header's name may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Headers of one connection, or of this server's own business.
fn stays(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(
        text,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "host"
            | "authorization"
    ) || text.starts_with("x-remote-")
        || text.starts_with("impersonate-")
}

/// Says who asks, as extension servers expect it from a proxy they trust.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let key = utf8_percent_encode(&key.to_ascii_lowercase(), PLAIN).to_string();
        for value in values {
            add(&format!("x-remote-extra-{key}"), value);
        }
    }
}

/// The other server's answer, as it comes.
///
/// # Errors
/// 503 while it is not available or does not answer.
pub(crate) async fn proxy(
    server: &ApiServer,
    external: &External,
    user: &UserInfo,
    parts: Parts,
    body: Body,
    streams: bool,
) -> Result<Response<Body>, StatusError> {
    if !external.available {
        return Err(StatusError::service_unavailable("service unavailable"));
    }
    let unreachable = |why: String| {
        StatusError::service_unavailable(format!("error trying to reach service: {why}"))
    };
    let target = external.target.as_ref();
    let target = target.map_err(|why| unreachable(why.clone()))?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(parts.method)
        .uri(target.place.at(path))
        .body(body)
        .map_err(StatusError::internal)?;
    let headers = request.headers_mut();
    for (name, value) in parts.headers.iter().filter(|(name, _)| !stays(name)) {
        headers.append(name, value.clone());
    }
    identify(headers, user);
    let mut extensions = parts.extensions;
    let client = extensions.remove::<hyper::upgrade::OnUpgrade>();
    let upgrades = parts
        .headers
        .get(header::UPGRADE)
        .filter(|_| client.is_some());
    if let Some(protocol) = upgrades {
        headers.insert(header::UPGRADE, protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let sent = server.callouts.send(target, request);
    let response = if streams || upgrades.is_some() {
        sent.await
    } else {
        let sent = tokio::time::timeout(TIMEOUT, sent).await;
        sent.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    };
    let mut response = response.map_err(unreachable)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        tunnel(client, hyper::upgrade::on(&mut response));
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(response.map(Body::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_and_nothing_of_the_clients_own_passes() {
        let mut user = UserInfo::new("alice", ["dev"]);
        user.extra
            .insert("Scopes/x".to_owned(), vec!["a".to_owned()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user);
        assert_eq!(headers["x-remote-user"], "alice");
        let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
        assert_eq!(groups, ["dev", "system:authenticated"]);
        assert_eq!(
            headers["x-remote-extra-scopes%2fx".to_ascii_lowercase().as_str()],
            "a"
        );
        let table = [
            ("authorization", true),
            ("x-remote-user", true),
            ("x-remote-extra-a", true),
            ("impersonate-user", true),
            ("connection", true),
            ("accept", false),
            ("content-type", false),
        ];
        for (name, expected) in table {
            assert_eq!(stays(&HeaderName::from_static(name)), expected, "{name}");
        }
    }
}
