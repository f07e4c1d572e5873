//! Parsed copies of all objects of a kind that cost little to keep current.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Kind, ObjectSource};

/// The objects of a kind at one version of it.
///
/// Refreshing parses only objects whose bytes are not the ones seen before: sources hand out the same
/// allocation for an unchanged object, and the snapshot holds on to it, so an address cannot be reused.
pub(super) struct Snapshot<T> {
    version: Option<u64>,
    objects: Vec<(Bytes, Arc<T>)>,
}

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self {
            version: None,
            objects: Vec::new(),
        }
    }
}

impl<T: DeserializeOwned> Snapshot<T> {
    /// Whether nothing changed since the snapshot was taken.
    pub(super) fn is_current(&self, kind: Kind, source: &dyn ObjectSource) -> bool {
        self.version == Some(source.version(kind))
    }

    /// The snapshot of now. An object that cannot be parsed is logged and left out, so it grants nothing.
    pub(super) fn refresh(&self, kind: Kind, source: &dyn ObjectSource) -> Self {
        // Read before the list: a change in between is then seen as a new version later.
        let version = Some(source.version(kind));
        let known: HashMap<_, _> = self
            .objects
            .iter()
            .map(|(bytes, parsed)| (address(bytes), parsed))
            .collect();
        let objects = source.list(kind, "").into_iter().filter_map(|bytes| {
            let parsed = match known.get(&address(&bytes)) {
                Some(parsed) => Arc::clone(parsed),
                None => parse(kind, &bytes)?,
            };
            Some((bytes, parsed))
        });
        Self {
            version,
            objects: objects.collect(),
        }
    }

    /// The parsed objects.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.iter().map(|(_, parsed)| parsed)
    }
}

fn address(bytes: &Bytes) -> (usize, usize) {
    (bytes.as_ptr() as usize, bytes.len())
}

fn parse<T: DeserializeOwned>(kind: Kind, bytes: &Bytes) -> Option<Arc<T>> {
    match serde_json::from_slice(bytes) {
        Ok(parsed) => Some(Arc::new(parsed)),
        Err(error) => {
            tracing::error!(kind = kind.plural, %error, "an object in the store cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::memory::Memory;
    use serde_json::{Value, json};

    #[test]
    fn only_changed_objects_are_parsed_again() {
        let object = |name: &str, data: i32| json!({"metadata": {"name": name}, "data": data});
        let source = Memory::with([(Kind::NODES, object("a", 1)), (Kind::NODES, object("b", 1))]);
        let first = Snapshot::<Value>::default().refresh(Kind::NODES, &*source);
        assert!(first.is_current(Kind::NODES, &*source));
        source.put(Kind::NODES, &object("b", 2));
        assert!(!first.is_current(Kind::NODES, &*source));
        let second = first.refresh(Kind::NODES, &*source);
        let (old, new): (Vec<_>, Vec<_>) = (first.iter().collect(), second.iter().collect());
        assert!(Arc::ptr_eq(old[0], new[0]));
        assert_eq!(new[1]["data"], 2);
    }
}
