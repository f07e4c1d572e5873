//! The one place where a failure becomes a Kubernetes `Status` and an HTTP answer.
//!
//! Inner layers know no HTTP. The reasons, codes and message shapes here are the ones that kubectl
//! and client-go branch on (meta/v1 `Status`, API conventions "Error codes").

use std::fmt;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::resource::Resource;
use crate::schema::FieldError;
use crate::{admission, auth};

/// `reason` of a `Status`: the machine-readable cause that clients branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    Timeout,
    ServerTimeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

/// One cause inside `details`: which field failed and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Machine-readable kind, such as `FieldValueRequired`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field in the object, such as `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `details` of a `Status`: the object the request was about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource name for lookups, the kind for validation failures (as Kubernetes does).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Also sent as the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Serialize)]
struct ListMeta<'a> {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

#[derive(Serialize)]
struct Wire<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: ListMeta<'a>,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    code: u16,
    reason: Option<Reason>,
    message: String,
    details: Option<Details>,
    continue_token: Option<String>,
    /// The whole object, when somebody else made it.
    verbatim: Option<Box<serde_json::Value>>,
}

/// A refused or failed request, ready to be sent as a `Status` object.
///
/// `Display` is the message alone. Cheap to move: one pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusError(Box<Inner>);

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for StatusError {}

impl StatusError {
    /// A failure with code, reason and message and no details.
    pub fn new(code: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code: code.as_u16(),
            reason: Some(reason),
            message: message.into(),
            details: None,
            continue_token: None,
            verbatim: None,
        }))
    }

    /// A failure that somebody else put into a `Status` object. It is sent as it is; a code that is none
    /// becomes 500.
    pub(crate) fn relayed(status: serde_json::Value) -> Self {
        let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok());
        let code = code.and_then(|code| StatusCode::from_u16(code).ok());
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        let mut error = Self::internal("");
        error.0.code = code.map_or(500, |code| code.as_u16());
        error.0.message = message;
        error.0.reason = None;
        error.0.details = None;
        error.0.verbatim = Some(Box::new(status));
        error
    }

    /// The same failure with `details`.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.0.details = Some(details);
        self
    }

    /// The same failure with one more cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, field: &str, message: impl Into<String>) -> Self {
        let cause = Cause {
            reason: reason.into(),
            message: message.into(),
            field: field.to_owned(),
        };
        self.0
            .details
            .get_or_insert_with(Details::default)
            .causes
            .push(cause);
        self
    }

    /// The same failure, asking the client to come back after `seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0
            .details
            .get_or_insert_with(Details::default)
            .retry_after_seconds = Some(seconds);
        self
    }

    fn of(
        code: StatusCode,
        reason: Reason,
        resource: &Resource,
        name: &str,
        message: String,
    ) -> Self {
        Self::new(code, reason, message).with_details(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.plural.to_string(),
            ..Details::default()
        })
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::of(
            StatusCode::NOT_FOUND,
            Reason::NotFound,
            resource,
            name,
            message,
        )
    }

    /// 404 for a path that names no resource of this server.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, Reason::NotFound, message).with_details(Details::default())
    }

    /// 409 on create: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::of(
            StatusCode::CONFLICT,
            Reason::AlreadyExists,
            resource,
            name,
            message,
        )
    }

    /// 409 on a write whose resourceVersion or precondition no longer holds.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        Self::of(
            StatusCode::CONFLICT,
            Reason::Conflict,
            resource,
            name,
            message,
        )
    }

    /// 409: another writer was first (optimistic concurrency).
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, name, why)
    }

    /// 403: `pods "x" is forbidden: why`.
    pub fn forbidden(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", resource.qualified())
        } else {
            format!("{} {name:?} is forbidden: {why}", resource.qualified())
        };
        Self::of(
            StatusCode::FORBIDDEN,
            Reason::Forbidden,
            resource,
            name,
            message,
        )
    }

    /// 403 for a path that is not a resource's.
    pub fn forbidden_path(path: &str, why: impl fmt::Display) -> Self {
        let message = format!("forbidden: {why}: {path}");
        Self::new(StatusCode::FORBIDDEN, Reason::Forbidden, message)
            .with_details(Details::default())
    }

    /// 401 without saying why, as Kubernetes does.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            Reason::Unauthorized,
            "Unauthorized",
        )
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::BadRequest, message)
    }

    /// 410 with reason `Expired`: the revision asked for is no longer kept; list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, Reason::Expired, message)
    }

    /// 410 for a continue token, with a fresh token that goes on from the same key at a newer revision.
    pub fn expired_continue(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list \
                       result. You can start a new list without the continue parameter, or use \
                       the continue token in this response to retrieve the remainder of the \
                       results. Continuing with the provided token results in an inconsistent \
                       list - objects that were created, modified, or deleted between the time \
                       the first chunk was returned and now may show up in the list.";
        let mut error = Self::expired(message);
        error.0.continue_token = Some(token);
        error
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Reason::MethodNotAllowed,
            message,
        )
        .with_details(Details::default())
    }

    /// 405 with a message of its own.
    pub(crate) fn method_not_allowed_for(message: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Reason::MethodNotAllowed,
            message,
        )
    }

    /// 422: the object has these faults.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let status = Self::unprocessable(resource, name, &together(errors));
        status.with_faults(errors)
    }

    /// 422: the options of a request (`CreateOptions` and so on) have these faults.
    pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        let group = "meta.k8s.io";
        let message = format!("{kind}.{group} \"\" is invalid: {}", together(errors));
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Reason::Invalid, message)
            .with_details(Details {
                group: group.to_owned(),
                kind: kind.to_owned(),
                ..Details::default()
            })
            .with_faults(errors)
    }

    fn with_faults(self, errors: &[FieldError]) -> Self {
        errors.iter().fold(self, |status, error| {
            status.with_cause(error.reason(), &error.path, error.body())
        })
    }

    /// 422 with a text instead of fields.
    pub fn unprocessable(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is invalid: {why}", resource.qualified_kind());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Reason::Invalid, message).with_details(
            Details {
                name: name.to_owned(),
                group: resource.group.to_string(),
                kind: resource.kind.to_string(),
                ..Details::default()
            },
        )
    }

    /// What a refusal of admission is to the client.
    pub(crate) fn admission(resource: &Resource, name: &str, error: admission::Error) -> Self {
        match error {
            admission::Error::Forbidden { message, cause } => {
                let status = Self::forbidden(resource, name, message);
                match cause {
                    Some(cause) => status.with_cause(&cause.reason, &cause.field, cause.message),
                    None => status,
                }
            }
            admission::Error::NotFound {
                group,
                resource,
                name,
            } => Self::missing(&group, &resource, &name),
            admission::Error::Status(status) => Self::relayed(*status),
            admission::Error::Invalid { errors } => Self::invalid(resource, name, &errors),
            admission::Error::Internal { message } => Self::internal(message),
        }
    }

    /// 404 for an object of a kind that is known by name only.
    fn missing(group: &str, plural: &str, name: &str) -> Self {
        let qualified = if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        };
        Self::new(
            StatusCode::NOT_FOUND,
            Reason::NotFound,
            format!("{qualified} {name:?} not found"),
        )
        .with_details(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: plural.to_owned(),
            ..Details::default()
        })
    }

    /// 415, listing what would be understood.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::UnsupportedMediaType,
            message,
        )
    }

    /// 406, listing what could be sent.
    pub fn not_acceptable(offered: &str) -> Self {
        let message = format!("only the following media types are accepted: {offered}");
        Self::new(StatusCode::NOT_ACCEPTABLE, Reason::NotAcceptable, message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::RequestEntityTooLarge,
            message,
        )
    }

    /// 429: come back after `seconds`.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            Reason::TooManyRequests,
            message,
        )
        .retry_after(seconds)
    }

    /// 500. The cause is shown to the client, so it must not hold secrets.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let cause = cause.to_string();
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Reason::InternalError,
            format!("Internal error occurred: {cause}"),
        )
        .with_cause("", "", cause)
    }

    /// 503: retrying later helps.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::ServiceUnavailable,
            message,
        )
    }

    /// 504: the server could not do it in time; retrying helps.
    pub fn timeout(message: impl fmt::Display) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            Reason::Timeout,
            format!("Timeout: {message}"),
        )
        .retry_after(1)
    }

    /// 504 for a `resourceVersion` that this server has not reached.
    pub fn future_revision(requested: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        Self::timeout(message).with_cause(
            "ResourceVersionTooLarge",
            "",
            "Too large resource version",
        )
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Machine-readable reason.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// What the user reads.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `Status` object as JSON; also sent inside a watch as the object of an `ERROR` event.
    pub fn to_json(&self) -> Bytes {
        let inner = &*self.0;
        if let Some(status) = &inner.verbatim {
            return status.to_string().into();
        }
        let wire = Wire {
            kind: "Status",
            api_version: "v1",
            metadata: ListMeta {
                token: inner.continue_token.as_deref(),
            },
            status: "Failure",
            message: &inner.message,
            reason: inner.reason,
            details: inner.details.as_ref(),
            code: inner.code,
        };
        // Serialising strings and numbers cannot fail.
        serde_json::to_vec(&wire).unwrap_or_default().into()
    }
}

