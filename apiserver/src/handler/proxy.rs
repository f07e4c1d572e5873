//! Requests that others answer: nodes, for logs, exec, attach and port-forward; pods, Services and nodes behind a proxy.

mod http;
mod location;
mod page;

pub(super) use self::http::proxy;

use ::http::request::Parts;
use ::http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use axum::body::Body;
use form_urlencoded::Serializer;
use serde_json::Value;

use super::{Call, answer, get};
use crate::callout::tunnel;
use crate::error::StatusError;
use crate::schema::FieldError;

/// Where the node of a pod answers.
struct Endpoint {
    authority: String,
    pod: Value,
}

/// `pods/<name>/log`.
pub(super) async fn log(call: &Call, parts: Parts) -> Result<Response<Body>, StatusError> {
    let endpoint = endpoint(call).await?;
    let query = query(&parts);
    let container = container(call, &endpoint.pod, &query)?;
    let path = format!(
        "/containerLogs/{}/{}/{container}",
        call.path.namespace, call.path.name
    );
    if is_websocket(&parts) {
        return tunnelled(call, parts, &endpoint, &path, &query).await;
    }
    let uri = uri(&endpoint.authority, &path, &query)?;
    let request = Request::get(uri)
        .body(Body::empty())
        .map_err(StatusError::internal)?;
    let response = send(call, &endpoint, request).await?;
    relay(response).await
}

/// `pods/<name>/exec`, `attach`, `portforward`.
///
/// # Errors
/// What is wrong with the request, or what the node answers when it does not open a tunnel.
pub(super) async fn upgrade(
    call: &Call,
    parts: Parts,
    options: &Value,
) -> Result<Response<Body>, StatusError> {
    let endpoint = endpoint(call).await?;
    let (namespace, name) = (&call.path.namespace, &call.path.name);
    let path = match &*call.path.subresource {
        "portforward" => format!("/portForward/{namespace}/{name}"),
        verb => {
            format!(
                "/{verb}/{namespace}/{name}/{}",
                container(call, &endpoint.pod, &query(&parts))?
            )
        }
    };
    let query = node_query(options);
    tunnelled(call, parts, &endpoint, &path, &query).await
}

