//! Selecting by fields of a version that is not what is stored: its objects are converted before they are looked at.

use bytes::Bytes;

use super::answer::parse;
use super::{Call, page};
use crate::cache::{Change, EventType, Page};
use crate::error::StatusError;
use crate::object::{Object, Paths};
use crate::request::Options;
use crate::resource::Resource;
use crate::selection::Selection;

/// Whether the stored form cannot tell what is selected.
pub(super) fn is_needed(resource: &Resource, selection: &Selection) -> bool {
    resource.custom.is_some() && resource.conversion.is_some() && selection.names_fields()
}

/// Objects as the version of the resource has them.
///
/// # Errors
/// An object cannot be converted.
pub(super) async fn served(
    resource: &Resource,
    paths: &Paths,
    objects: Vec<Object>,
) -> Result<Vec<Object>, StatusError> {
    let Some(conversion) = &resource.conversion else {
        return Ok(objects);
    };
    let parsed = objects.iter().map(|object| parse(&object.bytes));
    let parsed = parsed.collect::<Result<Vec<_>, StatusError>>()?;
    let values = conversion.serve(parsed).await;
    let values = values.map_err(StatusError::internal)?;
    let with = |(object, value): (Object, serde_json::Value)| {
        object.with_bytes(value.to_string().into(), paths)
    };
    Ok(objects.into_iter().zip(values).map(with).collect())
}

/// Those of `objects` that are selected, as they are stored.
///
/// # Errors
/// As [`served`].
pub(super) async fn among(
    resource: &Resource,
    paths: &Paths,
    selection: &Selection,
    objects: Vec<Object>,
) -> Result<Vec<Object>, StatusError> {
    let served = served(resource, paths, objects.clone()).await?;
    let pairs = objects.into_iter().zip(served);
    let selected = pairs.filter(|(_, served)| selection.has(served));
    Ok(selected.map(|(object, _)| object).collect())
}

/// The page that the options of a list ask for.
///
/// # Errors
/// Those of a list, and of [`served`].
pub(super) async fn page(
    call: &Call,
    verb: &str,
    selection: &Selection,
) -> Result<Page, StatusError> {
    let options = Options {
        limit: 0,
        ..call.options.clone()
    };
    let all = call.derived(call.path.clone(), options);
    let mut page = page::as_stored(&all, verb, &selection.without_fields()).await?;
    let paths = call.kind().paths();
    page.objects = among(&call.resource, &paths, selection, page.objects).await?;
    let limit = call.options.limit;
    page.more = limit > 0 && page.objects.len() > limit;
    page.remaining = None;
    if page.more {
        page.objects.truncate(limit);
    }
    Ok(page)
}

/// How a watcher with this selection sees a change, with the object as it is served.
///
/// # Errors
/// As [`served`].
pub(super) async fn seen(
    resource: &Resource,
    paths: &Paths,
    selection: &Selection,
    change: &Change,
    lean: bool,
) -> Result<Option<(EventType, Bytes)>, StatusError> {
    let both: Vec<Object> = [&change.before, &change.now]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let mut both = served(resource, paths, both).await?.into_iter();
    let before = change.before.as_ref().and_then(|_| both.next());
    let now = change.now.as_ref().and_then(|_| both.next());
    Ok(Change::new(change.revision, now, before).seen_by(selection, lean))
}
