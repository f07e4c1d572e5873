//! Patches: JSON patch, merge patch, strategic merge patch and server-side apply.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::write::{self, Current, Draft, Outcome};
use super::{Call, body, create, metadata, object_answer};
use crate::apply::{self, ApplyError};
use crate::error::{Details, Reason, StatusError};
use crate::patch::{self, PatchError};
use crate::request::Verb;
use crate::schema::{FieldError, FieldValidation, Media, Schema};

const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
                       application/strategic-merge-patch+json, application/apply-patch+yaml";

/// What custom kinds take.
const CUSTOM_PATCHES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// The four ways to say a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Kind {
    /// From the content type.
    pub(super) fn of(call: &Call) -> Result<Self, StatusError> {
        let media = call
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let kind = match media {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if call.resource.custom.is_none() => {
                Self::Strategic
            }
            "application/apply-patch+yaml" => Self::Apply,
            _ => {
                let custom = call.resource.custom.is_some();
                let accepted = if custom { CUSTOM_PATCHES } else { PATCHES };
                return Err(StatusError::unsupported_media_type(accepted));
            }
        };
        call.options.check(match kind {
            Self::Apply => Verb::Apply,
            _ => Verb::Patch,
        })?;
        Ok(kind)
    }
}

pub(super) async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let _announced = call.server.store.announce();
    let kind = Kind::of(call)?;
    let name = &call.path.name;
    for _ in 0..write::TRIES {
        let Some(current) = write::current(call, name).await? else {
            if kind == Kind::Apply && call.path.subresource.is_empty() {
                let mut draft = draft(call, kind, None, &body)?;
                metadata::check_place(call, &mut draft.object)?;
                return create::create_missing(call, draft).await;
            }
            return Err(call.not_found(name));
        };
        let mut draft = draft(call, kind, Some(&current), &body)?;
        let based_on = metadata::text(&draft.object, "resourceVersion");
        if !based_on.is_empty() && based_on.parse() != Ok(current.kv.mod_revision) {
            return Err(StatusError::modified(&call.resource, name));
        }
        match write::update(call, &current, &mut draft).await? {
            Outcome::Stored(bytes) | Outcome::Removed(bytes) => {
                return object_answer(call, StatusCode::OK, &bytes, draft.warnings).await;
            }
            Outcome::Raced => {}
        }
    }
    Err(StatusError::modified(&call.resource, name))
}

/// The patched object with the warnings about it.
fn draft(
    call: &Call,
    kind: Kind,
    current: Option<&Current>,
    body: &[u8],
) -> Result<Draft, StatusError> {
    let schema = call.resource.schema();
    if kind == Kind::Apply {
        return applied(call, schema, current, body);
    }
    let Some(current) = current else {
        return Err(call.not_found(&call.path.name));
    };
    let mut complaints = Vec::new();
    // A JSON patch may go into what is there even when nobody set it.
    let shown = (kind == Kind::Json).then(|| schema.shown(&current.object));
    let base = shown.as_ref().unwrap_or(&current.object);
    let mut object = change(kind, Some(&**schema), base, body, &mut complaints).map_err(refused)?;
    body::check_kind(
        &mut object,
        &call.resource.api_version(),
        &call.resource.kind,
    )?;
    let found = schema
        .check(&mut object, FieldValidation::Warn)
        .map_err(|error| unfit(body, &error.to_string()))?;
    complaints.extend(found);
    let warnings = match body::validation(call) {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Strict if !complaints.is_empty() => {
            let all = complaints.join(", ");
            return Err(unfit(body, &format!("strict decoding error: {all}")));
        }
        _ => complaints,
    };
    Ok(Draft {
        object,
        warnings,
        tracked: false,
    })
}

/// 422 for a patch whose outcome is no object of the kind. As in Kubernetes, it names the patch and not the
/// object.
fn unfit(patch: &[u8], why: &str) -> StatusError {
    let error = FieldError::invalid("patch", String::from_utf8_lossy(patch), why);
    let message = format!(" \"\" is invalid: {error}");
    StatusError::new(StatusCode::UNPROCESSABLE_ENTITY, Reason::Invalid, message)
        .with_details(Details::default())
        .with_cause(error.reason(), &error.path, error.body())
}

