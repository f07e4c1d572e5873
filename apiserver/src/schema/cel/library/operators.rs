//! Operators: arithmetic, equality, order, indices and membership.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::common::ast::operators as names;
use cel::objects::{Key, KeyRef, Map, OptionalValue};

use super::optionals::optional as wrap;
use super::{Metered, length, opaque};
use crate::schema::cel::meter::{Failure, Meter};

type Outcome = Result<Value, Failure>;

pub(super) const METERED: &[(&str, Metered)] = &[
    (names::ADD, |v, m| {
        let (a, b) = pair(v)?;
        add(a.clone(), b, m)
    }),
    (names::SUBSTRACT, |v, m| arithmetic(v, m, '-')),
    (names::MULTIPLY, |v, m| arithmetic(v, m, '*')),
    (names::DIVIDE, |v, m| arithmetic(v, m, '/')),
    (names::MODULO, |v, m| arithmetic(v, m, '%')),
    (names::NEGATE, |v, m| {
        m.charge(1)?;
        match v {
            [Value::Int(n)] => Ok(Value::Int(n.checked_neg().ok_or(OVERFLOW)?)),
            [Value::Float(n)] => Ok(Value::Float(-n)),
            _ => Err(OVERLOAD.into()),
        }
    }),
    (names::LOGICAL_NOT, |v, m| {
        m.charge(1)?;
        match v {
            [Value::Bool(flag)] => Ok(Value::Bool(!flag)),
            _ => Err(OVERLOAD.into()),
        }
    }),
    (names::EQUALS, |v, m| {
        let (a, b) = pair(v)?;
        equal(a, b, m).map(Value::Bool)
    }),
    (names::NOT_EQUALS, |v, m| {
        let (a, b) = pair(v)?;
        equal(a, b, m).map(|same| Value::Bool(!same))
    }),
    (names::LESS, |v, m| ordered(v, m, Ordering::is_lt)),
    (names::LESS_EQUALS, |v, m| ordered(v, m, Ordering::is_le)),
    (names::GREATER, |v, m| ordered(v, m, Ordering::is_gt)),
    (names::GREATER_EQUALS, |v, m| ordered(v, m, Ordering::is_ge)),
    (names::IN, |v, m| {
        let (item, range) = pair(v)?;
        is_in(item, range, m).map(Value::Bool)
    }),
    (names::INDEX, |v, m| {
        m.charge(1)?;
        let (range, index) = pair(v)?;
        match optional(range) {
            Some(inner) => Ok(wrap(inner.and_then(|inner| index_of(inner, index).ok()))),
            None => index_of(range, index),
        }
    }),
    (names::OPT_INDEX, maybe),
    (names::OPT_SELECT, maybe),
];

const OVERLOAD: &str = "no such overload";
const OVERFLOW: &str = "integer overflow";

fn pair(values: &[Value]) -> Result<(&Value, &Value), Failure> {
    match values {
        [a, b] => Ok((a, b)),
        _ => Err(OVERLOAD.into()),
    }
}

/// What an optional value holds; `None` if the value is none.
fn optional(value: &Value) -> Option<Option<&Value>> {
    opaque::<OptionalValue>(std::slice::from_ref(value), 0).map(OptionalValue::value)
}

/// `a[?b]` and `a.?b`: a value that may be missing.
fn maybe(values: &[Value], meter: &mut Meter) -> Outcome {
    meter.charge(1)?;
    let (range, index) = pair(values)?;
    let inner = optional(range).unwrap_or(Some(range));
    Ok(wrap(inner.and_then(|inner| index_of(inner, index).ok())))
}

/// `operand.field`, or whether it is there.
pub(in crate::schema::cel) fn select(operand: &Value, field: &str, test: bool) -> Outcome {
    let get = |value: &Value| match value {
        Value::Map(map) => Ok(map.get(&KeyRef::String(field)).cloned()),
        _ => Err(Failure::from(OVERLOAD)),
    };
    if let Some(inner) = optional(operand) {
        let found = inner.map(get).transpose()?.flatten();
        return Ok(if test {
            Value::Bool(found.is_some())
        } else {
            wrap(found)
        });
    }
    let found = get(operand)?;
    if test {
        return Ok(Value::Bool(found.is_some()));
    }
    found.ok_or_else(|| format!("no such key: {field}").into())
}

