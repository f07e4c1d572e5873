//! Several objects in one atomic write: all of them at one revision, or none.
//!
//! `POST /apis/davit.dev/v1alpha1/transactions` takes a list of actions. Each passes the handler of its own
//! request, with authorization, admission and validation, but the transactions they end in are gathered and
//! carried out as one. Admission of an item sees the objects that earlier items write (`crate::pending`), so a
//! namespace may be made with what is in it; what it reads as a whole is as before the transaction. Kinds, too,
//! are those served before it: a definition and objects of its kind take two transactions.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::write::{self, TRIES};
use super::{Answer, Call, access, create, delete, get, metadata, patch, update};
use crate::ApiServer;
use crate::admission::Reservation;
use crate::auth::UserInfo;
use crate::error::{Reason, StatusError};
use crate::pending::Pending;
use crate::request::{Accept, Options, ResourcePath, Verb};
use crate::storage::{KeyValue, MAX_OPS, Op, Txn};

const GROUP: &str = "davit.dev";
const API_VERSION: &str = "davit.dev/v1alpha1";

/// Whether a path is the endpoint.
pub(super) fn is_here(path: &ResourcePath, verb: &str) -> bool {
    path.group == GROUP
        && path.version == "v1alpha1"
        && path.resource == "transactions"
        && path.namespace.is_empty()
        && path.name.is_empty()
        && verb == "create"
}

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Transaction {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    action: Action,
    object: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    Create,
    Update,
    Apply,
    Delete,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Apply => "patch",
            Self::Delete => "delete",
        }
    }
}

/// The writes gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    gathered: Mutex<Gathered>,
    pending: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Gathered {
    txn: Txn,
    taken: Vec<Reservation>,
}

impl Batch {
    /// Adds the transaction of one object; gives back the object's bytes, which have no revision yet.
    pub(super) fn add(&self, txn: Txn, taken: Vec<Reservation>) -> Result<Bytes, StatusError> {
        let mut gathered = self.gathered.lock();
        let first = txn.ops.iter().find_map(|op| match op {
            Op::Put { value, .. } => Some(value.bytes.clone()),
            _ => None,
        });
        self.pending.add(&txn.ops).map_err(|key| {
            let key = key.trim_start_matches("/registry/");
            StatusError::bad_request(format!(
                "two items of the transaction write {key}; an object may be in it once, and \
                 objects that share an allocation are written one by one"
            ))
        })?;
        gathered.txn.compares.extend(txn.compares);
        gathered.txn.ops.extend(txn.ops);
        for one in taken {
            let same = gathered
                .taken
                .iter_mut()
                .find(|have| have.key() == one.key());
            match same {
                Some(have) => *have = have.clone().and(one),
                None => gathered.taken.push(one),
            }
        }
        Ok(first.unwrap_or_default())
    }

    fn into_parts(self: Arc<Self>) -> (Txn, Vec<Reservation>) {
        let gathered = std::mem::take(&mut *self.gathered.lock());
        (gathered.txn, gathered.taken)
    }
}

/// Who asks, and with which options.
pub(super) struct Caller {
    pub(super) server: Arc<ApiServer>,
    pub(super) user: Arc<UserInfo>,
    pub(super) options: Options,
    pub(super) manager: String,
}

pub(super) async fn run(caller: &Caller, body: Bytes) -> Result<Response<Body>, StatusError> {
    caller.options.check(Verb::Update)?;
    let wrong = |what: String| StatusError::bad_request(what);
    let transaction: Transaction =
        serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
    let (version, kind) = (&*transaction.api_version, &*transaction.kind);
    if !matches!((version, kind), ("" | API_VERSION, "" | "Transaction")) {
        return Err(wrong(format!(
            "{version} {kind} is not {API_VERSION} Transaction"
        )));
    }
    let items = transaction.items;
    if items.is_empty() || items.len() > MAX_OPS {
        return Err(wrong(format!("a transaction has 1 to {MAX_OPS} items")));
    }
    for _ in 0..TRIES {
        let batch: Arc<Batch> = Arc::default();
        let mut results = Vec::with_capacity(items.len());
        let mut calls = Vec::with_capacity(items.len());
        let mut warnings = Vec::new();
        for item in &items {
            let call = call(caller, item, &batch)?;
            access::require(&caller.server, &caller.user, &call.path, item.action.verb()).await?;
            let work = one(&call, item, &mut warnings);
            results.push(batch.pending.clone().seen_by(work).await?);
            calls.push(call);
        }
        let (txn, taken) = batch.into_parts();
        if txn.ops.is_empty() {
            return Ok(answer(caller.server.store.revision(), results, warnings));
        }
        let refused = |error| match calls.first() {
            Some(call) => StatusError::admission(&call.resource, "", error),
            None => StatusError::internal(error),
        };
        if let Some(written) = write::carry_out(&caller.server, txn, taken, refused).await? {
            for call in &calls {
                call.written();
            }
            fill_in(&calls, &written.puts, &mut results).await?;
            return Ok(answer(written.revision, results, warnings));
        }
        for (call, item) in calls.iter().zip(&items) {
            let name = metadata::text(&item.object, "name");
            let creates = item.action == Action::Create && !name.is_empty();
            if creates && get::read(call, name).await?.is_some() {
                return Err(StatusError::already_exists(&call.resource, name));
            }
        }
    }
    let message = "objects of the transaction were changed by others again and again; \
                   nothing was written, try again";
    Err(StatusError::new(
        StatusCode::CONFLICT,
        Reason::Conflict,
        message,
    ))
}

