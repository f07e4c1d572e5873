//! Rights on the past. A right to a name, or to what is in a namespace, is one to the object or the namespace that has the name
//! now. What had it before was somebody else's: who may read that is who may read the kind whatever the names are.

use std::sync::Arc;

use super::{Call, access};
use crate::auth::groups;
use crate::error::StatusError;
use crate::storage::{Revision, Store};

/// Where the namespaces are in the store.
const NAMESPACES: &str = "/registry/core/namespaces/";

/// The keys of what a request names.
struct Named {
    namespace: Option<String>,
    object: Option<Arc<str>>,
}

impl Named {
    fn of(call: &Call, verb: &str) -> Self {
        let namespace = Some(call.namespace()).filter(|namespace| !namespace.is_empty());
        let pinned = call.options.pinned_name(verb);
        let name = Some(call.path.name.clone()).filter(|name| !name.is_empty());
        // A name in all namespaces is nobody's in particular.
        let everywhere = call.resource.namespaced && namespace.is_none();
        let name = name.or(pinned).filter(|_| !everywhere);
        Self {
            namespace: namespace.map(|namespace| format!("{NAMESPACES}{namespace}")),
            object: name.map(|name| call.key(&name)),
        }
    }
}

/// What a request reaches back to by names that others had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Nothing,
    Object,
    Namespace,
}

impl Other {
    fn of(namespace: bool, object: bool) -> Self {
        match (namespace, object) {
            (true, _) => Self::Namespace,
            (false, true) => Self::Object,
            (false, false) => Self::Nothing,
        }
    }

    /// Asks for the right that needs no names.
    async fn require(self, call: &Call, verb: &str) -> Result<(), StatusError> {
        let mut wanted = call.path.clone();
        wanted.name.clear();
        // Namespaces are in themselves.
        if self == Self::Namespace || call.resource.is("", "namespaces") {
            wanted.namespace.clear();
        }
        match self {
            Self::Nothing => Ok(()),
            _ => access::require(&call.server, &call.user, &wanted, verb).await,
        }
    }
}

/// Whether the user of a request may read what it names as that was at a revision.
///
/// # Errors
/// 403 when namespace or object were others then, and the right to read is one to their names.
pub(super) async fn require(call: &Call, verb: &str, at: Revision) -> Result<(), StatusError> {
    if call.user.in_group(groups::MASTERS) {
        return Ok(());
    }
    let store = &*call.server.store;
    let named = Named::of(call, verb);
    let other = async |key: Option<&str>| match key {
        Some(key) => {
            let now = store.get(key, None).await?;
            Ok::<_, StatusError>(now.is_none_or(|kv| kv.create_revision > at))
        }
        None => Ok(false),
    };
    let other = Other::of(
        other(named.namespace.as_deref()).await?,
        other(named.object.as_deref()).await?,
    );
    other.require(call, verb).await
}

/// Whether the user of a watch may be told what happened to what it names since a revision.
///
/// # Errors
/// 410 when namespace or object were others meanwhile, and the right to watch is one to their names: the client begins anew
/// with what there is now.
pub(super) async fn require_since(call: &Call, after: Revision) -> Result<(), StatusError> {
    if call.user.in_group(groups::MASTERS) {
        return Ok(());
    }
    let store = &*call.server.store;
    let named = Named::of(call, "watch");
    // Rights in a namespace go with it, so whoever is let in without one has others.
    let namespace = match named.namespace.as_deref() {
        Some(key) => made_after(store, key, after).await? == Some(true),
        None => false,
    };
    let object = match named.object.as_deref() {
        Some(key) => match made_after(store, key, after).await? {
            Some(after) => after,
            None => store.get(key, Some(after)).await?.is_some(),
        },
        None => false,
    };
    let other = Other::of(namespace, object);
    other.require(call, "watch").await.map_err(|_| {
        StatusError::expired(format!(
            "too old resource version: {after} (what is watched was made anew since)"
        ))
    })
}

/// Whether what has the key now is younger than a revision; `None` when nothing has it.
async fn made_after(
    store: &dyn Store,
    key: &str,
    revision: Revision,
) -> Result<Option<bool>, StatusError> {
    let now = store.get(key, None).await?;
    Ok(now.map(|kv| kv.create_revision > revision))
}
