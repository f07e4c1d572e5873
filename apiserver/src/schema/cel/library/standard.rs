//! Sizes, parts of texts and conversions between types.

use std::sync::Arc;

use cel::Value;

use super::{Metered, Native, format, opaque_text, string, text};

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("bool", |v| match v {
        [Value::Bool(flag)] => Ok(Value::Bool(*flag)),
        _ => match text(v, 0)? {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err("type conversion error from 'string' to 'bool'".to_owned()),
        },
    }),
    ("bytes", |v| match v {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        _ => Ok(Value::Bytes(Arc::new(text(v, 0)?.as_bytes().to_vec()))),
    }),
    ("contains", |v| {
        Ok(Value::Bool(text(v, 0)?.contains(text(v, 1)?)))
    }),
    ("double", |v| match v {
        [Value::Float(number)] => Ok(Value::Float(*number)),
        [Value::Int(number)] => Ok(Value::Float(*number as f64)),
        [Value::UInt(number)] => Ok(Value::Float(*number as f64)),
        _ => read(v, "double").map(Value::Float),
    }),
    ("endsWith", |v| {
        Ok(Value::Bool(text(v, 0)?.ends_with(text(v, 1)?)))
    }),
    ("int", |v| match v {
        [Value::Int(number)] => Ok(Value::Int(*number)),
        [Value::UInt(number)] => whole(i64::try_from(*number).ok()).map(Value::Int),
        [Value::Float(number)] => {
            // 2^63 is the first that does not fit.
            let fits = number.abs() < 9_223_372_036_854_775_808.0;
            whole(fits.then_some(*number as i64)).map(Value::Int)
        }
        [Value::Timestamp(time)] => Ok(Value::Int(time.timestamp())),
        _ => read(v, "int").map(Value::Int),
    }),
    ("startsWith", |v| {
        Ok(Value::Bool(text(v, 0)?.starts_with(text(v, 1)?)))
    }),
    ("string", |v| match v {
        [Value::String(text)] => Ok(Value::String(text.clone())),
        [Value::Bool(flag)] => Ok(string(flag.to_string())),
        [Value::Int(number)] => Ok(string(number.to_string())),
        [Value::UInt(number)] => Ok(string(number.to_string())),
        [Value::Float(number)] => Ok(string(format::float(*number))),
        [Value::Duration(duration)] => Ok(string(format::seconds(duration))),
        [Value::Timestamp(time)] => Ok(string(
            time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        )),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(string(text)),
            Err(_) => Err("invalid UTF-8 in bytes, cannot convert to string".to_owned()),
        },
        [other] => {
            let shown = opaque_text(other).map(string);
            shown.ok_or_else(|| format!("a {} has no text", other.type_of()))
        }
        _ => Err("no such overload".to_owned()),
    }),
    ("uint", |v| match v {
        [Value::UInt(number)] => Ok(Value::UInt(*number)),
        [Value::Int(number)] => whole(u64::try_from(*number).ok()).map(Value::UInt),
        [Value::Float(number)] => {
            // 2^64 is the first that does not fit.
            let fits = (0.0..18_446_744_073_709_551_616.0).contains(number);
            whole(fits.then_some(*number as u64)).map(Value::UInt)
        }
        _ => read(v, "uint").map(Value::UInt),
    }),
];

pub(super) const METERED: &[(&str, Metered)] = &[("size", |v, m| {
    let length = match v {
        [Value::List(items)] => items.len(),
        [Value::Map(map)] => map.map.len(),
        [Value::Bytes(bytes)] => bytes.len(),
        [Value::String(text)] => {
            // Characters are counted many at a time.
            m.pass(text.len() / 64)?;
            text.chars().count()
        }
        _ => return Err("no such overload".into()),
    };
    m.charge(1)?;
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
})];

fn whole<T>(number: Option<T>) -> Result<T, String> {
    number.ok_or_else(|| "integer overflow".to_owned())
}

fn read<T: std::str::FromStr>(values: &[Value], kind: &str) -> Result<T, String> {
    let read = text(values, 0)?.parse();
    read.map_err(|_| format!("type conversion error from 'string' to '{kind}'"))
}
