//! Lists: the shared bytes of many objects, streamed one after another.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::answer::parse;
use super::{Answer, Call, page};
use crate::cache::Page;
use crate::error::StatusError;
use crate::request::Form;
use crate::selection::Selection;
use crate::table::{self, Printer};

/// Frames of a streamed list grow to about this many bytes.
const FRAME: usize = 64 << 10;

pub(super) async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let selection = selection(call)?;
    let page = page::page(call, "list", &selection).await?;
    answer(call, page, &selection.prefix).await
}

/// A page in the form that the client wants. `prefix` is what the keys of the selection start with.
pub(super) async fn answer(
    call: &Call,
    page: Page,
    prefix: &str,
) -> Result<Response<Body>, StatusError> {
    let metadata = metadata(&page, prefix);
    if call.accept.is_plain() {
        return plain(call, page, &metadata).await;
    }
    let objects = values(call, &page).await?;
    let document = match call.accept.form {
        Form::Plain => json!({
            "kind": call.resource.list_kind, "apiVersion": call.resource.api_version(),
            "metadata": metadata, "items": objects,
        }),
        Form::Table => {
            let printer = Printer::new(&call.resource, call.options.include);
            printer.table(metadata, objects, true)
        }
        Form::Partial => {
            let items: Vec<Value> = objects.into_iter().map(table::partial).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            })
        }
    };
    let answer = Answer::document(call.accept, StatusCode::OK, document)?;
    Ok(answer.into_response())
}

/// The selectors of a list, watch or deletecollection.
pub(super) fn selection(call: &Call) -> Result<Selection, StatusError> {
    let options = &call.options;
    if options.field_selector.is_empty() && options.label_selector.is_empty() {
        let mut selection = Selection::all(&call.resource, call.namespace());
        if !call.path.name.is_empty() {
            selection.key = Some(call.key(&call.path.name));
        }
        return Ok(selection);
    }
    let fields = call.kind().fields();
    Selection::parse(
        &call.resource,
        call.namespace(),
        &options.label_selector,
        &options.field_selector,
        &fields,
    )
}

fn metadata(page: &Page, prefix: &str) -> Value {
    let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
    if let Some(token) = page::next_token(page, prefix) {
        metadata["continue"] = token.into();
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata
}

/// The objects in the version of the request, converted all at once.
async fn values(call: &Call, page: &Page) -> Result<Vec<Value>, StatusError> {
    let parsed = page.objects.iter().map(|object| parse(&object.bytes));
    let parsed = parsed.collect::<Result<Vec<Value>, StatusError>>()?;
    match &call.resource.conversion {
        Some(conversion) => conversion
            .serve(parsed)
            .await
            .map_err(StatusError::internal),
        None => Ok(parsed),
    }
}

/// Objects are sent as they are kept. Small lists are one frame; big ones are streamed in frames of
/// [`FRAME`] so that a list never takes a second copy of all objects.
async fn plain(call: &Call, page: Page, metadata: &Value) -> Result<Response<Body>, StatusError> {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        call.resource.list_kind,
        call.resource.api_version(),
    );
    let items: Vec<Bytes> = if call.resource.conversion.is_none() {
        page.objects
            .into_iter()
            .map(|object| object.for_reader(call.accept.lean))
            .collect()
    } else {
        let values = values(call, &page).await?;
        values
            .iter()
            .map(|value| value.to_string().into())
            .collect()
    };
    let bytes: usize = items.iter().map(Bytes::len).sum();
    let size = head.len() + 2 + bytes + items.len().saturating_sub(1);
    let mut frames = Frames {
        head: Some(head.into()),
        items: items.into_iter(),
        first: true,
        done: false,
    };
    let body = if size <= FRAME {
        Body::from(frames.fill(size))
    } else {
        let frames = std::iter::from_fn(move || frames.next_frame());
        Body::from_stream(futures::stream::iter(frames.map(Ok::<_, Infallible>)))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

struct Frames {
    head: Option<Bytes>,
    items: std::vec::IntoIter<Bytes>,
    first: bool,
    done: bool,
}

impl Frames {
    fn next_frame(&mut self) -> Option<Bytes> {
        (!self.done).then(|| self.fill(FRAME))
    }

    /// A frame of about `room` bytes; ends the list when there are no more items.
    fn fill(&mut self, room: usize) -> Bytes {
        let mut frame = Vec::with_capacity(room + (room >> 3));
        frame.extend_from_slice(&self.head.take().unwrap_or_default());
        while frame.len() < room {
            let Some(item) = self.items.next() else {
                frame.extend_from_slice(b"]}");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                frame.push(b',');
            }
            frame.extend_from_slice(&item);
        }
        frame.into()
    }
}
