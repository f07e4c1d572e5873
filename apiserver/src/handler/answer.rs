//! From objects to HTTP answers in the form the client asked for.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Call, add_warnings};
use crate::error::StatusError;
use crate::object;
use crate::request::Form;
use crate::table::{self, Printer};

/// A body with what goes around it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) bytes: Bytes,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn ok(bytes: Bytes) -> Self {
        Self {
            code: StatusCode::OK,
            bytes,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn json(code: StatusCode, value: &Value) -> Self {
        Self {
            code,
            bytes: value.to_string().into(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.bytes));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
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
    let mut answer = Answer {
        code,
        bytes,
        warnings,
    };
    if call.accept.yaml && call.accept.form == Form::Plain {
        return yaml(answer);
    }
    if call.accept.form == Form::Plain {
        return Ok(answer.into_response());
    }
    let value = parse(&answer.bytes)?;
    let shaped = match call.accept.form {
        Form::Table => {
            let printer = Printer::new(&call.resource, call.options.include);
            let revision = value["metadata"]["resourceVersion"].clone();
            printer.table(json!({ "resourceVersion": revision }), [value], true)
        }
        _ => table::partial(value),
    };
    answer.bytes = shaped.to_string().into();
    Ok(answer.into_response())
}

fn yaml(answer: Answer) -> Result<Response<Body>, StatusError> {
    let value = parse(&answer.bytes)?;
    let text = serde_saphyr::to_string(&value).map_err(StatusError::internal)?;
    let mut response = Answer {
        bytes: text.into(),
        ..answer
    }
    .into_response();
    let value = HeaderValue::from_static("application/yaml");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    Ok(response)
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
    let mut answer = Answer::json(code, &status);
    answer.warnings = call.notes.take_warnings();
    answer.into_response()
}
