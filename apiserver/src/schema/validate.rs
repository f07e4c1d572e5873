//! Validates custom objects against their schema's constraints, with Kubernetes' messages.

use serde_json::{Map, Value};

use super::before::Before;
use super::field::{FieldError, Path};
use super::formats;
use super::node::{ListKind, Node, ObjectNode, Shape};
use super::rules::{Declared, Logic, Rules, compare};

/// More errors than this are cut off.
const MAX_ERRORS: usize = 100;

/// All complaints about `value`. Parts that are equal to the correlated part of `old` are not
/// looked at again (ratcheting).
pub(crate) fn validate(node: &Node, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(node, value, old, &Path::ROOT, &mut errors);
    errors.truncate(MAX_ERRORS);
    errors
}

fn walk(node: &Node, value: &Value, old: Option<&Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if out.len() >= MAX_ERRORS || node.typed || (value.is_null() && node.nullable) {
        return;
    }
    if old.is_some_and(|old| old == value) {
        return;
    }
    if let Some(rules) = &node.rules {
        if !check(rules, value, at, out) {
            return;
        }
        for beside in &rules.beside {
            check_logic(beside, value, at, out);
        }
    }
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => {
            if object.embedded {
                embedded(map, at, out);
            }
            children(object, map, old, at, out);
        }
        (Shape::List(list), Value::Array(items)) => {
            duplicates(&list.kind, &list.items, items, at, out);
            let before = Before::new(&list.kind, old);
            for (index, item) in items.iter().enumerate() {
                walk(&list.items, item, before.of(item), &at.index(index), out);
            }
        }
        _ => {}
    }
}

fn children(
    object: &ObjectNode,
    map: &Map<String, Value>,
    old: Option<&Value>,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    for (key, value) in map {
        let old = old.and_then(|old| old.get(key));
        match (object.field(key), &object.values) {
            (Some(field), _) => walk(&field.node, value, old, &at.field(key), out),
            (None, Some(values)) => walk(values, value, old, &at.field(key), out),
            (None, None) => {}
        }
    }
}

fn embedded(map: &Map<String, Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        if map
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
        {
            out.push(FieldError::required(at.field(key), "must not be empty"));
        }
    }
}

/// Checks that items are unique where the list type says so.
fn duplicates(
    kind: &ListKind,
    items_node: &Node,
    items: &[Value],
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let key = match kind {
            ListKind::Atomic => return,
            ListKind::Set => item.clone(),
            ListKind::Map(keys) => {
                let value = |k: &str| {
                    let default = || Some(&items_node.object()?.field(k)?.default.as_ref()?.value);
                    item.get(k).or_else(default).cloned()
                };
                let entries = keys.iter().filter_map(|k| Some((k.to_string(), value(k)?)));
                Value::Object(entries.collect())
            }
        };
        if !seen.insert(key.to_string()) {
            out.push(FieldError::duplicate(at.index(index), key));
        }
    }
}

fn invalid(at: &Path<'_>, value: &Value, what: &str) -> FieldError {
    FieldError::invalid(at, value.clone(), format!("{at} in body {what}"))
}

/// Checks one node's constraints. False when the type is wrong, so that deeper checks are moot.
fn check(rules: &Rules, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) -> bool {
    if let Some(declared) = rules.declared
        && !declared.admits(value)
    {
        out.push(wrong_type(declared, value, at));
        return false;
    }
    if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
        let words: Vec<String> = rules
            .allowed
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        out.push(FieldError::not_supported(at, value.clone(), &words));
    }
    match value {
        Value::String(text) => check_text(rules, value, text, at, out),
        Value::Number(number) => check_number(rules, value, number, at, out),
        Value::Array(items) => check_items(rules, value, items, at, out),
        Value::Object(map) => check_properties(rules, value, map, at, out),
        Value::Null | Value::Bool(_) => {}
    }
    check_junctors(rules, value, at, out);
    true
}

fn wrong_type(declared: Declared, value: &Value, at: &Path<'_>) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let expected = declared.name();
    let detail = format!("{at} in body must be of type {expected}: \"{found}\"");
    FieldError::type_invalid(at, found, detail)
}

fn check_text(rules: &Rules, value: &Value, text: &str, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if rules.min_length.is_none()
        && rules.max_length.is_none()
        && rules.pattern.is_none()
        && rules.format.is_none()
    {
        return;
    }
    let length = text.chars().count();
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        out.push(FieldError::too_long(at, max));
    }
    if let Some(min) = rules.min_length.filter(|min| length < *min) {
        out.push(invalid(
            at,
            value,
            &format!("should be at least {min} chars long"),
        ));
    }
    if let Some(pattern) = rules.pattern.as_ref().filter(|p| !p.is_match(text)) {
        out.push(invalid(
            at,
            value,
            &format!("should match '{}'", pattern.source),
        ));
    }
    if let Some(format) = rules.format.as_ref().filter(|f| !formats::matches(f, text)) {
        let detail = format!("{at} in body must be of type {format}: {value}");
        out.push(FieldError::invalid(at, value.clone(), detail));
    }
}

