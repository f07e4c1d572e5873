//! From objects to HTTP answers in the form the client asked for.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Call, add_warnings};
use crate::error::StatusError;
use crate::object;
use crate::protobuf;
use crate::request::{Accept, Form, Syntax};
use crate::table::{self, Printer};

/// A body with what goes around it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) bytes: Bytes,
    /// What the bytes are.
    pub(crate) media: &'static str,
    pub(crate) warnings: Vec<String>,
}

const JSON: &str = "application/json";

impl Answer {
    pub(crate) fn ok(bytes: Bytes) -> Self {
        Self {
            code: StatusCode::OK,
            bytes,
            media: JSON,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn json(code: StatusCode, value: &Value) -> Self {
        Self {
            code,
            bytes: value.to_string().into(),
            media: JSON,
            warnings: Vec::new(),
        }
    }

    /// A document in the syntax that the client wants.
    ///
    /// # Errors
    /// 406 when the document has no such form.
    pub(crate) fn document(
        accept: Accept,
        code: StatusCode,
        document: Value,
    ) -> Result<Self, StatusError> {
        let document = if accept.beta {
            table::as_beta(document)
        } else {
            document
        };
        let (bytes, media) = match accept.syntax {
            Syntax::Json => (document.to_string().into(), JSON),
            Syntax::Yaml => {
                let text = serde_saphyr::to_string(&document).map_err(StatusError::internal)?;
                (text.into(), "application/yaml")
            }
            Syntax::Protobuf => {
                let bytes = protobuf::encode(&document).ok_or_else(|| Accept::refused(false))?;
                (bytes, protobuf::MEDIA)
            }
        };
        Ok(Self {
            code,
            bytes,
            media,
            warnings: Vec::new(),
        })
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.bytes));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        add_warnings(headers, &self.warnings);
        response
    }
}

/// One stored object, as the client wants to see it.
pub(crate) async fn object_answer(
    call: &Call,
    code: StatusCode,
    stored: &Bytes,
    mut warnings: Vec<String>,
) -> Result<Response<Body>, StatusError> {
    warnings.append(&mut call.notes.take_warnings());
    let bytes = object_bytes(call, stored).await?;
    let accept = call.accept;
    let mut answer = if accept.is_plain() {
        Answer {
            code,
            ..Answer::ok(bytes)
        }
    } else {
        let value = parse(&bytes)?;
        let shaped = match accept.form {
            Form::Plain => value,
            Form::Table => {
                let printer = Printer::new(&call.resource, call.options.include);
                let revision = value["metadata"]["resourceVersion"].clone();
                printer.table(json!({ "resourceVersion": revision }), [value], true)
            }
            Form::Partial => table::partial(value),
        };
        Answer::document(accept, code, shaped)?
    };
    answer.warnings = warnings;
    Ok(answer.into_response())
}

/// The JSON of a stored object in the version of the request. Shares the bytes unless they must change.
async fn object_bytes(call: &Call, stored: &Bytes) -> Result<Bytes, StatusError> {
    if call.resource.conversion.is_none() {
        return Ok(stored.clone());
    }
    Ok(call.served(parse(stored)?).await?.to_string().into())
}

pub(super) fn parse(bytes: &[u8]) -> Result<Value, StatusError> {
    object::parse(bytes).map_err(StatusError::internal)
}

/// `Status` of a success without an object.
pub(super) fn success(call: &Call, code: StatusCode, name: &str, uid: &Value) -> Response<Body> {
    let mut details = json!({ "name": name });
    if !call.resource.group.is_empty() {
        details["group"] = (*call.resource.group).into();
    }
    details["kind"] = (*call.resource.plural).into();
    if !uid.is_null() {
        details["uid"] = uid.clone();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    // A Status has every form.
    let answer = Answer::document(call.accept, code, status.clone());
    let mut answer = answer.unwrap_or_else(|_| Answer::json(code, &status));
    answer.warnings = call.notes.take_warnings();
    answer.into_response()
}
