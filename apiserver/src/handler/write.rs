//! The common way of every write: defaults, admission, preparation, validation, one transaction.

use bytes::Bytes;
use serde_json::Value;

use super::{Call, answer, get, metadata};
use crate::ApiServer;
use crate::admission::{self, Operation, Reservation};
use crate::apply;
use crate::error::StatusError;
use crate::object;
use crate::resource::Subresource;
use crate::storage::{Compare, KeyValue, Op, Revision, Txn, TxnOutcome};

/// How often a write without a resourceVersion is tried again when others write the same object.
pub(super) const TRIES: usize = 8;

/// Said when admission leaves owners that nobody can read.
const UNREADABLE: &str =
    "metadata.managedFields was in an invalid state after admission and is what it was before";

fn owners(object: &Value) -> Option<Value> {
    metadata::of(object).get("managedFields").cloned()
}

/// What is stored now.
pub(super) struct Current {
    pub(super) kv: KeyValue,
    /// In the version of the request.
    pub(super) object: Value,
}

/// What became of a write.
pub(super) enum Outcome {
    /// The object is this now. It may have been written by this or, if nothing changed, by an earlier write.
    Stored(Bytes),
    /// The write took the last finalizer away, so the object is gone; this was its last state.
    Removed(Bytes),
    /// Somebody else wrote one of the keys first.
    Raced,
}

/// What a write brings along.
pub(super) struct Draft {
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
    /// `managedFields` are done already (server-side apply).
    pub(super) tracked: bool,
}

