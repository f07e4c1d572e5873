//! Objects in a map: the [`ObjectSource`] of tests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Kind, ObjectSource};

type Key = (&'static str, String, String);

#[derive(Default)]
pub(crate) struct Memory {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    version: tokio::sync::watch::Sender<u64>,
}

impl Memory {
    pub(crate) fn with(objects: impl IntoIterator<Item = (Kind, Value)>) -> std::sync::Arc<Self> {
        let memory = Self::default();
        for (kind, object) in objects {
            memory.put(kind, &object);
        }
        std::sync::Arc::new(memory)
    }

    pub(crate) fn put(&self, kind: Kind, object: &Value) {
        let part = |name: &str| {
            object["metadata"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = (kind.plural, part("namespace"), part("name"));
        self.objects
            .lock()
            .insert(key, Bytes::from(object.to_string()));
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn remove(&self, kind: Kind, namespace: &str, name: &str) {
        self.objects
            .lock()
            .remove(&(kind.plural, namespace.to_owned(), name.to_owned()));
        self.version.send_modify(|version| *version += 1);
    }
}

#[async_trait]
impl ObjectSource for Memory {
    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Bytes> {
        self.objects
            .lock()
            .get(&(kind.plural, namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    fn list(&self, kind: Kind, namespace: &str) -> Vec<Bytes> {
        let objects = self.objects.lock();
        let matching = objects.iter().filter(|((plural, of, _), _)| {
            *plural == kind.plural && (namespace.is_empty() || of == namespace)
        });
        matching.map(|(_, object)| object.clone()).collect()
    }

    fn version(&self, _kind: Kind) -> u64 {
        *self.version.borrow()
    }

    async fn changed(&self, _kind: Kind, seen: u64) {
        let mut receiver = self.version.subscribe();
        let _ = receiver.wait_for(|version| *version != seen).await;
    }
}
