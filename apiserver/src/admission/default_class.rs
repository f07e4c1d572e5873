//! Which class of a kind is the default one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

#[derive(Deserialize)]
struct Class {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    creation_timestamp: Option<jiff::Timestamp>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The class with one of these annotations set to `true`; of several the newest, of these the first by name.
pub(super) fn newest(classes: &[Bytes], annotations: &[&str]) -> Option<String> {
    let parsed = classes
        .iter()
        .filter_map(|class| serde_json::from_slice::<Class>(class).ok());
    let defaults = parsed.map(|class| class.metadata).filter(|meta| {
        let own = meta.annotations.as_ref();
        let is_true =
            |key: &&str| own.is_some_and(|own| own.get(*key).is_some_and(|v| v == "true"));
        annotations.iter().any(is_true)
    });
    let newest = defaults.min_by_key(|meta| (Reverse(meta.creation_timestamp), meta.name.clone()));
    newest.map(|meta| meta.name)
}
