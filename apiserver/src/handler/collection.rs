//! Deleting everything a selection names.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::delete::{DeleteOptions, Deleted, delete_named};
use super::{Answer, Call, answer, list, page};
use crate::error::StatusError;

/// Deletions in flight at once; they share the store's group commits.
const PARALLEL: usize = 64;

pub(super) async fn delete_collection(
    call: &Call,
    body: Bytes,
) -> Result<Response<Body>, StatusError> {
    let options = DeleteOptions::read(call, &body)?;
    let selection = list::selection(call)?;
    let page = page::page(call, "deletecollection", &selection).await?;
    let revision = page.revision.to_string();
    let prefix: Arc<str> = call.resource.prefix.clone();
    let deletions = page.objects.into_iter().map(|object| {
        let (options, prefix) = (&options, &prefix);
        async move {
            let local = object.key.strip_prefix(&**prefix).unwrap_or_default();
            let (namespace, name) = match local.split_once('/') {
                Some(parts) if call.resource.namespaced => parts,
                _ => ("", local),
            };
            let mut path = call.path.clone();
            path.namespace = namespace.to_owned();
            name.clone_into(&mut path.name);
            let one = call.derived(path, call.options.clone());
            match delete_named(&one, name, options).await {
                Ok(Deleted::Gone(last)) => Ok(Some(last)),
                Ok(Deleted::Pending(bytes)) => Ok(Some(call.served(answer::parse(&bytes)?).await?)),
                // Somebody else was faster.
                Err(error) if error.code() == 404 => Ok(None),
                Err(error) => Err(error),
            }
        }
    });
    let deleted: Vec<Option<Value>> = futures::stream::iter(deletions)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let items: Vec<Value> = deleted.into_iter().flatten().collect();
    let list = json!({
        "kind": call.resource.list_kind, "apiVersion": call.resource.api_version(),
        "metadata": { "resourceVersion": revision }, "items": items,
    });
    let answer = Answer::document(call.accept, StatusCode::OK, list)?;
    Ok(answer.into_response())
}
