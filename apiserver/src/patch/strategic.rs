//! Strategic merge patch: a merge patch that merges lists by key and knows directives.
//!
//! `$patch: replace|delete` on objects and list items, `$retainKeys`, `$setElementOrder/<list>` and
//! `$deleteFromPrimitiveList/<list>`; merge keys and strategies come from the schema.

use serde_json::{Map, Value};

use super::PatchError;
use super::lists;
use crate::schema::Node;
use crate::schema::node::PatchRule;

pub(super) const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// The type of an object's fields, as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Type<'a>(pub(super) Option<&'a Node>);

impl<'a> Type<'a> {
    /// The type and the patch rule of a field.
    fn field(self, key: &str) -> (Type<'a>, PatchRule) {
        let object = self.0.and_then(Node::object);
        match object.and_then(|o| o.field(key)) {
            Some(field) => (Type(Some(&field.node)), field.patch.clone()),
            None => (
                Type(object.and_then(|o| o.values.as_deref())),
                PatchRule::default(),
            ),
        }
    }

    /// The type of a list's items.
    pub(super) fn items(self) -> Type<'a> {
        Type(self.0.and_then(Node::list).map(|l| &*l.items))
    }
}

fn malformed<T>(detail: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(detail.into()))
}

/// Merges an object's patch into the object.
pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    kind: Type<'_>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return malformed(format!("unknown patch type: {other}")),
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, kind)?;
    for (key, value) in patch {
        merge_field(&mut original, key, value, kind)?;
    }
    Ok(original)
}

/// Removes every field that `$retainKeys` does not name.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let Some(kept) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(kept) = kept else {
        return malformed("invalid patch format of retainKeys: it must be a list");
    };
    let directive = |key: &str| key.starts_with(DELETE) || key.starts_with(ORDER);
    let is_kept = |key: &str| kept.iter().any(|k| k == key);
    if patch
        .iter()
        .any(|(k, v)| !v.is_null() && !directive(k) && !is_kept(k))
    {
        return malformed("invalid patch format of retainKeys");
    }
    original.retain(|key, _| is_kept(key));
    Ok(())
}

/// Handles every list that comes with an order of its elements.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    kind: Type<'_>,
) -> Result<(), PatchError> {
    let orders: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(ORDER))
        .cloned()
        .collect();
    for directive in orders {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return malformed(format!("{directive} must be a list"));
        };
        let Some(name) = directive.strip_prefix(ORDER) else {
            continue;
        };
        let before = take_list(original, name)?;
        let change = take_list(patch, name)?;
        patch.remove(name);
        let (list, rule) = kind.field(name);
        let key = rule.key.as_deref();
        lists::check_order(change.as_deref().unwrap_or_default(), &order, key)?;
        let server_order = before.clone().unwrap_or_default();
        let merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => lists::without_directives(change),
            (Some(before), Some(change)) if rule.merge => {
                lists::merge(before, change, key, list.items())?
            }
            (Some(_), Some(change)) => change,
        };
        let ordered = lists::order(merged, &order, &server_order, key);
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

fn take_list(map: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.get_mut(name) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(std::mem::take(list))),
        Some(Value::Null) => Ok(None),
        Some(_) => malformed(format!("{ORDER}{name} is set, but {name} is not a list")),
    }
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: String,
    value: Value,
    kind: Type<'_>,
) -> Result<(), PatchError> {
    if let Some(name) = key.strip_prefix(DELETE) {
        if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(name), value) {
            list.retain(|item| !gone.contains(item));
        }
        return Ok(());
    }
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let Some(before) = original.get_mut(&key) else {
        if let Some(value) = lists::clean(value) {
            original.insert(key, value);
        }
        return Ok(());
    };
    let (field, rule) = kind.field(&key);
    let after =
        match (before.take(), value) {
            (Value::Object(before), Value::Object(patch)) if !rule.replace => {
                Value::Object(merge_map(before, patch, field)?)
            }
            (Value::Array(before), Value::Array(patch)) if rule.merge => Value::Array(
                lists::merge(before, patch, rule.key.as_deref(), field.items())?,
            ),
            (_, value) => lists::clean(value).unwrap_or(Value::Null),
        };
    *before = after;
    Ok(())
}
