//! What the earlier items of a transaction come to, as admission of the later ones sees it.
//!
//! Only single objects are seen, as by `get`. What is read as a whole and kept parsed (limit ranges, quotas,
//! policies, webhooks, roles) stays as it was before the transaction, because it may yet fail.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::auth::{Kind, ObjectSource};
use crate::storage::Op;

tokio::task_local! {
    static PENDING: Arc<Pending>;
}

/// The writes of a transaction that were planned so far, by key; `None` is a deletion.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<Arc<str>, Option<Bytes>>>);

impl Pending {
    /// Adds writes; gives back the key that is written already, if there is one.
    pub(crate) fn add<'o>(&self, ops: &'o [Op]) -> Result<(), &'o Arc<str>> {
        let mut pending = self.0.lock();
        for op in ops {
            let bytes = match op {
                Op::Put { value, .. } => Some(value.bytes.clone()),
                Op::Delete { .. } | Op::Amend { .. } => None,
            };
            if pending.insert(op.key().clone(), bytes).is_some() {
                return Err(op.key());
            }
        }
        Ok(())
    }

    /// Runs the work of a later item.
    pub(crate) async fn seen_by<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        PENDING.scope(self, work).await
    }
}

/// What the transaction that the caller is part of makes of a key: nothing if it does not write it or there is
/// no transaction, `Some(None)` if it deletes it.
pub(crate) fn written(key: impl FnOnce() -> String) -> Option<Option<Bytes>> {
    let found = PENDING.try_with(|pending| pending.0.lock().get(&*key()).cloned());
    found.unwrap_or_default()
}

/// Whether the transaction makes a namespace, whose first objects controllers will only add afterwards.
pub(crate) fn makes_namespace(name: &str) -> bool {
    written(|| key(Kind::NAMESPACES, "", name))
        .flatten()
        .is_some()
}

fn key(kind: Kind, namespace: &str, name: &str) -> String {
    let prefix = kind.prefix();
    match namespace {
        "" => format!("{prefix}{name}"),
        namespace => format!("{prefix}{namespace}/{name}"),
    }
}

/// The objects of a source with those of the transaction over them.
pub(crate) struct Overlaid(pub(crate) Arc<dyn ObjectSource>);

#[async_trait]
impl ObjectSource for Overlaid {
    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Bytes> {
        written(|| key(kind, namespace, name)).unwrap_or_else(|| self.0.get(kind, namespace, name))
    }

    fn list(&self, kind: Kind, namespace: &str) -> Vec<Bytes> {
        self.0.list(kind, namespace)
    }

    fn stored(&self, key: &str) -> Option<Bytes> {
        written(|| key.to_owned()).unwrap_or_else(|| self.0.stored(key))
    }

    fn stored_under(&self, prefix: &str) -> Vec<Bytes> {
        self.0.stored_under(prefix)
    }

    fn version(&self, kind: Kind) -> u64 {
        self.0.version(kind)
    }

    async fn changed(&self, kind: Kind, seen: u64) {
        self.0.changed(kind, seen).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::memory::Memory;
    use serde_json::json;

    #[tokio::test]
    async fn a_transaction_sees_its_own_writes_and_nobody_else_does() {
        let object = json!({"metadata": {"name": "old"}});
        let source = Overlaid(Memory::with([(Kind::NAMESPACES, object)]));
        let has = |name: &str| source.get(Kind::NAMESPACES, "", name).is_some();
        let put = |name: &str| Op::Put {
            key: key(Kind::NAMESPACES, "", name).into(),
            value: Bytes::from_static(b"{}").into(),
        };
        let old = Op::Delete {
            key: key(Kind::NAMESPACES, "", "old").into(),
        };
        let pending: Arc<Pending> = Arc::default();
        pending.add(&[put("new"), old]).unwrap();
        assert_eq!(
            &**pending.add(&[put("new")]).unwrap_err(),
            "/registry/core/namespaces/new"
        );
        let seen = async { (has("old"), has("new"), makes_namespace("new")) };
        assert_eq!(pending.seen_by(seen).await, (false, true, true));
        assert_eq!(
            (has("old"), has("new"), makes_namespace("new")),
            (true, false, false)
        );
    }
}