fn index_of(range: &Value, index: &Value) -> Outcome {
    match range {
        Value::List(items) => {
            let at = whole(index).ok_or(OVERLOAD)?;
            let item = usize::try_from(at).ok().and_then(|at| items.get(at));
            let missing = || Failure::fault(format!("index out of bounds: {at}"));
            item.cloned().ok_or_else(missing)
        }
        Value::Map(map) => {
            let found = find(map, index)?;
            found.cloned().ok_or_else(|| match index {
                Value::String(text) => format!("no such key: {text}").into(),
                other => format!("no such key: {other:?}").into(),
            })
        }
        _ => Err(OVERLOAD.into()),
    }
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::UInt(number) => i64::try_from(*number).ok(),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Some(*number as i64)
        }
        _ => None,
    }
}

fn find<'a>(map: &'a Map, index: &Value) -> Result<Option<&'a Value>, Failure> {
    Ok(match index {
        Value::String(text) => map.get(&KeyRef::String(text)),
        Value::Bool(flag) => map.get(&KeyRef::Bool(*flag)),
        Value::UInt(number) => map.get(&KeyRef::Uint(*number)),
        Value::Int(number) => map.get(&KeyRef::Int(*number)),
        Value::Float(_) => whole(index).and_then(|number| map.get(&KeyRef::Int(number))),
        _ => return Err(OVERLOAD.into()),
    })
}

/// A value as a key of a map.
pub(in crate::schema::cel) fn key(value: &Value) -> Result<Key, Failure> {
    Ok(match value {
        Value::Int(number) => Key::Int(*number),
        Value::UInt(number) => Key::Uint(*number),
        Value::Bool(flag) => Key::Bool(*flag),
        Value::String(text) => Key::String(text.clone()),
        other => return Err(format!("a {} is no key of a map", other.type_of()).into()),
    })
}

fn is_in(item: &Value, range: &Value, meter: &mut Meter) -> Result<bool, Failure> {
    match range {
        Value::List(items) => contains(items, item, meter),
        Value::Map(map) => {
            meter.charge(1)?;
            Ok(find(map, item).ok().flatten().is_some())
        }
        _ => Err(OVERLOAD.into()),
    }
}

/// Whether an item is in a list.
pub(super) fn contains(list: &[Value], item: &Value, meter: &mut Meter) -> Result<bool, Failure> {
    for have in list {
        if equal(have, item, meter)? {
            return Ok(true);
        }
    }
    meter.pass(0)?;
    Ok(false)
}

/// Whether two values are the same.
pub(super) fn equal(a: &Value, b: &Value, meter: &mut Meter) -> Result<bool, Failure> {
    meter.charge(1)?;
    same(a, b, meter)
}

/// What values are made of is charged as it is looked at, since they may hold the same part many times.
fn same(a: &Value, b: &Value, meter: &mut Meter) -> Result<bool, Failure> {
    meter.tenths(1)?;
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !same(a, b, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.map.len() != b.map.len() {
                return Ok(false);
            }
            for (key, a) in a.map.iter() {
                match b.get(key) {
                    Some(b) if same(a, b, meter)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        (Value::Opaque(_), Value::Opaque(_)) => match (optional(a), optional(b)) {
            (Some(Some(a)), Some(Some(b))) => same(a, b, meter),
            _ => Ok(a == b),
        },
        (a, b) => {
            if length(a) != length(b) {
                return Ok(false);
            }
            meter.tenths(length(a) as u64)?;
            Ok(a == b)
        }
    }
}

/// How two values stand to each other.
pub(super) fn compare(a: &Value, b: &Value, meter: &mut Meter) -> Result<Ordering, Failure> {
    meter.pass(length(a).min(length(b)))?;
    let ordering = match (a, b) {
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Null, _) => None,
        _ => a.partial_cmp(b),
    };
    ordering.ok_or_else(|| OVERLOAD.into())
}

fn ordered(values: &[Value], meter: &mut Meter, holds: fn(Ordering) -> bool) -> Outcome {
    let (a, b) = pair(values)?;
    if is_nan(a) || is_nan(b) {
        return Ok(Value::Bool(false));
    }
    compare(a, b, meter).map(|ordering| Value::Bool(holds(ordering)))
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Float(number) if number.is_nan())
}

