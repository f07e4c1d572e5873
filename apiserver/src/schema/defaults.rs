//! Fills in what was left out: the table and the code of built-in types, the `default` keywords of
//! custom ones. Of built-in types, also leaves out what Kubernetes cannot tell from what was left out.

use serde_json::{Map, Value};

use super::node::{Field, Node, ObjectNode, Shape, Zero};

/// Applies defaults from the outside in. In custom types, also removes nulls that are neither
/// allowed nor replaced.
pub(crate) fn apply(node: &Node, value: &mut Value) {
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => fill(object, map),
        (Shape::List(list), Value::Array(items)) => {
            for item in items {
                replace_null(&list.items, item);
                apply(&list.items, item);
            }
        }
        _ => {}
    }
}

fn fill(object: &ObjectNode, map: &mut Map<String, Value>) {
    let is_omitted = |key: &str, value: &Value| {
        is_zero(value)
            && object
                .field(key)
                .is_some_and(|field| field.zero == Zero::Omitted)
    };
    if map.iter().any(|(key, value)| is_omitted(key, value)) {
        map.retain(|key, value| !is_omitted(key, value));
    }
    for field in &object.fields {
        match &field.default {
            Some(default) if is_vacant(field, map) => {
                map.insert(field.name.to_string(), default.value.clone());
            }
            None if !field.node.typed
                && !field.node.nullable
                && map.get(&*field.name).is_some_and(Value::is_null) =>
            {
                map.remove(&*field.name);
            }
            None if field.zero == Zero::Shown && !map.contains_key(&*field.name) => {
                map.insert(field.name.to_string(), Map::new().into());
            }
            _ => {}
        }
    }
    if let Some(hook) = object.hooks.default {
        hook(map);
    }
    for (key, value) in map.iter_mut() {
        match (object.field(key), &object.values) {
            (Some(field), _) => apply(&field.node, value),
            (None, Some(values)) => {
                replace_null(values, value);
                apply(values, value);
            }
            (None, None) => {}
        }
    }
}

/// Adds only what is there even when nobody sent it.
pub(crate) fn show(node: &Node, value: &mut Value) {
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => {
            for field in object.fields.iter().filter(|f| f.zero == Zero::Shown) {
                if !map.contains_key(&*field.name) {
                    map.insert(field.name.to_string(), Map::new().into());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(inner) = object
                    .field(key)
                    .map(|f| &f.node)
                    .or(object.values.as_ref())
                {
                    show(inner, value);
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            items.iter_mut().for_each(|item| show(&list.items, item));
        }
        _ => {}
    }
}

fn is_vacant(field: &Field, map: &Map<String, Value>) -> bool {
    match map.get(&*field.name) {
        None => true,
        Some(Value::Null) => !field.node.nullable,
        Some(value) => field.default.as_ref().is_some_and(|d| d.zero_too) && is_zero(value),
    }
}

/// Whether a value is what its type has when nobody sets it.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn replace_null(node: &Node, value: &mut Value) {
    if let Some(default) = node
        .default
        .as_ref()
        .filter(|_| value.is_null() && !node.nullable)
    {
        *value = default.clone();
    }
}