/// Whether a request that needs no upgrade asks for one to a WebSocket.
fn is_websocket(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Hands an upgrade on to a node, and carries what follows.
async fn tunnelled(
    call: &Call,
    mut parts: Parts,
    endpoint: &Endpoint,
    path: &str,
    query: &[(String, String)],
) -> Result<Response<Body>, StatusError> {
    let client = parts
        .extensions
        .remove::<hyper::upgrade::OnUpgrade>()
        .ok_or_else(|| {
            StatusError::bad_request("Upgrade request required: the connection cannot be upgraded")
        })?;
    let mut request = Request::builder()
        .method(parts.method.clone())
        .uri(uri(&endpoint.authority, path, query)?)
        .body(Body::empty())
        .map_err(StatusError::internal)?;
    for (name, value) in &parts.headers {
        let text = name.as_str();
        let passes = matches!(text, "connection" | "upgrade")
            || text.starts_with("sec-websocket")
            || text.starts_with("x-stream-protocol");
        if passes {
            request.headers_mut().append(name, value.clone());
        }
    }
    let response = send(call, endpoint, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The tunnel is not opened: what the node said is an answer like any other.
        return relay(response).await;
    }
    let headers = response.headers().clone();
    tunnel(client, hyper::upgrade::on(response));
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = headers;
    Ok(switched)
}

/// What is wanted of a connection, in the node's words.
fn node_query(options: &Value) -> Vec<(String, String)> {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let list = |key: &str| options[key].as_array().into_iter().flatten();
    let mut query: Vec<_> = list("command")
        .filter_map(|word| Some(pair("command", word.as_str()?)))
        .collect();
    let flags = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let set = flags.iter().filter(|(name, _)| options[name] == true);
    query.extend(set.map(|(_, name)| pair(name, "1")));
    let ports: Vec<String> = list("ports").map(ToString::to_string).collect();
    if !ports.is_empty() {
        query.push(pair("port", &ports.join(",")));
    }
    query
}

fn query(parts: &Parts) -> Vec<(String, String)> {
    form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

async fn endpoint(call: &Call) -> Result<Endpoint, StatusError> {
    let name = &call.path.name;
    let kv = get::read(call, name)
        .await?
        .ok_or_else(|| call.not_found(name))?;
    let pod = answer::parse(&kv.value)?;
    let node = pod
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if node.is_empty() {
        let verb = &call.path.subresource;
        return Err(StatusError::bad_request(format!(
            "pod {name} does not have a host assigned, so it has no {verb}"
        )));
    }
    let stored = call
        .server
        .store
        .get(&format!("/registry/core/nodes/{node}"), None)
        .await?;
    let gone =
        || StatusError::service_unavailable(format!("the node {node:?} of pod {name} is gone"));
    let object = answer::parse(&stored.ok_or_else(gone)?.value)?;
    let authority = authority(&object).ok_or_else(|| {
        StatusError::service_unavailable(format!(
            "the node {node:?} has published no InternalIP and kubelet port yet; try again"
        ))
    })?;
    Ok(Endpoint { authority, pod })
}

/// `address:port` of a node's own API.
fn authority(node: &Value) -> Option<String> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let internal = addresses
        .iter()
        .find(|address| address["type"] == "InternalIP")?;
    let ip: std::net::IpAddr = internal["address"].as_str()?.parse().ok()?;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")?
        .as_u64()?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(std::net::SocketAddr::new(ip, port).to_string())
}

/// The container the query names, or the only one, or the one the pod declares as its default.
fn container(call: &Call, pod: &Value, query: &[(String, String)]) -> Result<String, StatusError> {
    let names: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let name = &call.path.name;
    if let Some((_, wanted)) = query
        .iter()
        .find(|(key, value)| key == "container" && !value.is_empty())
    {
        if names.contains(&wanted.as_str()) {
            return Ok(wanted.clone());
        }
        return Err(StatusError::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        )));
    }
    let first = pod["spec"]["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let default = &pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
    match (first, default.as_str()) {
        (_, Some(default)) if names.contains(&default) => Ok(default.to_owned()),
        ([only], _) => Ok(only["name"].as_str().unwrap_or_default().to_owned()),
        ([], _) => {
            let error = FieldError::required("spec.containers", "");
            Err(StatusError::invalid(&call.resource, name, &[error]))
        }
        _ => Err(StatusError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}

fn uri(authority: &str, path: &str, query: &[(String, String)]) -> Result<Uri, StatusError> {
    let mut serializer = Serializer::new(String::new());
    serializer.extend_pairs(query.iter().filter(|(key, _)| key != "container"));
    let query = serializer.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("https://{authority}{path}{mark}{query}")
        .parse()
        .map_err(StatusError::internal)
}

async fn send(
    call: &Call,
    endpoint: &Endpoint,
    request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, StatusError> {
    let request = call.server.node_client.request(request);
    request.await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        StatusError::internal(format!(
            "cannot reach the node at {}: {}",
            endpoint.authority,
            cause.unwrap_or_else(|| error.to_string())
        ))
    })
}

/// Passes a node's answer on. Redirects are not followed and no header but the content type is trusted.
async fn relay(response: Response<hyper::body::Incoming>) -> Result<Response<Body>, StatusError> {
    let (parts, body) = response.into_parts();
    if !parts.status.is_success() {
        let text = super::body::read(Body::new(body)).await?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(match parts.status {
            StatusCode::NOT_FOUND => {
                StatusError::new(StatusCode::NOT_FOUND, crate::error::Reason::NotFound, text)
            }
            status if status.is_client_error() => StatusError::bad_request(text),
            _ => StatusError::internal(text),
        });
    }
    let mut relayed = Response::new(Body::new(body));
    let plain = HeaderValue::from_static("text/plain");
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .cloned()
        .unwrap_or(plain);
    relayed.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(relayed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_node_is_told_what_is_wanted() {
        let exec = json!({"command": ["ls", "-l"], "container": "c", "stdin": true, "tty": false, "stdout": true});
        let expected = [
            ("command", "ls"),
            ("command", "-l"),
            ("input", "1"),
            ("output", "1"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(node_query(&exec), expected);
        let forward = node_query(&json!({"ports": [80, 443]}));
        assert_eq!(forward, [("port".to_owned(), "80,443".to_owned())]);
    }
}