/// `first + second`; the first is used up.
fn add(first: Value, second: &Value, meter: &mut Meter) -> Outcome {
    match (first, second) {
        (Value::String(a), Value::String(b)) => {
            let length = a.len().saturating_add(b.len());
            meter.pass(length)?;
            meter.make_values(1, length)?;
            let mut text = String::with_capacity(length);
            text.push_str(&a);
            text.push_str(b);
            Ok(Value::String(Arc::new(text)))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            let length = a.len().saturating_add(b.len());
            meter.pass(length)?;
            meter.make_values(1, length)?;
            Ok(Value::Bytes(Arc::new([&**a, &**b].concat())))
        }
        (Value::List(a), second) => append(Value::List(a), second, meter),
        (Value::Duration(a), Value::Timestamp(b)) => {
            arithmetic(&[Value::Timestamp(*b), Value::Duration(a)], meter, '+')
        }
        (a, b) => arithmetic(&[a, b.clone()], meter, '+'),
    }
}

/// A list with the items of another behind its own. It grows in place if nobody else has it.
pub(in crate::schema::cel) fn append(first: Value, second: &Value, meter: &mut Meter) -> Outcome {
    let (Value::List(mut items), Value::List(more)) = (first, second) else {
        return Err(OVERLOAD.into());
    };
    let shared = Arc::get_mut(&mut items).is_none();
    let copied = if shared { items.len() } else { 0 };
    let copied = copied.saturating_add(more.len());
    meter.pass(copied)?;
    meter.make((copied as u64).saturating_mul(size_of::<Value>() as u64))?;
    Arc::make_mut(&mut items).extend(more.iter().cloned());
    Ok(Value::List(items))
}

fn arithmetic(values: &[Value], meter: &mut Meter, operator: char) -> Outcome {
    meter.charge(1)?;
    let whole = |number: Option<i64>| number.map(Value::Int).ok_or(Failure::from(OVERFLOW));
    let unsigned = |number: Option<u64>| {
        let number = number.map(Value::UInt);
        number.ok_or(Failure::from("unsigned integer overflow"))
    };
    match (values, operator) {
        ([Value::Int(_), Value::Int(0)] | [Value::UInt(_), Value::UInt(0)], '/') => {
            Err("division by zero".into())
        }
        ([Value::Int(_), Value::Int(0)] | [Value::UInt(_), Value::UInt(0)], '%') => {
            Err("modulus by zero".into())
        }
        ([Value::Int(a), Value::Int(b)], '+') => whole(a.checked_add(*b)),
        ([Value::Int(a), Value::Int(b)], '-') => whole(a.checked_sub(*b)),
        ([Value::Int(a), Value::Int(b)], '*') => whole(a.checked_mul(*b)),
        ([Value::Int(a), Value::Int(b)], '/') => whole(a.checked_div(*b)),
        ([Value::Int(a), Value::Int(b)], '%') => whole(a.checked_rem(*b)),
        ([Value::UInt(a), Value::UInt(b)], '+') => unsigned(a.checked_add(*b)),
        ([Value::UInt(a), Value::UInt(b)], '-') => unsigned(a.checked_sub(*b)),
        ([Value::UInt(a), Value::UInt(b)], '*') => unsigned(a.checked_mul(*b)),
        ([Value::UInt(a), Value::UInt(b)], '/') => unsigned(a.checked_div(*b)),
        ([Value::UInt(a), Value::UInt(b)], '%') => unsigned(a.checked_rem(*b)),
        ([Value::Float(a), Value::Float(b)], '+') => Ok(Value::Float(a + b)),
        ([Value::Float(a), Value::Float(b)], '-') => Ok(Value::Float(a - b)),
        ([Value::Float(a), Value::Float(b)], '*') => Ok(Value::Float(a * b)),
        ([Value::Float(a), Value::Float(b)], '/') => Ok(Value::Float(a / b)),
        _ => super::times::arithmetic(values, operator),
    }
}
