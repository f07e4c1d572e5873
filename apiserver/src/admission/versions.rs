//! Objects as hooks want to see them: in another version, and back.

use serde_json::Value;

use super::matching::{Hit, Scene};
use super::{Error, Request};
use crate::resource::Resource;
use crate::schema::{FieldValidation, Schema};

fn failed(message: String) -> Error {
    Error::Internal { message }
}

/// Whether an object is the resource's own kind, not that of a subresource.
fn is_whole(request: &Request<'_>, object: &Value) -> bool {
    object["kind"]
        .as_str()
        .is_none_or(|kind| kind == request.kind)
}

async fn convert(from: &Resource, to: &Resource, object: Value) -> Result<Value, String> {
    let stored = match &from.conversion {
        Some(conversion) => conversion.store(object).await?,
        None => object,
    };
    match &to.conversion {
        Some(conversion) => conversion.serve_one(stored).await,
        None => Ok(stored),
    }
}

/// The object in the version of the hit; `None` when it is that already.
///
/// # Errors
/// The conversion's.
pub(super) async fn seen(
    scene: &Scene<'_>,
    hit: &Hit,
    object: &Value,
) -> Result<Option<Value>, Error> {
    let (Hit::As(other), Some(own)) = (hit, scene.own()) else {
        return Ok(None);
    };
    if object.is_null() || !is_whole(scene.request, object) {
        return Ok(None);
    }
    let converted = convert(&own, other, object.clone()).await;
    converted.map(Some).map_err(failed)
}

/// A changed object, complete and back in the request's version.
///
/// # Errors
/// The object is not what its kind allows, or cannot be converted.
pub(super) async fn settled(
    scene: &Scene<'_>,
    hit: &Hit,
    mut object: Value,
) -> Result<Value, Error> {
    let request = scene.request;
    let Some(own) = scene.own() else {
        return Ok(object);
    };
    if !is_whole(request, &object) {
        let (group, version, kind) = super::facts::kind_of(request, &object);
        if let Some(schema) = Schema::builtin(&group, &version, &kind) {
            complete(&schema, &mut object)?;
        }
        return Ok(object);
    }
    match hit {
        Hit::Own => {
            complete(own.schema(), &mut object)?;
            own.strategy().default(&mut object);
        }
        Hit::As(other) => {
            complete(other.schema(), &mut object)?;
            other.strategy().default(&mut object);
            object = convert(other, &own, object).await.map_err(failed)?;
            own.strategy().default(&mut object);
        }
    }
    Ok(object)
}

fn complete(schema: &Schema, object: &mut Value) -> Result<(), Error> {
    let checked = schema.check(object, FieldValidation::Ignore);
    checked.map(drop).map_err(|error| failed(error.to_string()))
}