/// Faults in one line.
fn together(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

impl From<auth::Error> for StatusError {
    fn from(error: auth::Error) -> Self {
        let details = |group: String, kind: String, name: String| Details {
            name,
            group,
            kind,
            ..Details::default()
        };
        match error {
            auth::Error::Unauthorized { reason } => {
                tracing::debug!(reason, "a request was not authenticated");
                Self::unauthorized()
            }
            auth::Error::Forbidden {
                group,
                resource,
                name,
                message,
            } => Self::new(StatusCode::FORBIDDEN, Reason::Forbidden, message)
                .with_details(details(group, resource, name)),
            auth::Error::BadRequest { message } => Self::bad_request(message),
            auth::Error::NotFound {
                group,
                resource,
                name,
            } => Self::missing(&group, &resource, &name),
            auth::Error::Conflict {
                group,
                resource,
                name,
                message,
            } => Self::new(StatusCode::CONFLICT, Reason::Conflict, message)
                .with_details(details(group, resource, name)),
            auth::Error::Invalid {
                kind,
                name,
                field,
                detail,
            } => {
                let message = format!("{kind} {name:?} is invalid: {field}: {detail}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Reason::Invalid, message)
                    .with_details(details(String::new(), kind.to_owned(), name))
                    .with_cause("FieldValueInvalid", &field, detail)
            }
            auth::Error::Internal { message } => Self::internal(message),
        }
    }
}

impl IntoResponse for StatusError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = self
            .0
            .details
            .as_ref()
            .and_then(|details| details.retry_after_seconds);
        let mut response = (code, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests;
