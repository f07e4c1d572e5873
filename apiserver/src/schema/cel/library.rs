//! The functions that Kubernetes adds to CEL: texts, lists, patterns, addresses, URLs, versions, quantities.

mod access;
mod addresses;
mod format;
mod lists;
mod pairs;
mod quantities;
#[cfg(test)]
mod tests;
mod texts;
mod urls;
mod versions;

use std::sync::Arc;

use cel::objects::{Opaque, OptionalValue};
use cel::{Context, ExecutionError, FunctionContext, Value};

pub(crate) use access::{Access, Question, Verdict, authorizer};

/// A function over its target, if it has one, and its arguments.
type Native = fn(&[Value]) -> Result<Value, String>;

/// Names of types that may stand as values.
pub(super) fn is_type(name: &str) -> bool {
    matches!(
        name,
        "bool"
            | "bytes"
            | "double"
            | "int"
            | "list"
            | "map"
            | "null_type"
            | "string"
            | "type"
            | "uint"
            | "optional"
            | "sets"
            | "ip"
            | "cidr"
            | "quantity"
            | "semver"
            | "url"
            | "format"
            | "optional_type"
            | "jsonpatch"
    )
}

thread_local! {
    /// Setting up the functions costs more than most rules; each thread does it once.
    static ROOT: Context<'static> = root();
}

/// Runs with a context that has all functions.
pub(super) fn with_functions<T>(run: impl FnOnce(&Context<'static>) -> T) -> T {
    ROOT.with(run)
}

/// An optional value, as `oldSelf` is with `optionalOldSelf`.
pub(super) fn optional(value: Option<Value>) -> Value {
    let value = value.map_or_else(OptionalValue::none, OptionalValue::of);
    Value::Opaque(Arc::new(value) as Arc<dyn Opaque>)
}

fn root() -> Context<'static> {
    let mut context = Context::default();
    for (name, function) in texts::FUNCTIONS
        .iter()
        .chain(lists::FUNCTIONS)
        .chain(pairs::FUNCTIONS)
        .chain(quantities::FUNCTIONS)
        .chain(addresses::FUNCTIONS)
        .chain(urls::FUNCTIONS)
        .chain(versions::FUNCTIONS)
        .chain(access::FUNCTIONS)
    {
        context.add_function(name, wrap(*function));
    }
    context.add_function("string", to_text());
    context
}

fn wrap(function: Native) -> cel_function::Boxed {
    Box::new(move |call: &mut FunctionContext<'_, '_>| {
        let mut values = Vec::with_capacity(call.args.len() + 1);
        for value in call.this.iter().chain(&call.args) {
            values.push(Value::try_from(value.as_ref())?);
        }
        function(&values).map_err(|message| call.error(message))
    })
}

/// `string(...)`, also of addresses and ranges.
fn to_text() -> cel_function::Boxed {
    Box::new(|call: &mut FunctionContext<'_, '_>| {
        let value = call.this.iter().chain(&call.args).next();
        let value = value.ok_or_else(|| call.error("missing argument"))?;
        let value = Value::try_from(value.as_ref())?;
        match opaque_text(&value) {
            Some(text) => Ok(string(text)),
            None => cel::functions::string(call, cel::extractors::This(value)),
        }
    })
}

/// The text of an address or range, which other values have in other ways.
fn opaque_text(value: &Value) -> Option<String> {
    match addresses::to_text(std::slice::from_ref(value)) {
        Some(Value::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// An argument, if it is of one of the types that only functions make.
fn opaque<T: 'static>(values: &[Value], at: usize) -> Option<&T> {
    match values.get(at) {
        Some(Value::Opaque(opaque)) => opaque.downcast_ref(),
        _ => None,
    }
}

mod cel_function {
    use super::{ExecutionError, FunctionContext, Value};

    pub(super) type Boxed =
        Box<dyn Fn(&mut FunctionContext<'_, '_>) -> Result<Value, ExecutionError> + Send + Sync>;
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
