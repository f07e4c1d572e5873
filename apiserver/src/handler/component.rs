//! ComponentStatuses, made when they are asked for.

use axum::body::Body;
use http::{Response, StatusCode};

use super::{Call, list, object_answer};
use crate::cache::{self, Page};
use crate::error::StatusError;
use crate::storage::KeyValue;

const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

pub(super) async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let name = &*call.path.name;
    let mut all = call.server.component_statuses();
    let one = all.remove(name).ok_or_else(|| call.not_found(name))?;
    let warnings = vec![DEPRECATED.to_owned()];
    object_answer(call, StatusCode::OK, &one.to_string().into(), warnings).await
}

pub(super) async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let selection = list::selection(call)?;
    let kind = call.kind();
    let revision = call.server.cache.revision();
    let all = call.server.component_statuses().into_iter();
    let all = all.map(|(name, object)| {
        let kv = KeyValue {
            key: call.key(name),
            value: object.to_string().into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        };
        cache::object(kv, &kind)
    });
    let page = Page {
        objects: all.filter(|object| selection.has(object)).collect(),
        revision,
        more: false,
        remaining: None,
    };
    let mut response = list::answer(call, page, &selection.prefix).await?;
    super::add_warnings(response.headers_mut(), &[DEPRECATED.to_owned()]);
    Ok(response)
}
