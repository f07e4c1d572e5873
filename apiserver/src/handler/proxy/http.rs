//! Plain HTTP, and what it is upgraded to, through the server to a pod, a Service or a node.

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::write::{GzDecoder, ZlibDecoder};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::location::{Location, locate};
use super::page::Page;
use crate::audit::RemoteAddress;
use crate::callout::tunnel;
use crate::error::StatusError;
use crate::handler::Call;

/// The parts of a request's path: what leads to the object, and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paths<'a> {
    /// Ends in `/proxy`.
    prefix: &'a str,
    /// Empty or begins with a slash.
    rest: &'a str,
}

impl<'a> Paths<'a> {
    /// Splits behind so many segments.
    fn split(path: &'a str, segments: usize) -> Self {
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        let at = slashes.nth(segments).unwrap_or(path.len());
        let (prefix, rest) = path.split_at(at);
        Self { prefix, rest }
    }

    /// Where another server's `Location` leads through the proxy.
    fn rewrite(self, target: &str, authority: &str, host: &str) -> String {
        self.link(target, authority, host)
            .unwrap_or_else(|| target.to_owned())
    }

    /// A link of another server as it leads through the proxy: a path of its own does, another server does not, and what is
    /// relative or leads through the proxy already stays.
    fn link(self, link: &str, authority: &str, host: &str) -> Option<String> {
        let blank = link.len() - link.trim_start().len();
        let (blank, link) = link.split_at_checked(blank)?;
        let lower = link.get(..8).unwrap_or(link).to_ascii_lowercase();
        let scheme = ["http://", "https://", "//"]
            .into_iter()
            .find(|scheme| lower.starts_with(scheme))
            .map_or(0, str::len);
        let (scheme, rest) = link.split_at_checked(scheme)?;
        let (named, rest) = if scheme.is_empty() {
            ("", rest)
        } else {
            rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?
        };
        let elsewhere = !named.is_empty() && named != authority && named != host;
        if elsewhere || !rest.starts_with('/') {
            return None;
        }
        let origin = if named == host && !named.is_empty() {
            format!("{scheme}{named}")
        } else {
            String::new()
        };
        let prefix = if leads_through(rest, self.prefix) {
            ""
        } else {
            self.prefix
        };
        Some(format!("{blank}{origin}{prefix}{rest}"))
    }
}

