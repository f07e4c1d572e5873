//! Replacing an object, or one of its subresources that are views of the whole object.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::write::{self, Current, Draft, Outcome};
use super::{Call, body, create, metadata, object_answer};
use crate::error::StatusError;
use crate::schema::FieldError;

pub(super) async fn update(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let _announced = call.server.store.announce();
    let name = &call.path.name;
    for _ in 0..write::TRIES {
        let (mut object, warnings) = body::decode(call, &body)?;
        metadata::check_place(call, &mut object)?;
        let wanted = metadata::text(&object, "resourceVersion").to_owned();
        let Some(current) = write::current(call, name).await? else {
            let creates = call.resource.strategy().allow_create_on_update()
                && call.path.subresource.is_empty()
                && wanted.is_empty();
            if creates {
                return create::create_missing(
                    call,
                    Draft {
                        object,
                        warnings,
                        tracked: false,
                    },
                )
                .await;
            }
            return Err(call.not_found(name));
        };
        check_revision(call, &current, &wanted)?;
        let mut draft = Draft {
            object,
            warnings,
            tracked: false,
        };
        match write::update(call, &current, &mut draft).await? {
            Outcome::Stored(bytes) | Outcome::Removed(bytes) => {
                return object_answer(call, StatusCode::OK, &bytes, draft.warnings).await;
            }
            // The next round finds out whether the version asked for is gone.
            Outcome::Raced => {}
        }
    }
    Err(StatusError::modified(&call.resource, name))
}

/// An update names the version it was made from, or (where the kind allows it) none.
fn check_revision(call: &Call, current: &Current, wanted: &str) -> Result<(), StatusError> {
    let name = metadata::text(&current.object, "name");
    if wanted.is_empty() {
        if call.resource.strategy().allow_unconditional_update() {
            return Ok(());
        }
        let error = FieldError::invalid(
            "metadata.resourceVersion",
            Value::from(0),
            "must be specified for an update",
        );
        return Err(StatusError::invalid(&call.resource, name, &[error]));
    }
    if wanted.parse() == Ok(current.kv.mod_revision) {
        return Ok(());
    }
    if wanted.parse::<u64>().is_err() {
        let error = FieldError::invalid(
            "metadata.resourceVersion",
            wanted,
            "must be a decimal number",
        );
        return Err(StatusError::invalid(&call.resource, name, &[error]));
    }
    Err(StatusError::modified(&call.resource, name))
}
