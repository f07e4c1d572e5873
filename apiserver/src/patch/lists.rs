//! Lists in strategic merge patches: merging by key or by value, and the order of elements.

use serde_json::Value;

use super::PatchError;
use super::strategic::{PATCH, Type, merge_map};

fn malformed<T>(detail: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(detail.into()))
}

/// A value that is new to the object: without directives, and `None` if it says to delete itself.
pub(super) fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(mut map) => {
            if map.get(PATCH).is_some_and(|d| d == "delete") {
                return None;
            }
            map.retain(|key, value| !key.starts_with('$') && !value.is_null());
            let cleaned = map.into_iter().filter_map(|(k, v)| Some((k, clean(v)?)));
            Some(Value::Object(cleaned.collect()))
        }
        Value::Array(items) => Some(Value::Array(without_directives(items))),
        other => Some(other),
    }
}

/// The items of a list that are new to the object.
pub(super) fn without_directives(items: Vec<Value>) -> Vec<Value> {
    let marker = |item: &Value| {
        // An item that only says to replace the list holds nothing else.
        item.get(PATCH).is_some_and(|d| d == "replace")
            && item.as_object().is_some_and(|o| o.len() == 1)
    };
    items
        .into_iter()
        .filter(|item| !marker(item))
        .filter_map(clean)
        .collect()
}

/// Merges a list's patch into the list. Objects merge by `key`, scalars as a set.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: Option<&str>,
    item: Type<'_>,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let objects = original.iter().chain(&patch).any(Value::is_object);
    let server_order = original.clone();
    if !objects {
        let mut merged = original;
        for value in &patch {
            if !merged.contains(value) {
                merged.push(value.clone());
            }
        }
        return Ok(order(merged, &patch, &server_order, None));
    }
    let Some(key) = key else {
        return malformed("cannot merge lists without merge key");
    };
    let (mut merged, patch) = match directives(original, patch, key)? {
        Directed::Replaced(list) => return Ok(list),
        Directed::Merge(original, patch) => (original, patch),
    };
    for change in patch.iter().cloned() {
        merge_item(&mut merged, change, key, item)?;
    }
    Ok(order(merged, &patch, &server_order, Some(key)))
}

enum Directed {
    /// The patch stands for the whole list.
    Replaced(Vec<Value>),
    /// The list without what is deleted, and the patch without directives.
    Merge(Vec<Value>, Vec<Value>),
}

fn directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<Directed, PatchError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        if !item.is_object() {
            return malformed("lists with merge keys must hold objects only");
        }
        match item.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
            None => rest.push(item),
            Some("delete") => {
                let Some(value) = item.get(key) else {
                    return no_key(&item, key);
                };
                original.retain(|o| o.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return malformed("merging lists cannot yet be specified in the patch");
            }
            Some(other) => return malformed(format!("unknown patch type '{other}' in map")),
        }
    }
    Ok(if replace {
        Directed::Replaced(rest)
    } else {
        Directed::Merge(original, rest)
    })
}

fn no_key<T>(item: &Value, key: &str) -> Result<T, PatchError> {
    malformed(format!(
        "map: {item} does not contain declared merge key: {key}"
    ))
}

fn merge_item(
    merged: &mut Vec<Value>,
    change: Value,
    key: &str,
    item: Type<'_>,
) -> Result<(), PatchError> {
    let Some(value) = change.get(key) else {
        return no_key(&change, key);
    };
    match merged.iter().position(|o| o.get(key) == Some(value)) {
        Some(at) => {
            if let (Some(Value::Object(before)), Value::Object(change)) =
                (merged.get_mut(at), change)
            {
                *before = merge_map(std::mem::take(before), change, item)?;
            }
        }
        None => merged.extend(clean(change)),
    }
    Ok(())
}

/// Whether two elements stand for the same thing.
fn alike(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| alike(other, item, key))
}

/// Checks that a patch lists its elements in the order it asks for, all of them.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), PatchError> {
    let mut at = 0;
    for item in patch.iter().filter(|i| i.get(PATCH).is_none()) {
        let found = order.iter().skip(at).position(|o| alike(o, item, key));
        let Some(found) = found else {
            let (patch, order) = (Value::from(patch), Value::from(order));
            return malformed(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            ));
        };
        at += found + 1;
    }
    Ok(())
}

/// Puts the elements that `wanted` names into its order, and the others of the server between
/// them where they were relative to each other.
pub(super) fn order(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let rank = |list: &[Value], item: &Value| index(list, item, key).unwrap_or(usize::MAX);
    let (mut ours, mut theirs): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| index(wanted, item, key).is_some());
    ours.sort_by_cached_key(|item| rank(wanted, item));
    theirs.sort_by_cached_key(|item| rank(server, item));
    let mut out = Vec::with_capacity(ours.len() + theirs.len());
    let mut ours = ours.into_iter().peekable();
    let mut theirs = theirs.into_iter().peekable();
    loop {
        let first = match (theirs.peek(), ours.peek()) {
            (Some(left), Some(right)) => {
                let (left, right) = (index(server, left, key), index(server, right, key));
                matches!((left, right), (Some(left), Some(right)) if left < right)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        out.extend(if first { theirs.next() } else { ours.next() });
    }
}
