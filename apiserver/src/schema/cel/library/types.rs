//! Types as values: `type(self) == int`.

use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;

use super::Native;

/// A type, by its name.
#[derive(Debug, PartialEq, Eq)]
struct Type(String);

impl Opaque for Type {
    fn runtime_type_name(&self) -> &str {
        "type"
    }
}

const NAMES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "optional_type",
];

pub(super) const FLAT: &[(&str, Native)] = &[
    ("dyn", |v| v.first().cloned().ok_or_else(missing)),
    ("type", |v| v.first().map(type_of).ok_or_else(missing)),
];

fn missing() -> String {
    "missing argument".to_owned()
}

/// Whether it is the name of a type.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The type of that name.
pub(in crate::schema::cel) fn type_named(name: &str) -> Option<Value> {
    is_name(name).then(|| wrap(name))
}

/// The type of a value.
fn type_of(value: &Value) -> Value {
    wrap(match value {
        Value::Bool(_) => "bool",
        Value::Bytes(_) => "bytes",
        Value::Float(_) => "double",
        Value::Int(_) => "int",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Null => "null_type",
        Value::String(_) => "string",
        Value::UInt(_) => "uint",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Opaque(opaque) => opaque.runtime_type_name(),
        Value::Function(..) => "function",
    })
}

fn wrap(name: &str) -> Value {
    Value::Opaque(Arc::new(Type(name.to_owned())) as Arc<dyn Opaque>)
}
