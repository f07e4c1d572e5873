//! Optional values: `optional.of(x)`, `x.orValue(y)`.

use std::sync::Arc;

use cel::Value;
use cel::objects::{Opaque, OptionalValue};

use super::{Native, opaque};
use crate::schema::cel::meter::Failure;

pub(super) const FLAT: &[(&str, Native)] = &[
    ("optional.none", |_| Ok(optional(None))),
    ("optional.of", |v| Ok(optional(Some(one(v, 0)?)))),
    ("optional.ofNonZeroValue", |v| {
        let value = one(v, 0)?;
        Ok(optional((!value.is_zero()).then_some(value)))
    }),
    ("value", |v| {
        let value = held(v, 0)?.cloned();
        value.ok_or_else(|| "optional.none() dereference".to_owned())
    }),
    ("hasValue", |v| Ok(Value::Bool(held(v, 0)?.is_some()))),
    ("or", |v| match held(v, 0)? {
        Some(_) => one(v, 0),
        None => held(v, 1).and_then(|_| one(v, 1)),
    }),
    ("orValue", |v| match held(v, 0)? {
        Some(value) => Ok(value.clone()),
        None => one(v, 1),
    }),
];

fn one(values: &[Value], at: usize) -> Result<Value, String> {
    let value = values.get(at).cloned();
    value.ok_or_else(|| "missing argument".to_owned())
}

fn held(values: &[Value], at: usize) -> Result<Option<&Value>, String> {
    let optional = opaque::<OptionalValue>(values, at);
    let optional = optional.ok_or_else(|| "no such overload".to_owned());
    optional.map(OptionalValue::value)
}

/// What an entry `?k: v` of a list or map adds.
pub(in crate::schema::cel) fn inside(value: Value) -> Result<Option<Value>, Failure> {
    match opaque::<OptionalValue>(std::slice::from_ref(&value), 0) {
        Some(optional) => Ok(optional.value().cloned()),
        None => Err("cannot initialize optional entry from non-optional value".into()),
    }
}

/// An optional value, as `oldSelf` is with `optionalOldSelf`.
pub(in crate::schema::cel) fn optional(value: Option<Value>) -> Value {
    let value = value.map_or_else(OptionalValue::none, OptionalValue::of);
    Value::Opaque(Arc::new(value) as Arc<dyn Opaque>)
}
