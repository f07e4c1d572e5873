//! Which revision a read is served at, and pages that belong together.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Call, past, selected};
use crate::cache::{self, Page};
use crate::error::StatusError;
use crate::object::Object;
use crate::selection::Selection;
use crate::storage::{Error, Range, Revision};

/// How long a read waits for a revision this server has not reached.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keys read from the store's past at once while looking for the selected ones.
const STRIDE: usize = 1000;

/// What a continue token says. The same text as Kubernetes', though clients must not read it.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    /// Key below the prefix of the list, followed by a NUL: the first key that may come next.
    start: String,
}

/// A revision that the answer must not be older than; `None` means the newest.
pub(super) fn not_older_than(call: &Call) -> Result<Option<Revision>, StatusError> {
    call.options
        .resource_version
        .as_deref()
        .map(revision)
        .transpose()
}

pub(super) fn revision(text: &str) -> Result<Revision, StatusError> {
    text.parse().map_err(|_| {
        StatusError::bad_request(format!(
            "Invalid value: {text:?}: resourceVersion is not a number"
        ))
    })
}

/// Waits until the cache holds everything up to a revision.
pub(super) async fn reach(call: &Call, revision: Revision) -> Result<(), StatusError> {
    let cache = &call.server.cache;
    if revision <= cache.revision() || cache.wait_for(revision, PATIENCE).await {
        return Ok(());
    }
    Err(StatusError::future_revision(revision, cache.revision()))
}

/// The page that the options of a list, or of another verb for a collection, ask for.
pub(super) async fn page(
    call: &Call,
    verb: &str,
    selection: &Selection,
) -> Result<Page, StatusError> {
    if selected::is_needed(&call.resource, selection) {
        return selected::page(call, verb, selection).await;
    }
    as_stored(call, verb, selection).await
}

/// The page, as far as what is stored tells what is selected.
pub(super) async fn as_stored(
    call: &Call,
    verb: &str,
    selection: &Selection,
) -> Result<Page, StatusError> {
    let options = &call.options;
    if !options.continue_token.is_empty() {
        if options
            .resource_version
            .as_deref()
            .is_some_and(|version| version != "0")
        {
            let message = "specifying resource version is not allowed when using continue";
            return Err(StatusError::bad_request(message));
        }
        return continued(call, verb, selection).await;
    }
    let cache = &call.server.cache;
    match not_older_than(call)? {
        Some(at) if options.version_match == Some(crate::request::Match::Exact) => {
            reach(call, at).await?;
            past::require(call, verb, at).await?;
            return stored(call, selection, None, at).await;
        }
        Some(at) => reach(call, at).await?,
        None => {}
    }
    // It costs nothing to be newer than asked.
    cache.catch_up();
    Ok(call
        .kind()
        .page(selection, None, options.limit, cache.revision()))
}

async fn continued(call: &Call, verb: &str, selection: &Selection) -> Result<Page, StatusError> {
    let (at, start) = decode(&call.options.continue_token, &selection.prefix)?;
    let kind = call.kind();
    call.server.cache.catch_up();
    let now = call.server.cache.revision();
    let Some(at) = at else {
        // An inconsistent continuation was asked for: go on with what is there now.
        return Ok(kind.page(selection, Some(&start), call.options.limit, now));
    };
    if kind.newest() <= at && at <= now {
        let page = kind.page(selection, Some(&start), call.options.limit, at);
        if page.revision == at {
            return Ok(page);
        }
    }
    let expired = || StatusError::expired_continue(encode(-1, &selection.prefix, &start));
    if past::require(call, verb, at).await.is_err() {
        return Err(expired());
    }
    match stored(call, selection, Some(start.clone()), at).await {
        Err(error) if error.code() == 410 => Err(expired()),
        result => result,
    }
}

/// A page from the store's history.
async fn stored(
    call: &Call,
    selection: &Selection,
    mut start_after: Option<String>,
    at: Revision,
) -> Result<Page, StatusError> {
    let kind = call.kind();
    let wanted = if call.options.limit == 0 {
        usize::MAX
    } else {
        call.options.limit
    };
    let whole = selection.is_whole();
    let mut objects: Vec<Object> = Vec::new();
    loop {
        let range = Range {
            prefix: selection.prefix.to_string(),
            start_after: start_after.take(),
            limit: if whole && wanted < usize::MAX {
                wanted
            } else {
                STRIDE
            },
            at: Some(at),
        };
        let response = call.server.store.range(range).await?;
        let last = response.kvs.last().map(|kv| kv.key.to_string());
        for kv in response.kvs {
            let object = cache::object(kv, &kind);
            if !whole && !selection.has(&object) {
                continue;
            }
            if objects.len() == wanted {
                return Ok(Page {
                    objects,
                    revision: at,
                    more: true,
                    remaining: None,
                });
            }
            objects.push(object);
        }
        if !response.more {
            return Ok(Page {
                objects,
                revision: at,
                more: false,
                remaining: None,
            });
        }
        if whole && objects.len() >= wanted {
            let remaining = Some(response.remaining);
            return Ok(Page {
                objects,
                revision: at,
                more: true,
                remaining,
            });
        }
        start_after = last;
    }
}

/// The token that goes on after a page.
pub(super) fn next_token(page: &Page, prefix: &str) -> Option<String> {
    let last = page.objects.last().filter(|_| page.more)?;
    Some(encode(
        i64::try_from(page.revision).ok()?,
        prefix,
        &last.key,
    ))
}

fn encode(rv: i64, prefix: &str, last: &str) -> String {
    let start = format!("{}\0", last.strip_prefix(prefix).unwrap_or(last));
    let token = Token {
        v: "meta.k8s.io/v1".to_owned(),
        rv,
        start,
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// The revision (`None`: whatever is there now) and the key after which to go on.
fn decode(text: &str, prefix: &str) -> Result<(Option<Revision>, String), StatusError> {
    let invalid = || StatusError::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let local = token.start.strip_suffix('\0').ok_or_else(invalid)?;
    let plain = !local.is_empty()
        && local
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
    if token.v != "meta.k8s.io/v1" || !plain || local.contains('\0') || token.rv == 0 {
        return Err(invalid());
    }
    Ok((
        Revision::try_from(token.rv).ok(),
        format!("{prefix}{local}"),
    ))
}

impl From<Error> for StatusError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Compacted { requested, oldest } => {
                Self::expired(format!("too old resource version: {requested} ({oldest})"))
            }
            Error::Future { requested, current } => Self::future_revision(*requested, *current),
            Error::TooLarge { limit, .. } => Self::too_large(*limit),
            Error::Full { .. } | Error::Unwritable { .. } | Error::Closed | Error::Lagged => {
                Self::service_unavailable(error.to_string())
            }
            _ => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_cannot_leave_its_list() {
        let token = encode(7, "/registry/core/pods/", "/registry/core/pods/a/b");
        let (at, start) = decode(&token, "/registry/core/pods/").unwrap();
        assert_eq!((at, start.as_str()), (Some(7), "/registry/core/pods/a/b"));
        let other = encode(-1, "/p/", "/p/../secrets/x");
        assert!(decode(&other, "/p/").is_err());
        for wrong in ["", "x", "e30", "!!"] {
            assert!(decode(wrong, "/p/").is_err());
        }
    }
}
