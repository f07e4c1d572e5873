//! Objects as they are kept: JSON bytes, and the little that lists and watches must know of them.

mod envelope;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

pub(crate) use envelope::{Meta, Paths};

use crate::storage::{self, KeyValue, Revision};

/// One version of one object. Cloning shares everything.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its key in the store.
    pub key: Arc<str>,
    /// The JSON that is stored and sent, with its resourceVersion in it.
    pub bytes: Bytes,
    /// The revision that wrote it.
    pub revision: Revision,
    pub(crate) meta: Arc<Meta>,
}

impl Object {
    /// Reads the envelope of a stored value.
    pub(crate) fn new(kv: KeyValue, paths: &Paths) -> Self {
        Self::read(kv.key, kv.value, kv.mod_revision, paths)
    }

    fn read(key: Arc<str>, bytes: Bytes, revision: Revision, paths: &Paths) -> Self {
        let meta = Meta::parse(&bytes, paths).unwrap_or_else(|error| {
            tracing::error!(%key, %error, "a stored object is not readable JSON");
            Meta::default()
        });
        let meta = Arc::new(meta);
        Self {
            key,
            bytes,
            revision,
            meta,
        }
    }

    /// The same object in another form.
    pub(crate) fn with_bytes(&self, bytes: Bytes, paths: &Paths) -> Self {
        Self::read(self.key.clone(), bytes, self.revision, paths)
    }

    /// The object without `metadata.managedFields`, which only those who write by apply need.
    fn lean(&self) -> Bytes {
        let (at, length) = self.meta.managed_fields;
        let (at, end) = (at as usize, at as usize + length as usize);
        match (self.bytes.get(..at), self.bytes.get(end..)) {
            (Some(before), Some(after)) if length > 0 => [before, after].concat().into(),
            _ => self.bytes.clone(),
        }
    }

    /// The JSON for a reader who wants it whole or [`lean`](Self::lean).
    pub(crate) fn for_reader(&self, lean: bool) -> Bytes {
        if lean {
            self.lean()
        } else {
            self.bytes.clone()
        }
    }

    /// The same object saying another resourceVersion, as watchers see it when it goes away.
    pub(crate) fn at_revision(&self, revision: Revision) -> Bytes {
        let (at, length) = self.meta.revision_digits;
        let (at, end) = (at as usize, at as usize + usize::from(length));
        let (Some(before), Some(after)) = (self.bytes.get(..at), self.bytes.get(end..)) else {
            return self.bytes.clone();
        };
        let mut digits = itoa::Buffer::new();
        [before, digits.format(revision).as_bytes(), after]
            .concat()
            .into()
    }
}

/// Parses stored bytes.
///
/// # Errors
/// Only when the store holds something that was never written by this server.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// The bytes of an object with a hole where the store puts its resourceVersion.
pub(crate) fn encode(object: &Value) -> storage::Value {
    let mut out = Vec::with_capacity(1024);
    let mut slot = None;
    let empty = Map::new();
    out.push(b'{');
    for (index, (key, value)) in object.as_object().unwrap_or(&empty).iter().enumerate() {
        write_key(&mut out, index, key);
        match value.as_object() {
            Some(metadata) if key == "metadata" => slot = Some(write_metadata(&mut out, metadata)),
            _ => write_value(&mut out, value),
        }
    }
    out.push(b'}');
    storage::Value {
        bytes: out.into(),
        revision_slot: slot.and_then(|slot| u32::try_from(slot).ok()),
    }
}

/// Returns the position where the revision's digits belong.
fn write_metadata(out: &mut Vec<u8>, metadata: &Map<String, Value>) -> usize {
    out.push(b'{');
    let mut written = 0;
    for (key, value) in metadata {
        if key != "resourceVersion" {
            write_key(out, written, key);
            write_value(out, value);
            written += 1;
        }
    }
    write_key(out, written, "resourceVersion");
    out.push(b'"');
    let slot = out.len();
    out.extend_from_slice(b"\"}");
    slot
}

fn write_key(out: &mut Vec<u8>, index: usize, key: &str) {
    if index > 0 {
        out.push(b',');
    }
    write_value(out, key);
    out.push(b':');
}

fn write_value<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing a JSON value to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests;
