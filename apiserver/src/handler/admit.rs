//! Admission of what is not an object in the store: deletions, views, and connections.

use http::request::Parts;
use serde_json::{Map, Value, json};

use super::Call;
use crate::admission::{Operation, Request};
use crate::error::StatusError;

/// Asks the whole chain, first what it changes, then whether it agrees.
pub(super) async fn all(
    call: &Call,
    request: &Request<'_>,
    object: &mut Value,
) -> Result<(), StatusError> {
    let refused = |error| StatusError::admission(&call.resource, request.name, error);
    let chain = &call.server.admission;
    chain.mutate(request, object).await.map_err(refused)?;
    chain.validate(request, object).await.map_err(refused)
}

/// Asks whether a connection may be made. What the client wants of it stands in the query, and is returned as the
/// object that the API has for it, as admission has left it.
pub(super) async fn connect(call: &Call, parts: &Parts) -> Result<Value, StatusError> {
    let query = parts.uri.query().unwrap_or_default();
    let kind = call.resource.subresource(&call.path.subresource);
    let kind = kind.and_then(|sub| sub.speaks(&call.resource.kind));
    let kind = kind.map_or("", |speaks| speaks.kind);
    let mut options = connect_options(kind, query, &call.path.rest);
    let request = call.admission(Operation::Connect, &call.path.name, None);
    all(call, &request, &mut options).await?;
    Ok(options)
}

/// The query as the object that the API has for it, such as PodExecOptions.
fn connect_options(kind: &str, query: &str, path: &str) -> Value {
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "v1".into());
    if kind.ends_with("ProxyOptions") {
        // The query is for whoever is behind the proxy.
        options.insert("path".to_owned(), path.into());
        return Value::Object(options);
    }
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            // What is off is left out, as in every object of the API.
            "stdin" | "stdout" | "stderr" | "tty" if !matches!(&*value, "0" | "false") => {
                options.insert(key.into_owned(), true.into());
            }
            "container" => {
                options.insert(key.into_owned(), value.into());
            }
            "command" => push(&mut options, "command", value.into()),
            "ports" => {
                for port in value.split(',').filter_map(|port| port.parse::<u16>().ok()) {
                    push(&mut options, "ports", port.into());
                }
            }
            _ => {}
        }
    }
    Value::Object(options)
}

fn push(options: &mut Map<String, Value>, key: &str, value: Value) {
    let list = options.entry(key).or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_the_options_it_stands_for() {
        let exec = connect_options(
            "PodExecOptions",
            "command=ls&command=-l&container=c&stdin=true&tty=0",
            "",
        );
        let expected = json!({
            "kind": "PodExecOptions", "apiVersion": "v1", "command": ["ls", "-l"],
            "container": "c", "stdin": true,
        });
        assert_eq!(exec, expected);
        let forward = connect_options("PodPortForwardOptions", "ports=80,x&ports=443", "");
        assert_eq!(forward["ports"], json!([80, 443]));
        let proxy = connect_options("ServiceProxyOptions", "path=x", "a/b");
        let expected = json!({"kind": "ServiceProxyOptions", "apiVersion": "v1", "path": "a/b"});
        assert_eq!(proxy, expected);
    }
}