/// Reads the newest version of an object.
pub(super) async fn current(call: &Call, name: &str) -> Result<Option<Current>, StatusError> {
    match get::read(call, name).await? {
        Some(kv) => from_store(call, kv).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn from_store(call: &Call, kv: KeyValue) -> Result<Current, StatusError> {
    let object = call.served(answer::parse(&kv.value)?).await?;
    Ok(Current { kv, object })
}

/// Brings a new object to the state in which it is stored.
pub(super) async fn prepare_new(call: &Call, draft: &mut Draft) -> Result<(), StatusError> {
    let strategy = call.resource.strategy();
    let object = &mut draft.object;
    let name = metadata::text(object, "name").to_owned();
    let context = call.context();
    strategy.default(object);
    // What admission adds belongs to nobody, so that the next apply does not take it away.
    if !draft.tracked {
        track(call, None, object);
    }
    let request = call.admission(Operation::Create, &name, None);
    let refused = |error| StatusError::admission(&call.resource, &name, error);
    let owners = owners(object);
    let chain = &call.server.admission;
    chain.mutate(&request, object).await.map_err(refused)?;
    if apply::restore_unreadable(object, owners) {
        draft.warnings.push(UNREADABLE.to_owned());
    }
    strategy.prepare_create(&context, object);
    strategy.default(object);
    let errors = strategy.validate(&context, object);
    if !errors.is_empty() {
        return Err(StatusError::invalid(&call.resource, &name, &errors));
    }
    call.server
        .admission
        .validate(&request, object)
        .await
        .map_err(refused)?;
    draft.warnings.extend(strategy.warnings(object, None));
    Ok(())
}

/// Stores a prepared new object. `Raced` means that the name is taken.
pub(super) async fn store_new(call: &Call, mut object: Value) -> Result<Outcome, StatusError> {
    let name = metadata::text(&object, "name").to_owned();
    let mut txn = match call.resource.companion {
        Some(companion) => companion.plan(&call.server, None, Some(&mut object))?,
        None => Txn::default(),
    };
    let taken = reserve(call, Operation::Create, None, &object)?;
    let key = call.key(&name);
    if call.options.dry_run {
        if call.server.store.get(&key, None).await?.is_some() {
            return Ok(Outcome::Raced);
        }
        return Ok(Outcome::Stored(
            call.stored(object).await?.to_string().into(),
        ));
    }
    txn.compares.push(Compare {
        key: key.clone(),
        mod_revision: 0,
    });
    let value = object::encode(&call.stored(object).await?);
    txn.ops.insert(0, Op::Put { key, value });
    commit(call, &name, txn, taken).await
}

/// Brings a change to the state in which it is stored, and stores it if it changes anything.
pub(super) async fn update(
    call: &Call,
    current: &Current,
    draft: &mut Draft,
) -> Result<Outcome, StatusError> {
    let old = &current.object;
    let name = metadata::text(old, "name");
    metadata::carry_over(call, old, &mut draft.object)?;
    prepare_change(call, old, name, draft).await?;
    if metadata::is_unchanged(old, &draft.object) {
        return Ok(Outcome::Stored(current.kv.value.clone()));
    }
    let gone = metadata::is_deleting(&draft.object)
        && !metadata::has_finalizers(call, &draft.object)
        && grace(&draft.object) == 0;
    if gone {
        return remove(call, current, &draft.object).await;
    }
    replace(call, current, draft.object.take()).await
}

async fn prepare_change(
    call: &Call,
    old: &Value,
    name: &str,
    draft: &mut Draft,
) -> Result<(), StatusError> {
    let strategy = call.resource.strategy();
    let object = &mut draft.object;
    let context = call.context();
    strategy.default(object);
    if !draft.tracked {
        track(call, Some(old), object);
    }
    let request = call.admission(Operation::Update, name, Some(old));
    let refused = |error| StatusError::admission(&call.resource, name, error);
    // A Scale was admitted as what it is.
    let scale = call.resource.subresource(&call.path.subresource);
    let admits = !matches!(scale, Some(Subresource::Scale(_)));
    let chain = &call.server.admission;
    if admits {
        let owners = owners(object);
        chain.mutate(&request, object).await.map_err(refused)?;
        if apply::restore_unreadable(object, owners) {
            draft.warnings.push(UNREADABLE.to_owned());
        }
    }
    strategy.prepare_update(&context, object, old);
    strategy.default(object);
    let errors = strategy.validate_update(&context, object, old);
    if !errors.is_empty() {
        return Err(StatusError::invalid(&call.resource, name, &errors));
    }
    if admits {
        chain.validate(&request, object).await.map_err(refused)?;
    }
    draft.warnings.extend(strategy.warnings(object, Some(old)));
    Ok(())
}

/// Seconds the deletion in progress leaves the object.
pub(super) fn grace(object: &Value) -> i64 {
    let grace = metadata::of(object).get("deletionGracePeriodSeconds");
    grace.and_then(Value::as_i64).unwrap_or_default()
}

/// Writes an object over its current version without further ado.
pub(super) async fn replace(
    call: &Call,
    current: &Current,
    mut object: Value,
) -> Result<Outcome, StatusError> {
    let mut txn = match call.resource.companion {
        Some(companion) => {
            companion.plan(&call.server, Some(&current.object), Some(&mut object))?
        }
        None => Txn::default(),
    };
    let taken = reserve(call, Operation::Update, Some(&current.object), &object)?;
    let name = metadata::text(&current.object, "name");
    let stored = call.stored(object).await?;
    if call.options.dry_run {
        return Ok(Outcome::Stored(stored.to_string().into()));
    }
    txn.compares.push(unchanged(current));
    // A full store still takes what an object needs to be able to go.
    txn.deletion = metadata::is_deleting(&stored);
    txn.ops.insert(
        0,
        Op::Put {
            key: current.kv.key.clone(),
            value: object::encode(&stored),
        },
    );
    commit(call, name, txn, taken).await
}

/// Takes an object out of the store. `last` is what the client is shown.
pub(super) async fn remove(
    call: &Call,
    current: &Current,
    last: &Value,
) -> Result<Outcome, StatusError> {
    let mut txn = match call.resource.companion {
        Some(companion) => companion.plan(&call.server, Some(&current.object), None)?,
        None => Txn::default(),
    };
    let given_back = reserve(call, Operation::Delete, Some(&current.object), &Value::Null)?;
    let name = metadata::text(&current.object, "name");
    let last = Bytes::from(call.stored(last.clone()).await?.to_string());
    if call.options.dry_run {
        return Ok(Outcome::Removed(last));
    }
    txn.compares.push(unchanged(current));
    txn.ops.push(Op::Delete {
        key: current.kv.key.clone(),
    });
    match commit(call, name, txn, given_back).await? {
        Outcome::Raced => Ok(Outcome::Raced),
        _ => Ok(Outcome::Removed(last)),
    }
}

fn unchanged(current: &Current) -> Compare {
    Compare {
        key: current.kv.key.clone(),
        mod_revision: current.kv.mod_revision,
    }
}

/// What the write takes from other objects or gives back to them.
fn reserve(
    call: &Call,
    operation: Operation,
    old: Option<&Value>,
    object: &Value,
) -> Result<Vec<Reservation>, StatusError> {
    let name = metadata::text(old.unwrap_or(object), "name");
    let request = call.admission(operation, name, old);
    let refused = |error| StatusError::admission(&call.resource, name, error);
    let chain = &call.server.admission;
    chain.reserve(&request, object).map_err(refused)
}

/// Carries out the transaction together with the reservations, or leaves both to the batch.
async fn commit(
    call: &Call,
    name: &str,
    txn: Txn,
    taken: Vec<Reservation>,
) -> Result<Outcome, StatusError> {
    if let Some(batch) = &call.batch {
        return batch.add(txn, taken).map(Outcome::Stored);
    }
    let refused = |error| StatusError::admission(&call.resource, name, error);
    let Some(written) = carry_out(&call.server, txn, taken, refused).await? else {
        return Ok(Outcome::Raced);
    };
    call.written();
    let bytes = written.puts.into_iter().next().map(|kv| kv.value);
    Ok(Outcome::Stored(bytes.unwrap_or_default()))
}

/// What a transaction wrote.
pub(super) struct Written {
    pub(super) puts: Vec<KeyValue>,
    pub(super) revision: Revision,
}

/// Writes everything or, when somebody else wrote one of the keys first, nothing (`None`).
///
/// # Errors
/// Those of the store, and what `refused` makes of a reservation that cannot be had.
pub(super) async fn carry_out(
    server: &ApiServer,
    txn: Txn,
    mut taken: Vec<Reservation>,
    refused: impl Fn(admission::Error) -> StatusError,
) -> Result<Option<Written>, StatusError> {
    loop {
        let mut whole = txn.clone();
        whole.ops.extend(taken.iter().map(Reservation::op));
        let current = match server.store.txn(whole).await? {
            TxnOutcome::Committed { puts, revision } => {
                return Ok(Some(Written { puts, revision }));
            }
            TxnOutcome::Conflict { current } => current,
        };
        let before = taken.len();
        for (key, found) in current {
            let found = found.filter(|_| taken.iter().any(|one| *one.key() == key));
            let Some(kv) = found else {
                // An object to take from that is gone bounds nothing any more.
                taken.retain(|one| *one.key() != key);
                continue;
            };
            let why = taken.iter().find(|one| *one.key() == key);
            if let Some(Err(error)) = why.map(|one| one.take(&kv.value)) {
                return Err(refused(error));
            }
        }
        if taken.len() == before {
            return Ok(None);
        }
    }
}

fn track(call: &Call, old: Option<&Value>, new: &mut Value) {
    let api_version = call.resource.api_version();
    apply::track_update(call.resource.schema(), old, new, &call.writer(&api_version));
}
