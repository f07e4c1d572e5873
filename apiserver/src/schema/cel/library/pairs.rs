//! What loops with two variables are made of: pairs of lists and maps, and maps that grow.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};

use super::super::loops::{INSERT, PAIRS};
use super::{Metered, list_of, operators};
use crate::schema::cel::meter::{Failure, Meter};

pub(super) const METERED: &[(&str, Metered)] = &[
    (PAIRS, pairs),
    (INSERT, |v, m| match v {
        [map, entries @ ..] => insert(map.clone(), entries, m),
        [] => Err("missing argument".into()),
    }),
];

fn pairs(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let mut price = |count: usize| {
        meter.pass(count)?;
        // A pair is a list with two values.
        meter.make_values(count.saturating_mul(2), 0)
    };
    match values {
        [Value::List(items)] => {
            price(items.len())?;
            let places = (0_i64..).zip(items.iter());
            let pairs = places.map(|(at, item)| list_of([Value::Int(at), item.clone()]));
            Ok(list_of(pairs))
        }
        [Value::Map(map)] => {
            price(map.map.len())?;
            let entries = map.map.iter();
            let pairs = entries.map(|(key, value)| list_of([plain(key), value.clone()]));
            Ok(list_of(pairs))
        }
        _ => Err("no such overload".into()),
    }
}

/// A key as a value.
pub(in crate::schema::cel) fn plain(key: &Key) -> Value {
    match key {
        Key::Int(number) => Value::Int(*number),
        Key::Uint(number) => Value::UInt(*number),
        Key::Bool(flag) => Value::Bool(*flag),
        Key::String(text) => Value::String(text.clone()),
    }
}

/// A map with more entries: those of another map, or a key and its value. It grows in place if nobody else has it.
pub(in crate::schema::cel) fn insert(
    map: Value,
    entries: &[Value],
    meter: &mut Meter,
) -> Result<Value, Failure> {
    let Value::Map(Map { mut map }) = map else {
        return Err("no such overload".into());
    };
    let count = match entries {
        [Value::Map(more)] => more.map.len(),
        _ => 1,
    };
    let shared = Arc::get_mut(&mut map).is_none();
    let copied = if shared { map.len() } else { 0 };
    let copied = copied.saturating_add(count);
    meter.pass(copied)?;
    meter.make_values(copied, 0)?;
    let grown = Arc::make_mut(&mut map);
    match entries {
        [Value::Map(more)] => {
            for (key, value) in more.map.iter() {
                enter(grown, key.clone(), value.clone())?;
            }
        }
        [key, value] => enter(grown, operators::key(key)?, value.clone())?,
        _ => return Err("no such overload".into()),
    }
    Ok(Value::Map(Map { map }))
}

fn enter(map: &mut HashMap<Key, Value>, key: Key, value: Value) -> Result<(), Failure> {
    let shown = plain(&key);
    match map.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(format!("insert failed: key {shown:?} already exists").into()),
    }
}
