//! `davit apply --atomic`: all objects in one write, or none.

use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MANAGER, conflict, kind_of, outcome, without_server_fields};
use crate::catalog::{Catalog, Kind};
use crate::connect::Connection;
use crate::fault::Fault;
use crate::manifest::Document;

const PATH: &str = "/apis/davit.dev/v1alpha1/transactions";

/// What the server answers.
#[derive(Deserialize)]
struct Written {
    items: Vec<DynamicObject>,
}

/// Applies all documents at one revision; a line for each.
///
/// # Errors
/// Why one of them was refused; then none was written.
pub(super) async fn apply(
    connection: &Connection,
    documents: &[Document],
    force: bool,
) -> Result<Vec<String>, Fault> {
    let catalog = Catalog::fetch(&connection.client).await?;
    let (mut kinds, mut before, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for document in documents {
        let kind = kind_of(&catalog, document)?;
        let api = kind.api(connection, document.namespace.as_deref());
        let found = api.get_opt(&document.name).await;
        before.push(found.map_err(|error| Fault::request(&document.source, &error))?);
        items.push(item(document, kind, &connection.namespace));
        kinds.push(kind);
    }
    let body = json!({
        "kind": "Transaction", "apiVersion": "davit.dev/v1alpha1", "items": items,
    });
    let written: Written = send(connection, &body, force).await?;
    let all = documents.iter().zip(kinds).zip(&items).zip(&before);
    let lines = all.zip(&written.items);
    Ok(lines
        .map(|((((document, kind), item), before), after)| {
            let outcome = outcome(before.as_ref(), after, &item["object"]);
            format!("{}/{} {outcome}", kind.qualified_singular(), document.name)
        })
        .collect())
}

/// The document as an item of the transaction, in the namespace it would be applied to.
fn item(document: &Document, kind: &Kind, namespace: &str) -> Value {
    let mut object = without_server_fields(document);
    if kind.namespaced && document.namespace.is_none() {
        object["metadata"]["namespace"] = namespace.into();
    }
    json!({ "action": "Apply", "object": object })
}

async fn send(connection: &Connection, body: &Value, force: bool) -> Result<Written, Fault> {
    let what = "nothing was applied";
    let path = format!("{PATH}?fieldManager={MANAGER}&fieldValidation=Strict&force={force}");
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| Fault::new(what, error, ""))?;
    connection
        .client
        .request(request)
        .await
        .map_err(|error| match &error {
            kube::Error::Api(status) if is_unknown(&status.message, status.code) => Fault::told(
                what,
                "the server knows no transactions; it is not davit, or an older one",
                "apply without --atomic",
            ),
            _ => conflict(what, &error).unwrap_or_else(|| Fault::request(what, &error)),
        })
}

/// Whether the path itself is missing, and not an object or namespace that an item needs.
fn is_unknown(message: &str, code: u16) -> bool {
    let path = message.contains("the server could not find the requested resource");
    code == 404 && (path || !message.contains("not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_endpoint_is_told_from_a_missing_object() {
        assert!(is_unknown(
            "the server could not find the requested resource",
            404
        ));
        assert!(is_unknown(
            "404 page not found: the server could not find the requested resource",
            404
        ));
        assert!(!is_unknown("namespaces \"shop\" not found", 404));
        assert!(!is_unknown("forbidden", 403));
    }
}
