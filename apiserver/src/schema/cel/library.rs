//! The functions and operators of CEL and those that Kubernetes adds: texts, lists, patterns, addresses, URLs, versions,
//! quantities.

mod access;
mod addresses;
mod format;
mod lists;
mod operators;
mod optionals;
mod pairs;
mod patterns;
mod quantities;
mod standard;
#[cfg(test)]
mod tests;
mod texts;
mod times;
mod types;
mod urls;
mod versions;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::Value;

use super::meter::{Failure, Meter};
pub(crate) use access::{Access, Question, Verdict, authorizer};
pub(super) use operators::{append, key, select};
pub(super) use optionals::{inside, optional};
pub(super) use pairs::{insert, plain};
pub(super) use types::type_named;

/// A function over its target, if it has one, and its arguments, that reads each text once, makes no more than it reads, and
/// is charged for that beforehand.
type Native = fn(&[Value]) -> Result<Value, String>;
/// A function that charges itself, before it does anything.
type Metered = fn(&[Value], &mut Meter) -> Result<Value, Failure>;

#[derive(Clone, Copy)]
enum Function {
    /// Reads none of its texts.
    Flat(Native),
    Native(Native),
    Metered(Metered),
}

/// All functions by name.
static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let native = texts::FUNCTIONS
        .iter()
        .chain(standard::FUNCTIONS)
        .chain(times::FUNCTIONS)
        .chain(quantities::FUNCTIONS)
        .chain(addresses::FUNCTIONS)
        .chain(urls::FUNCTIONS)
        .chain(versions::FUNCTIONS)
        .chain(access::FUNCTIONS);
    let metered = operators::METERED
        .iter()
        .chain(standard::METERED)
        .chain(texts::METERED)
        .chain(patterns::METERED)
        .chain(lists::METERED)
        .chain(pairs::METERED)
        .chain(urls::METERED)
        .chain(access::METERED);
    let flat = optionals::FLAT.iter().chain(types::FLAT);
    let flat = flat.map(|(name, function)| (*name, Function::Flat(*function)));
    let native = native.map(|(name, function)| (*name, Function::Native(*function)));
    let metered = metered.map(|(name, function)| (*name, Function::Metered(*function)));
    flat.chain(native).chain(metered).collect()
});

/// Names of types and of families of functions that may stand as values.
pub(super) fn is_type(name: &str) -> bool {
    types::is_name(name) || FAMILIES.contains(&name)
}

/// What may stand before a function's name.
const FAMILIES: &[&str] = &[
    "optional",
    "sets",
    "ip",
    "cidr",
    "quantity",
    "semver",
    "url",
    "format",
    "jsonpatch",
];

/// The function `prefix.name`, if there is one.
pub(super) fn qualified(prefix: &str, name: &str) -> Option<&'static str> {
    if !FAMILIES.contains(&prefix) {
        return None;
    }
    let full = format!("{prefix}.{name}");
    FUNCTIONS.get_key_value(&*full).map(|(name, _)| *name)
}

/// The outcome of a function.
///
/// # Errors
/// What the function complains of, or a limit.
pub(super) fn call(name: &str, values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    match FUNCTIONS.get(name) {
        None => Err(format!("undeclared reference to '{name}'").into()),
        Some(Function::Metered(function)) => function(values, meter),
        Some(Function::Flat(function)) => {
            meter.charge(1)?;
            meter.make_values(1, 0)?;
            function(values).map_err(Failure::from)
        }
        Some(Function::Native(function)) => {
            let read = values.iter().map(length).fold(0, usize::saturating_add);
            meter.pass(read)?;
            meter.make_values(1, read)?;
            function(values).map_err(Failure::from)
        }
    }
}

/// Bytes of a text.
pub(super) fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

/// An argument, if it is of one of the types that only functions make.
fn opaque<T: 'static>(values: &[Value], at: usize) -> Option<&T> {
    match values.get(at) {
        Some(Value::Opaque(opaque)) => opaque.downcast_ref(),
        _ => None,
    }
}

/// The text of an address or range, which other values have in other ways.
fn opaque_text(value: &Value) -> Option<String> {
    match addresses::to_text(std::slice::from_ref(value)) {
        Some(Value::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

fn text(values: &[Value], at: usize) -> Result<&str, String> {
    match values.get(at) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("expected string, got {}", other.type_of())),
        None => Err("missing argument".to_owned()),
    }
}

fn int(values: &[Value], at: usize) -> Result<i64, String> {
    match values.get(at) {
        Some(Value::Int(number)) => Ok(*number),
        Some(other) => Err(format!("expected int, got {}", other.type_of())),
        None => Err("missing argument".to_owned()),
    }
}

/// How many at most: an optional argument, negative for "all".
fn most(values: &[Value], at: usize) -> Result<usize, String> {
    match values.get(at) {
        Some(_) => Ok(usize::try_from(int(values, at)?).unwrap_or(usize::MAX)),
        None => Ok(usize::MAX),
    }
}

fn list(values: &[Value], at: usize) -> Result<&[Value], String> {
    match values.get(at) {
        Some(Value::List(list)) => Ok(list),
        Some(other) => Err(format!("expected list, got {}", other.type_of())),
        None => Err("missing argument".to_owned()),
    }
}

fn string(text: impl Into<String>) -> Value {
    Value::String(Arc::new(text.into()))
}

fn list_of(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(Arc::new(values.into_iter().collect()))
}
