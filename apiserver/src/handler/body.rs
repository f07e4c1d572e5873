//! Request bodies: their size, their syntax, and the object in them.

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::Call;
use crate::error::StatusError;
use crate::protobuf;
use crate::schema::{DecodeError, FieldValidation, Media, Schema};

/// Largest body, as Kubernetes has it.
const LIMIT: usize = 3 << 20;

/// What bodies may be.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The syntax of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Text(Media),
    Protobuf,
}

/// Reads a whole body.
///
/// # Errors
/// 413 over the limit, 400 when the client stops in the middle.
pub(super) async fn read(body: Body) -> Result<Bytes, StatusError> {
    // What announces its size is not read first.
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(StatusError::too_large(LIMIT));
    }
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(StatusError::too_large(LIMIT))
        }
        Err(error) => Err(StatusError::bad_request(format!(
            "cannot read the body: {error}"
        ))),
    }
}

/// The syntax a content type names; JSON when there is none.
fn syntax(content_type: &str) -> Result<Syntax, StatusError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media.to_ascii_lowercase().as_str() {
        "" | "*/*" | "application/json" => Ok(Syntax::Text(Media::Json)),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Syntax::Text(Media::Yaml)),
        protobuf::MEDIA => Ok(Syntax::Protobuf),
        _ => Err(StatusError::unsupported_media_type(ACCEPTED)),
    }
}

/// How unknown fields are treated when the client does not say.
pub(super) fn validation(call: &Call) -> FieldValidation {
    call.options.field_validation.unwrap_or_default()
}

/// An object of the call's kind, checked against its schema, with texts for `Warning` headers.
pub(super) fn decode(call: &Call, body: &[u8]) -> Result<(Value, Vec<String>), StatusError> {
    let syntax = syntax(&call.content_type)?;
    let schema = call.resource.schema();
    let (mut value, warnings) = decode_with(schema, body, syntax, validation(call))?;
    check_kind(
        &mut value,
        &call.resource.api_version(),
        &call.resource.kind,
    )?;
    Ok((value, warnings))
}

/// An object of a built-in kind other than the call's, such as a Binding or a Scale.
pub(super) fn decode_other(
    call: &Call,
    body: &[u8],
    group: &str,
    version: &str,
    kind: &str,
) -> Result<Value, StatusError> {
    let syntax = syntax(&call.content_type)?;
    let schema =
        Schema::builtin(group, version, kind).unwrap_or_else(|| Schema::open(group, version, kind));
    let (mut value, _) = decode_with(&schema, body, syntax, FieldValidation::Ignore)?;
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    check_kind(&mut value, &api_version, kind)?;
    Ok(value)
}

/// DeleteOptions, under whatever version the client names them.
pub(super) fn decode_options(call: &Call, body: &[u8]) -> Result<Value, StatusError> {
    let syntax = syntax(&call.content_type)?;
    let schema = Schema::open("", "v1", "DeleteOptions");
    let (value, _) = decode_with(&schema, body, syntax, FieldValidation::Ignore)?;
    match value["kind"].as_str() {
        None | Some("" | "DeleteOptions") => Ok(value),
        Some(other) => Err(StatusError::bad_request(format!(
            "the body of a delete must be DeleteOptions, not {other}"
        ))),
    }
}

fn decode_with(
    schema: &Schema,
    body: &[u8],
    syntax: Syntax,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), StatusError> {
    match syntax {
        Syntax::Text(media) => {
            let decoded = schema
                .decode_checked(body, media, validation)
                .map_err(refused)?;
            Ok((decoded.value, decoded.warnings))
        }
        Syntax::Protobuf => {
            let mut value = protobuf::decode(body)
                .map_err(|error| StatusError::bad_request(error.to_string()))?;
            let warnings = schema.check(&mut value, validation).map_err(refused)?;
            Ok((value, warnings))
        }
    }
}

fn refused(error: DecodeError) -> StatusError {
    StatusError::bad_request(error.to_string())
}

/// The body's kind and version must be those of the path; they may be left out.
pub(super) fn check_kind(
    value: &mut Value,
    api_version: &str,
    kind: &str,
) -> Result<(), StatusError> {
    let Some(object) = value.as_object_mut() else {
        return Err(StatusError::bad_request("the body is not an object"));
    };
    for (field, expected) in [("apiVersion", api_version), ("kind", kind)] {
        match object.get(field).and_then(Value::as_str) {
            None | Some("") => {
                object.insert(field.to_owned(), expected.into());
            }
            Some(found) if found == expected => {}
            Some(found) => {
                let what = if field == "kind" {
                    "Kind"
                } else {
                    "API version"
                };
                return Err(StatusError::bad_request(format!(
                    "the {what} in the data ({found}) does not match the expected {what} \
                     ({expected})"
                )));
            }
        }
    }
    Ok(())
}
