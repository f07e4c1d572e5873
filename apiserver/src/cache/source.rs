//! The cache as authentication, authorization and admission read it.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cache, kind_prefix};
use crate::auth::{Kind, ObjectSource};

#[async_trait]
impl ObjectSource for Cache {
    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Bytes> {
        self.catch_up();
        let prefix = kind.prefix();
        let slash = if namespace.is_empty() { "" } else { "/" };
        let key = format!("{prefix}{namespace}{slash}{name}");
        self.kind(&prefix).get(&key).map(|object| object.bytes)
    }

    fn list(&self, kind: Kind, namespace: &str) -> Vec<Bytes> {
        self.catch_up();
        let prefix = kind.prefix();
        let slash = if namespace.is_empty() { "" } else { "/" };
        self.kind(&prefix)
            .bytes_under(&format!("{prefix}{namespace}{slash}"))
    }

    fn stored(&self, key: &str) -> Option<Bytes> {
        self.catch_up();
        self.kind(kind_prefix(key))
            .get(key)
            .map(|object| object.bytes)
    }

    fn stored_under(&self, prefix: &str) -> Vec<Bytes> {
        self.catch_up();
        self.kind(kind_prefix(prefix)).bytes_under(prefix)
    }

    fn version(&self, kind: Kind) -> u64 {
        self.catch_up();
        self.kind(&kind.prefix()).version()
    }

    async fn changed(&self, kind: Kind, seen: u64) {
        let kind = self.kind(&kind.prefix());
        loop {
            let changed = kind.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if kind.version() != seen {
                return;
            }
            changed.await;
        }
    }
}
