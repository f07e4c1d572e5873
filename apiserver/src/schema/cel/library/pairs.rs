//! What loops with two variables are made of: pairs of lists and maps, and maps that grow.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};

use super::super::loops::{INSERT, PAIRS};
use super::{Native, list_of};

pub(super) const FUNCTIONS: &[(&str, Native)] = &[(PAIRS, pairs), (INSERT, insert)];

fn pairs(values: &[Value]) -> Result<Value, String> {
    match values {
        [Value::List(items)] => {
            let places = (0_i64..).zip(items.iter());
            let pairs = places.map(|(at, item)| list_of([Value::Int(at), item.clone()]));
            Ok(list_of(pairs))
        }
        [Value::Map(map)] => {
            let entries = map.map.iter();
            let pairs = entries.map(|(key, value)| list_of([plain(key), value.clone()]));
            Ok(list_of(pairs))
        }
        _ => Err("no such overload".to_owned()),
    }
}

fn plain(key: &Key) -> Value {
    match key {
        Key::Int(number) => Value::Int(*number),
        Key::Uint(number) => Value::UInt(*number),
        Key::Bool(flag) => Value::Bool(*flag),
        Key::String(text) => Value::String(text.clone()),
    }
}

fn insert(values: &[Value]) -> Result<Value, String> {
    let (map, more) = match values {
        [Value::Map(map), Value::Map(more)] => {
            let entries = more.map.iter();
            let entries = entries.map(|(key, value)| (key.clone(), value.clone()));
            (map, entries.collect::<Vec<_>>())
        }
        [Value::Map(map), key, value] => {
            let key = match key {
                Value::Int(number) => Key::Int(*number),
                Value::UInt(number) => Key::Uint(*number),
                Value::Bool(flag) => Key::Bool(*flag),
                Value::String(text) => Key::String(text.clone()),
                other => return Err(format!("a {} is no key of a map", other.type_of())),
            };
            (map, vec![(key, value.clone())])
        }
        _ => return Err("no such overload".to_owned()),
    };
    let mut grown: HashMap<Key, Value> = (*map.map).clone();
    for (key, value) in more {
        let shown = plain(&key);
        if grown.insert(key, value).is_some() {
            return Err(format!("insert failed: key {shown:?} already exists"));
        }
    }
    Ok(Value::Map(Map {
        map: Arc::new(grown),
    }))
}
