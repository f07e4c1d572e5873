//! The built-in kinds and the schemas of what they are made of, as the build script describes them.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

/// One built-in kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    /// The name of its schema.
    pub(crate) definition: &'static str,
}

/// Every built-in kind davit knows, stable versions only.
pub(crate) const KINDS: &[Kind] = include!(concat!(env!("OUT_DIR"), "/kinds.rs"));

/// Schemas without descriptions: a name, a tab and JSON on each line.
const DEFINITIONS: &str = include_str!(concat!(env!("OUT_DIR"), "/definitions.txt"));

/// The same with descriptions.
const DESCRIBED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/described.txt.gz"));

/// The kind's entry.
pub(crate) fn find(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.kind == kind && k.group == group && k.version == version)
}

/// Whether a kind of the core group belongs to the API machinery rather than to the core types.
pub(crate) fn is_meta(kind: &str) -> bool {
    matches!(kind, "Status" | "APIResourceList" | "DeleteOptions")
}

/// The schemas of some kinds and of all that they refer to, by name and without descriptions, but for those that are `known`
/// and what only they refer to.
pub(crate) fn definitions(kinds: &[&Kind], known: impl Fn(&str) -> bool) -> Map<String, Value> {
    static LINES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| by_name(DEFINITIONS));
    closure(kinds, &LINES, known)
}

/// The same with descriptions. Unpacks them all, so callers keep what they make of them.
pub(crate) fn described(kinds: &[&Kind]) -> Map<String, Value> {
    let mut text = String::new();
    if let Err(error) = GzDecoder::new(DESCRIBED).read_to_string(&mut text) {
        tracing::error!(%error, "the built-in descriptions are damaged");
        return definitions(kinds, |_| false);
    }
    closure(kinds, &by_name(&text), |_| false)
}

fn by_name(lines: &str) -> HashMap<&str, &str> {
    lines
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect()
}

fn closure(
    kinds: &[&Kind],
    lines: &HashMap<&str, &str>,
    known: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let mut found = Map::new();
    let mut wanted: Vec<String> = kinds
        .iter()
        .map(|kind| kind.definition.to_owned())
        .collect();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) || known(&name) {
            continue;
        }
        let Some(Ok(schema)) = lines
            .get(name.as_str())
            .map(|json| serde_json::from_str(json))
        else {
            continue;
        };
        references(&schema, &mut wanted);
        found.insert(name, schema);
    }
    found
}

/// The last part of a `$ref`.
pub(crate) fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

fn references(schema: &Value, out: &mut Vec<String>) {
    out.extend(referred(schema).map(str::to_owned));
    match schema {
        Value::Object(map) => map.values().for_each(|inner| references(inner, out)),
        Value::Array(items) => items.iter().for_each(|inner| references(inner, out)),
        _ => {}
    }
}