fn check_number(
    rules: &Rules,
    value: &Value,
    number: &serde_json::Number,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if let Some(bound) = &rules.minimum {
        let order = compare(number, &bound.number);
        if order == Some(Less) && !bound.exclusive {
            let what = format!("should be greater than or equal to {}", bound.number);
            out.push(invalid(at, value, &what));
        } else if matches!(order, Some(Less | Equal)) && bound.exclusive {
            out.push(invalid(
                at,
                value,
                &format!("should be greater than {}", bound.number),
            ));
        }
    }
    if let Some(bound) = &rules.maximum {
        let order = compare(number, &bound.number);
        if order == Some(Greater) && !bound.exclusive {
            let what = format!("should be less than or equal to {}", bound.number);
            out.push(invalid(at, value, &what));
        } else if matches!(order, Some(Greater | Equal)) && bound.exclusive {
            out.push(invalid(
                at,
                value,
                &format!("should be less than {}", bound.number),
            ));
        }
    }
    if let (Some(factor), Some(n)) = (rules.multiple_of, number.as_f64()) {
        let ratio = n / factor;
        if (ratio - ratio.round()).abs() > 1e-9 {
            out.push(invalid(
                at,
                value,
                &format!("should be a multiple of {factor}"),
            ));
        }
    }
    let range = match rules.format.as_deref() {
        Some("int32") => i64::from(i32::MIN)..=i64::from(i32::MAX),
        Some("int64") => i64::MIN..=i64::MAX,
        _ => return,
    };
    if !number.as_i64().is_some_and(|n| range.contains(&n))
        && rules.declared == Some(Declared::Integer)
    {
        let format = rules.format.as_deref().unwrap_or_default();
        let detail = format!("{at} in body must be of type {format}: \"number\"");
        out.push(FieldError::type_invalid(at, "number", detail));
    }
}

fn check_items(
    rules: &Rules,
    value: &Value,
    items: &[Value],
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    if let Some(max) = rules.max_items.filter(|max| items.len() > *max) {
        out.push(FieldError::too_many(at, items.len(), max));
    }
    if let Some(min) = rules.min_items.filter(|min| items.len() < *min) {
        out.push(invalid(
            at,
            value,
            &format!("should have at least {min} items"),
        ));
    }
    if rules.unique_items {
        let mut seen = std::collections::HashSet::with_capacity(items.len());
        if !items.iter().all(|item| seen.insert(item.to_string())) {
            out.push(invalid(at, value, "shouldn't contain duplicates"));
        }
    }
}

fn check_properties(
    rules: &Rules,
    value: &Value,
    map: &Map<String, Value>,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    if let Some(max) = rules.max_properties.filter(|max| map.len() > *max) {
        out.push(FieldError::too_many(at, map.len(), max));
    }
    if let Some(min) = rules.min_properties.filter(|min| map.len() < *min) {
        out.push(invalid(
            at,
            value,
            &format!("should have at least {min} properties"),
        ));
    }
    for name in &rules.required {
        if !map.contains_key(&**name) {
            out.push(FieldError::required(at.field(name), ""));
        }
    }
}

fn check_junctors(rules: &Rules, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    let holds = |logic: &Logic| {
        let mut errors = Vec::new();
        check_logic(logic, value, at, &mut errors);
        errors.is_empty()
    };
    for logic in &rules.all_of {
        check_logic(logic, value, at, out);
    }
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(holds) {
        out.push(invalid(
            at,
            value,
            "must validate at least one schema (anyOf)",
        ));
    }
    if !rules.one_of.is_empty() {
        let found = match rules.one_of.iter().filter(|l| holds(l)).count() {
            0 => Some("Found none valid".to_owned()),
            1 => None,
            n => Some(format!("Found {n} valid alternatives")),
        };
        if let Some(found) = found {
            let what = format!("must validate one and only one schema (oneOf). {found}");
            out.push(invalid(at, value, &what));
        }
    }
    if rules.not.as_ref().is_some_and(|l| holds(l)) {
        out.push(invalid(at, value, "must not validate the schema (not)"));
    }
}

fn check_logic(logic: &Logic, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if !check(&logic.rules, value, at, out) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, logic) in &logic.fields {
                if let Some(value) = map.get(&**name) {
                    check_logic(logic, value, &at.field(name), out);
                }
            }
            if let Some(values) = &logic.values {
                for (key, value) in map {
                    check_logic(values, value, &at.field(key), out);
                }
            }
        }
        Value::Array(items) => {
            if let Some(logic) = &logic.items {
                for (index, item) in items.iter().enumerate() {
                    check_logic(logic, item, &at.index(index), out);
                }
            }
        }
        _ => {}
    }
}
