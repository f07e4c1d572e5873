//! Printer columns of the built-in kinds, the ones `kubectl get` has always shown.

mod cluster;
mod network;
mod node;
mod pod;
mod policy;
mod storage;
mod workload;

use serde_json::Value;

pub(super) use cluster::*;
pub(super) use network::*;
pub(super) use node::NODE;
pub(super) use pod::POD;
pub(super) use policy::*;
pub(super) use storage::*;
pub(super) use workload::*;

use crate::table::{Cell, Column, at};

/// What columns show for something that is not there.
const NONE: &str = "<none>";
const UNSET: &str = "<unset>";

pub(super) const NAME_AGE: &[Column] = &[Column::name(), Column::age()];

const fn path(name: &'static str, path: &'static str) -> Column {
    Column::text(name, Cell::Path(path))
}

const fn with(name: &'static str, compute: fn(&Value) -> Value) -> Column {
    Column::text(name, Cell::With(compute))
}

const fn count(name: &'static str, compute: fn(&Value) -> Value) -> Column {
    Column::integer(name, Cell::With(compute))
}

fn items<'v>(object: &'v Value, path: &str) -> &'v [Value] {
    at(object, path)
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'v>(object: &'v Value, path: &str) -> &'v str {
    at(object, path).as_str().unwrap_or_default()
}

fn int(object: &Value, path: &str) -> i64 {
    at(object, path).as_i64().unwrap_or_default()
}

fn or_none(text: String) -> Value {
    if text.is_empty() {
        NONE.into()
    } else {
        text.into()
    }
}

fn joined<'v>(parts: impl IntoIterator<Item = &'v str>) -> Value {
    or_none(parts.into_iter().collect::<Vec<_>>().join(","))
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

/// A plain map as `k=v,k=v`.
fn pairs(map: &Value) -> Value {
    let pairs = map.as_object().into_iter().flatten();
    let parts: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(parts.join(","))
}

/// A structured label selector as text.
fn selector(value: &Value) -> Value {
    let mut parts: Vec<String> = value["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in items(value, "matchExpressions") {
        let key = text(expression, "key");
        let values: Vec<&str> = items(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    or_none(parts.join(","))
}