/// The request that an item stands for.
fn call(caller: &Caller, item: &Item, batch: &Arc<Batch>) -> Result<Call, StatusError> {
    let text = |field: &str| item.object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let snapshot = caller.server.registry.snapshot();
    let resource = snapshot
        .find_kind(group, version, text("kind"))
        .ok_or_else(|| {
            let (kind, version) = (text("kind"), text("apiVersion"));
            StatusError::bad_request(format!(
                "no matches for kind {kind:?} in version {version:?}"
            ))
        })?;
    let wanted = item.action.verb();
    if resource.review.is_some() || !resource.verbs.iter().any(|verb| verb.as_str() == wanted) {
        return Err(StatusError::method_not_allowed());
    }
    let namespace = metadata::text(&item.object, "namespace");
    if resource.namespaced == namespace.is_empty() {
        let name = metadata::text(&item.object, "name");
        let what = if resource.namespaced {
            "needs a"
        } else {
            "has no"
        };
        return Err(StatusError::bad_request(format!(
            "{} {name:?} {what} namespace",
            resource.kind
        )));
    }
    let name = match item.action {
        Action::Create => "",
        _ => metadata::text(&item.object, "name"),
    };
    if name.is_empty() && item.action != Action::Create {
        return Err(StatusError::bad_request(format!(
            "{} needs a name",
            resource.kind
        )));
    }
    let mut options = caller.options.clone();
    if item.action != Action::Apply {
        options.force = None;
    }
    let apply = item.action == Action::Apply;
    let media = if apply {
        "application/apply-patch+yaml"
    } else {
        "application/json"
    };
    Ok(Call {
        path: ResourcePath {
            group: resource.group.to_string(),
            version: resource.version.to_string(),
            resource: resource.plural.to_string(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..ResourcePath::default()
        },
        server: caller.server.clone(),
        resource,
        options,
        accept: Accept::default(),
        user: caller.user.clone(),
        manager: caller.manager.clone(),
        content_type: media.to_owned(),
        notes: Arc::default(),
        batch: Some(batch.clone()),
    })
}

/// Carries out one item as far as the batch; the object it comes to.
async fn one(
    call: &Call,
    item: &Item,
    warnings: &mut Vec<HeaderValue>,
) -> Result<Value, StatusError> {
    let body = Bytes::from(item.object.to_string());
    let response = match item.action {
        Action::Create => create::create(call, body).await,
        Action::Update => update::update(call, body).await,
        Action::Apply => patch::patch(call, body).await,
        Action::Delete => delete::delete(call, Bytes::new()).await,
    }?;
    warnings.extend(response.headers().get_all(header::WARNING).iter().cloned());
    let body = response.into_body().collect().await;
    let bytes = body.map_err(StatusError::internal)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(StatusError::internal)
}

/// Objects that were written are answered as they are stored, with their revision.
async fn fill_in(
    calls: &[Call],
    puts: &[KeyValue],
    results: &mut [Value],
) -> Result<(), StatusError> {
    for (call, result) in calls.iter().zip(results) {
        let key = call.key(metadata::text(result, "name"));
        if let Some(kv) = puts.iter().find(|kv| kv.key == key) {
            *result = call.served(super::answer::parse(&kv.value)?).await?;
        }
    }
    Ok(())
}

fn answer(revision: u64, items: Vec<Value>, warnings: Vec<HeaderValue>) -> Response<Body> {
    let list = json!({
        "kind": "TransactionResult", "apiVersion": API_VERSION,
        "metadata": { "resourceVersion": revision.to_string() }, "items": items,
    });
    let mut response = Answer::json(StatusCode::OK, &list).into_response();
    for warning in warnings {
        response.headers_mut().append(header::WARNING, warning);
    }
    response
}
