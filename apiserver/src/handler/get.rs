//! One object by name.

use axum::body::Body;
use http::{Response, StatusCode};

use super::{Call, object_answer, page, past};
use crate::error::StatusError;
use crate::request::Match;
use crate::storage::KeyValue;

pub(super) async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let name = &call.path.name;
    let key = call.key(name);
    let bytes = match page::not_older_than(call)? {
        // The past, as far as it is kept. Ordinary clients send no match with a get.
        Some(revision) if call.options.version_match == Some(Match::Exact) => {
            page::reach(call, revision).await?;
            past::require(call, "get", revision).await?;
            let kv = call.server.store.get(&key, Some(revision)).await?;
            kv.map(|kv| kv.value)
        }
        // Any version will do, or one that the cache has reached.
        Some(revision) => {
            page::reach(call, revision).await?;
            call.kind().get(&key).map(|object| object.bytes)
        }
        None => read(call, name).await?.map(|kv| kv.value),
    };
    let bytes = bytes.ok_or_else(|| call.not_found(name))?;
    object_answer(call, StatusCode::OK, &bytes, Vec::new()).await
}

/// The newest version of an object, from the store itself.
pub(super) async fn read(call: &Call, name: &str) -> Result<Option<KeyValue>, StatusError> {
    Ok(call.server.store.get(&call.key(name), None).await?)
}