/// Whether a path is the prefix or lies below it.
fn leads_through(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Headers of one connection.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Answers a request for a proxy.
///
/// # Errors
/// There is nobody to ask, or they do not answer.
pub(in crate::handler) async fn proxy(
    call: &Call,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let location = locate(call)?;
    let path = parts.uri.path().to_owned();
    // `/api/v1/namespaces/<namespace>/<resource>/<name>/proxy`, or without a namespace.
    let segments = if call.resource.namespaced { 7 } else { 5 };
    let paths = Paths::split(&path, segments);
    let upgrade = wants_upgrade(&parts.headers);
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if paths.rest.is_empty() && reads && upgrade.is_none() {
        return Ok(redirect(&parts));
    }
    let host = host(&parts);
    let is_head = parts.method == Method::HEAD;
    let (request, client) = forwarded(parts, body, &location, paths, upgrade.as_ref(), &host)?;
    let response = send(call, &location, request).await?;
    if let Some(client) = client {
        return upgraded(response, client);
    }
    answer(response, &location, paths, &host, is_head).await
}

/// A page's relative links are right only if its own path ends in a slash.
fn redirect(parts: &Parts) -> Response<Body> {
    let mut target = format!("{}/", parts.uri.path());
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// The protocol that a request wants to go on with.
fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get_all(header::CONNECTION);
    let asked = connection.iter().filter_map(|value| value.to_str().ok());
    let mut tokens = asked.flat_map(|value| value.split(','));
    tokens
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        .then(|| headers.get(header::UPGRADE).cloned())
        .flatten()
}

fn host(parts: &Parts) -> String {
    let host = parts.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let authority = || parts.uri.authority().map(|named| named.as_str());
    host.or_else(authority).unwrap_or_default().to_owned()
}

/// The request as it goes on, and the client's connection if it is to be upgraded. Credentials for this server stay
/// here.
fn forwarded(
    mut parts: Parts,
    body: Body,
    location: &Location,
    paths: Paths<'_>,
    upgrade: Option<&HeaderValue>,
    host: &str,
) -> Result<(Request<Body>, Option<OnUpgrade>), StatusError> {
    let rest = if paths.rest.is_empty() {
        "/"
    } else {
        paths.rest
    };
    let mut uri = format!("{}://{}{rest}", location.scheme, location.authority);
    if let Some(query) = parts.uri.query() {
        uri.push('?');
        uri.push_str(query);
    }
    let mut headers = without_hops(&parts.headers);
    for name in headers.keys().cloned().collect::<Vec<_>>() {
        let text = name.as_str();
        if text == "authorization"
            || text.starts_with("impersonate-")
            || text.starts_with("x-remote-")
        {
            headers.remove(name);
        }
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("host", host);
    set("x-forwarded-uri", &format!("{}{rest}", paths.prefix));
    if let Some(RemoteAddress(ip)) = parts.extensions.get() {
        let before = parts.headers.get_all("x-forwarded-for");
        let before = before.iter().filter_map(|value| value.to_str().ok());
        let mut all: Vec<String> = before.map(ToOwned::to_owned).collect();
        all.push(ip.to_string());
        set("x-forwarded-for", &all.join(", "));
    }
    let client = match upgrade {
        None => None,
        Some(protocol) => {
            let client = parts.extensions.remove::<OnUpgrade>();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
            Some(client.ok_or_else(|| {
                StatusError::bad_request(
                    "Upgrade request required: the connection cannot be upgraded",
                )
            })?)
        }
    };
    let mut request = Request::builder()
        .method(parts.method)
        .uri(uri)
        .body(body)
        .map_err(|error| StatusError::bad_request(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok((request, client))
}

/// Headers without those of one connection, and those that the connection names as such.
fn without_hops(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays = |name: &HeaderName| {
        HOP_BY_HOP.contains(name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || named.iter().any(|named| named == name.as_str())
    };
    let all = headers.iter().filter(|(name, _)| !stays(name));
    all.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

async fn send(
    call: &Call,
    location: &Location,
    request: Request<Body>,
) -> Result<Response<Incoming>, StatusError> {
    let server = &call.server;
    let sent = if location.node {
        let sent = server.node_client.request(request).await;
        sent.map_err(|error| crate::callout::cause(&error))
    } else {
        server.callouts.send_anywhere(request).await
    };
    sent.map_err(|why| {
        StatusError::service_unavailable(format!("error trying to reach service: {why}"))
    })
}

/// What the other server says to an upgrade: the tunnel is opened only if it agrees.
fn upgraded(
    mut response: Response<Incoming>,
    client: OnUpgrade,
) -> Result<Response<Body>, StatusError> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        tunnel(client, hyper::upgrade::on(&mut response));
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    if status.as_u16() < 400 {
        return Err(StatusError::internal(format!(
            "invalid upgrade response: status code {}",
            status.as_u16()
        )));
    }
    *response.headers_mut() = without_hops(response.headers());
    Ok(response.map(Body::new))
}

async fn answer(
    mut response: Response<Incoming>,
    location: &Location,
    paths: Paths<'_>,
    host: &str,
    is_head: bool,
) -> Result<Response<Body>, StatusError> {
    let mut headers = without_hops(response.headers());
    // Who may read this server's answers from other origins is not for those behind it to say.
    for name in ["credentials", "headers", "methods", "origin"] {
        headers.remove(format!("access-control-allow-{name}"));
    }
    let target = headers
        .get(header::LOCATION)
        .and_then(|target| target.to_str().ok());
    let rewritten = target.map(|target| paths.rewrite(target, &location.authority, host));
    if let Some(target) = rewritten.and_then(|target| HeaderValue::from_str(&target).ok()) {
        headers.insert(header::LOCATION, target);
    }
    *response.headers_mut() = headers;
    *response.version_mut() = ::http::Version::default();
    let Some(mut coding) = coding_of_page(&response).filter(|_| !is_head) else {
        return Ok(response.map(Body::new));
    };
    let length = response.headers().get(header::CONTENT_LENGTH).cloned();
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        response.headers_mut().remove(name);
    }
    let (prefix, rest) = (paths.prefix.to_owned(), paths.rest.to_owned());
    let (authority, host) = (location.authority.clone(), host.to_owned());
    let rewrite = move |link: &str| {
        let (prefix, rest) = (prefix.as_str(), rest.as_str());
        Paths { prefix, rest }.link(link, &authority, &host)
    };
    let mut page = Page::new(rewrite);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_none_or(|length| length > SHORT) {
        return Ok(response.map(|body| Body::from_stream(with_links(body, coding, page))));
    }
    // A short page has its length said again.
    let (parts, body) = response.into_parts();
    let broken = |error: String| {
        StatusError::service_unavailable(format!("error trying to reach service: {error}"))
    };
    let body = body
        .collect()
        .await
        .map_err(|error| broken(error.to_string()))?;
    let mut whole = Vec::new();
    for piece in body.to_bytes().chunks(AT_ONCE) {
        let plain = coding
            .decode(piece)
            .map_err(|error| broken(error.to_string()))?;
        whole.extend(page.push(&plain));
        if whole.len() > LONG {
            return Err(broken("a page is packed too tightly".to_owned()));
        }
    }
    whole.extend(page.finish());
    Ok(Response::from_parts(parts, Body::from(whole)))
}

/// A page of so many bytes is read as a whole, and may have so many once it is unpacked.
const SHORT: usize = 256 << 10;
const LONG: usize = 64 << 20;

/// How the bytes of an answer that is a whole page are coded; none for everything that is passed on as it is.
fn coding_of_page<B>(response: &Response<B>) -> Option<Coding> {
    let text = |name| {
        let value = response.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let kind = text(header::CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("text/html")
        || response.status() == StatusCode::PARTIAL_CONTENT
    {
        return None;
    }
    match text(header::CONTENT_ENCODING).to_ascii_lowercase().as_str() {
        "" | "identity" => Some(Coding::Plain),
        "gzip" => Some(Coding::Gzip(GzDecoder::new(Vec::new()))),
        "deflate" => Some(Coding::Deflate(ZlibDecoder::new(Vec::new()))),
        _ => None,
    }
}

/// A page's coding, undone as it comes.
enum Coding {
    Plain,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Coding {
    fn decode(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Deflate(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
        })
    }
}

/// Most bytes of a page that are worked on at once: what is packed may be a thousand times as long.
const AT_ONCE: usize = 4 << 10;

/// The page with its links rewritten.
fn with_links(
    body: Incoming,
    coding: Coding,
    page: Page<impl Fn(&str) -> Option<String> + Send + 'static>,
) -> impl futures::Stream<Item = Result<Bytes, axum::Error>> + Send {
    let state = (
        Body::new(body).into_data_stream(),
        Bytes::new(),
        coding,
        Some(page),
    );
    futures::stream::try_unfold(
        state,
        |(mut body, mut waiting, mut coding, page)| async move {
            let Some(mut page) = page else {
                return Ok(None);
            };
            loop {
                if waiting.is_empty() {
                    waiting = match body.next().await {
                        Some(bytes) => bytes?,
                        None => {
                            let last = Bytes::from(page.finish());
                            return Ok(Some((last, (body, waiting, coding, None))));
                        }
                    };
                }
                let piece = waiting.split_to(waiting.len().min(AT_ONCE));
                let ready = page.push(&coding.decode(&piece).map_err(axum::Error::new)?);
                if !ready.is_empty() {
                    return Ok(Some((ready.into(), (body, waiting, coding, Some(page)))));
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/n/services/s:80/proxy";

    #[test]
    fn the_path_behind_the_proxy_goes_on_as_it_is() {
        for (rest, segments, prefix) in [
            ("", 7, PREFIX),
            ("/", 7, PREFIX),
            ("/a//b/%2F/", 7, PREFIX),
            ("/metrics", 5, "/api/v1/nodes/n/proxy"),
        ] {
            let path = format!("{prefix}{rest}");
            assert_eq!(Paths::split(&path, segments), Paths { prefix, rest });
        }
    }

    #[test]
    fn locations_lead_through_the_proxy() {
        let paths = Paths {
            prefix: PREFIX,
            rest: "/",
        };
        let table = [
            ("/login?a=b", format!("{PREFIX}/login?a=b")),
            ("/a/", format!("{PREFIX}/a/")),
            ("http://10.0.0.1:8080/x", format!("{PREFIX}/x")),
            ("https://api:6443/x", format!("https://api:6443{PREFIX}/x")),
            ("https://elsewhere/x", "https://elsewhere/x".to_owned()),
            ("next", "next".to_owned()),
            ("/a#b", format!("{PREFIX}/a#b")),
            ("//10.0.0.1:8080/x", format!("{PREFIX}/x")),
            ("//elsewhere/x", "//elsewhere/x".to_owned()),
            ("http://elsewhere", "http://elsewhere".to_owned()),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080".to_owned()),
            ("mailto:a@b", "mailto:a@b".to_owned()),
            ("#top", "#top".to_owned()),
            ("/a?to=http://x/#y", format!("{PREFIX}/a?to=http://x/#y")),
            (" /a b", format!(" {PREFIX}/a b")),
            (&*format!("{PREFIX}er/x"), format!("{PREFIX}{PREFIX}er/x")),
            (&*format!("{PREFIX}/x"), format!("{PREFIX}/x")),
        ];
        for (target, expected) in table {
            assert_eq!(
                paths.rewrite(target, "10.0.0.1:8080", "api:6443"),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn credentials_and_hops_stay_here() {
        let request = Request::get(format!("{PREFIX}/a?b=c"))
            .header("host", "api")
            .header("authorization", "Bearer secret")
            .header("impersonate-user", "x")
            .header("x-remote-user", "x")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("cookie", "c")
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        parts
            .extensions
            .insert(RemoteAddress([192, 0, 2, 7].into()));
        let location = Location {
            scheme: "http",
            authority: "10.0.0.1:80".to_owned(),
            node: false,
        };
        let path = parts.uri.path().to_owned();
        let paths = Paths::split(&path, 7);
        let (request, _) = forwarded(parts, Body::empty(), &location, paths, None, "api").unwrap();
        assert_eq!(request.uri(), "http://10.0.0.1:80/a?b=c");
        let mut names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["cookie", "host", "x-forwarded-for", "x-forwarded-uri"]
        );
        assert_eq!(request.headers()["x-forwarded-uri"], format!("{PREFIX}/a"));
        assert_eq!(request.headers()["x-forwarded-for"], "192.0.2.7");
    }
}
