//! New objects.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::write::{self, Draft, Outcome};
use super::{Call, access, body, get, metadata, object_answer};
use crate::error::StatusError;

pub(super) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let _announced = call.server.store.announce();
    if !call.path.name.is_empty() {
        return Err(StatusError::method_not_allowed());
    }
    let (object, warnings) = body::decode(call, &body)?;
    create_object(
        call,
        Draft {
            object,
            warnings,
            tracked: false,
        },
    )
    .await
}

/// Creates an object that an update or an apply did not find. Whoever may only change what is there must not make it, so
/// this takes the right to create beside that of the request.
pub(super) async fn create_missing(
    call: &Call,
    draft: Draft,
) -> Result<Response<Body>, StatusError> {
    access::require(&call.server, &call.user, &call.path, "create").await?;
    create_object(call, draft).await
}

/// Creates an object that is decoded already. A generated name that is taken is replaced by another.
async fn create_object(call: &Call, mut draft: Draft) -> Result<Response<Body>, StatusError> {
    refuse_terminating(call)?;
    metadata::check_place(call, &mut draft.object)?;
    let generates = metadata::text(&draft.object, "name").is_empty();
    let retries = generates || call.resource.companion.is_some();
    let original = retries.then(|| draft.object.clone());
    for _ in 0..write::TRIES {
        metadata::begin(call, &mut draft.object)?;
        let name = metadata::text(&draft.object, "name").to_owned();
        write::prepare_new(call, &mut draft).await?;
        match write::store_new(call, draft.object.take()).await? {
            Outcome::Stored(bytes) | Outcome::Removed(bytes) => {
                return object_answer(call, StatusCode::CREATED, &bytes, draft.warnings).await;
            }
            Outcome::Raced => {}
        }
        // The name, or only something that goes with the object, such as the address of a Service.
        let taken = get::read(call, &name).await?.is_some();
        match &original {
            Some(original) if generates || !taken => draft.object = original.clone(),
            _ => return Err(StatusError::already_exists(&call.resource, &name)),
        }
    }
    Err(StatusError::already_exists(&call.resource, "").with_cause(
        "",
        "metadata.generateName",
        "no free name was found; try again",
    ))
}

fn refuse_terminating(call: &Call) -> Result<(), StatusError> {
    match &call.resource.custom {
        Some(custom) if custom.terminating => Err(StatusError::method_not_allowed_for(
            "create not allowed while custom resource definition is terminating",
        )),
        _ => Ok(()),
    }
}
