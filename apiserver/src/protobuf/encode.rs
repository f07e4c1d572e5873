//! Objects as Kubernetes' protobuf, for clients that take nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::messages::{self, Field, Message, Repeat, Scalar, Shape, Type};
use super::{MAGIC, MAX_DEPTH};

/// The bytes of an object or a list with their envelope; `None` for kinds without protobuf form, such as custom ones.
pub(crate) fn encode(object: &Value) -> Option<Bytes> {
    let api_version = object["apiVersion"].as_str()?;
    let kind = object["kind"].as_str()?;
    let raw = match (messages::of(api_version, kind), kind.strip_suffix("List")) {
        (Some(message), _) => fields(message, object, MAX_DEPTH)?,
        (None, Some(item)) => list(messages::of(api_version, item)?, object)?,
        (None, None) => return None,
    };
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 16);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, &raw);
    Some(out.into())
}

/// One event of a watch: its length, its type, and the object in an envelope of its own.
pub(crate) fn event(kind: &str, object: &Value) -> Option<Bytes> {
    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &encode(object)?);
    let mut event = Vec::with_capacity(raw.len() + 24);
    put_bytes(&mut event, 1, kind.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let mut out = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    out.append(&mut event);
    Some(out.into())
}

/// Lists are alike in all kinds.
fn list(item: &Message, list: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let metadata = messages::by_name("meta.v1.ListMeta")?;
    put_bytes(
        &mut out,
        1,
        &fields(metadata, &list["metadata"], MAX_DEPTH)?,
    );
    for object in list["items"].as_array().into_iter().flatten() {
        put_bytes(&mut out, 2, &fields(item, object, MAX_DEPTH)?);
    }
    Some(out)
}

/// The fields of a message that the object has. `None` where the object is not what the message says.
fn fields(message: &Message, object: &Value, depth: usize) -> Option<Vec<u8>> {
    let depth = depth.checked_sub(1)?;
    let mut out = Vec::new();
    for field in message.fields() {
        if field.name == "~" {
            let Type::Message(inner) = field.kind else {
                continue;
            };
            put_bytes(
                &mut out,
                field.number,
                &fields(messages::by_name(inner)?, object, depth)?,
            );
            continue;
        }
        match (object.get(field.name), field.repeat) {
            (None | Some(Value::Null), _) => {}
            (Some(value), Repeat::Once) => put(&mut out, field, field.number, value, depth)?,
            (Some(Value::Array(items)), Repeat::List) => {
                for item in items {
                    put(&mut out, field, field.number, item, depth)?;
                }
            }
            (Some(Value::Object(map)), Repeat::Map) => {
                for (key, value) in map {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    put(&mut entry, field, 2, value, depth)?;
                    put_bytes(&mut out, field.number, &entry);
                }
            }
            _ => return None,
        }
    }
    Some(out)
}

fn put(out: &mut Vec<u8>, field: &Field, number: u32, value: &Value, depth: usize) -> Option<()> {
    match (&field.kind, value) {
        (Type::Scalar(Scalar::Text), Value::String(text)) => {
            put_bytes(out, number, text.as_bytes())
        }
        (Type::Scalar(Scalar::Bytes), Value::String(text)) => {
            put_bytes(out, number, &STANDARD.decode(text).ok()?);
        }
        (Type::Scalar(Scalar::Boolean), Value::Bool(value)) => {
            put_varint(out, number, u64::from(*value));
        }
        (Type::Scalar(Scalar::Integer), Value::Number(value)) => {
            put_varint(out, number, value.as_i64()?.cast_unsigned());
        }
        (Type::Scalar(Scalar::Double), Value::Number(value)) => {
            varint(out, u64::from(number) << 3 | 1);
            out.extend_from_slice(&value.as_f64()?.to_le_bytes());
        }
        (Type::Message(name), value) => {
            let bytes = special(messages::by_name(name)?, value, depth)?;
            put_bytes(out, number, &bytes);
        }
        _ => return None,
    }
    Some(())
}

/// Messages whose JSON is not an object with the same fields.
fn special(message: &Message, value: &Value, depth: usize) -> Option<Vec<u8>> {
    let part = |name: &str, value: Value| (name.to_owned(), value);
    let parts = |parts: Vec<(String, Value)>| {
        let object = Value::Object(Map::from_iter(parts));
        fields(message, &object, depth)
    };
    match message.shape {
        Shape::Object => fields(message, value, depth),
        Shape::Quantity => match value {
            Value::Null => Some(Vec::new()),
            Value::String(_) => parts(vec![part("string", value.clone())]),
            other => parts(vec![part("string", other.to_string().into())]),
        },
        Shape::IntOrString => match value {
            Value::String(_) => parts(vec![part("type", 1.into()), part("strVal", value.clone())]),
            other => parts(vec![part("type", 0.into()), part("intVal", other.clone())]),
        },
        Shape::Time { .. } => match value {
            Value::Null => Some(Vec::new()),
            other => {
                let time: jiff::Timestamp = other.as_str()?.parse().ok()?;
                let nanos = time.subsec_nanosecond();
                let seconds = part("seconds", time.as_second().into());
                parts(vec![seconds, part("nanos", nanos.into())])
            }
        },
        Shape::Raw => {
            let raw = STANDARD.encode(value.to_string());
            parts(vec![part("raw", raw.into())])
        }
        Shape::Items => parts(vec![part("items", value.clone())]),
        Shape::Either(other) => match value {
            Value::Object(_) if other == "allows" => parts(vec![
                part("allows", true.into()),
                part("schema", value.clone()),
            ]),
            Value::Object(_) => parts(vec![part("schema", value.clone())]),
            _ => parts(vec![part(other, value.clone())]),
        },
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests;