/// Applies a patch of the first three kinds to any object.
pub(super) fn change(
    kind: Kind,
    schema: Option<&Schema>,
    current: &Value,
    body: &[u8],
    complaints: &mut Vec<String>,
) -> Result<Value, PatchError> {
    match (kind, schema) {
        (Kind::Json, _) => patch::json(current, body, complaints),
        (Kind::Strategic, Some(schema)) => patch::strategic(schema, current, body, complaints),
        _ => patch::merge(current, body, complaints),
    }
}

pub(super) fn refused(error: PatchError) -> StatusError {
    match error {
        PatchError::Malformed(message) => StatusError::bad_request(message),
        PatchError::TooLarge(message) => StatusError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::RequestEntityTooLarge,
            message,
        ),
        // Kubernetes names no object here, only what went wrong.
        PatchError::Unprocessable(message) => StatusError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            Reason::Invalid,
            "the server rejected our request due to an error in our request",
        )
        .with_details(Details::default())
        .with_cause("", "", message),
    }
}

fn applied(
    call: &Call,
    schema: &Schema,
    current: Option<&Current>,
    body: &[u8],
) -> Result<Draft, StatusError> {
    let decoded = schema
        .decode_checked(body, Media::Yaml, FieldValidation::Warn)
        .map_err(|error| StatusError::bad_request(error.to_string()))?;
    let warnings = judge(call, decoded.warnings)?;
    let mut config = decoded.value;
    let api_version = call.resource.api_version();
    body::check_kind(&mut config, &api_version, &call.resource.kind)?;
    metadata::check_place(call, &mut config)?;
    let live = current.map(|current| &current.object);
    let based_on = metadata::text(&config, "resourceVersion").to_owned();
    let writer = call.writer(&api_version);
    let force = call.options.force == Some(true);
    let mut object = apply::apply(schema, live, config, &writer, force).map_err(conflicts)?;
    if !based_on.is_empty() {
        metadata::of_mut(&mut object)?.insert("resourceVersion".into(), based_on.into());
    }
    Ok(Draft {
        object,
        warnings,
        tracked: true,
    })
}

/// What a configuration may not have, whatever the validation asked for: fields without a type, since nobody
/// could own them. Fields named twice are a matter of the validation.
fn judge(call: &Call, complaints: Vec<String>) -> Result<Vec<String>, StatusError> {
    let unknown: Vec<String> = complaints
        .iter()
        .filter_map(|complaint| complaint.strip_prefix("unknown field \""))
        .map(|field| {
            format!(
                ".{}: field not declared in schema",
                field.trim_end_matches('"')
            )
        })
        .collect();
    if !unknown.is_empty() {
        let faults = match unknown.as_slice() {
            [one] => one.clone(),
            many => format!("errors:\n  {}", many.join("\n  ")),
        };
        let (namespace, name) = (call.namespace(), &call.path.name);
        let (resource, slash) = (&call.resource, if namespace.is_empty() { "" } else { "/" });
        let group_version = match &*resource.group {
            "" => format!("/{}", resource.version),
            group => format!("{group}/{}", resource.version),
        };
        let message = format!(
            "failed to create typed patch object ({namespace}{slash}{name}; {group_version}, Kind={}): {faults}",
            resource.kind
        );
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        return Err(StatusError::new(code, Reason::InternalError, message));
    }
    match body::validation(call) {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !complaints.is_empty() => {
            let what = "error strict decoding YAML: error converting YAML to JSON";
            let message = format!("{what}: {}", complaints.join(", "));
            Err(StatusError::bad_request(message))
        }
        _ => Ok(complaints),
    }
}

fn conflicts(error: ApplyError) -> StatusError {
    match error {
        ApplyError::Conflicts(ref conflicts) => {
            let message = error.to_string();
            let status = StatusError::new(StatusCode::CONFLICT, Reason::Conflict, message);
            conflicts.iter().fold(status, |status, conflict| {
                let message = format!("conflict with {}", conflict.manager);
                status.with_cause("FieldManagerConflict", &conflict.field, message)
            })
        }
        ApplyError::BadRequest(message) => StatusError::bad_request(message),
    }
}
