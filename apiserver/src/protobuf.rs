//! Kubernetes' protobuf: `k8s\0`, an envelope, and the object.
//!
//! Field numbers are in `protobuf/messages.txt`, one message a line: `message|number name type|…`. Types are
//! `s` text, `b` boolean, `i` integer, `d` double, `y` bytes, `>message`; `[` before them repeats, `{` is a
//! map by text. The name `~` means that the fields of the message belong to its parent.

mod encode;
mod messages;
mod wire;

pub(crate) use encode::{encode, event};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use self::messages::{Field, Message, Repeat, Scalar, Shape, Type};
use self::wire::{Reader, Wire};
use crate::schema::Zero;
use crate::schema::defaults::is_zero;

/// The content type.
pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Messages inside messages; Kubernetes' deepest objects need fewer than 30.
const MAX_DEPTH: usize = 64;

/// The bytes are not an object. The client's fault; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix \"k8s\\x00\"")]
    NoMagic,
    /// The envelope names a kind without protobuf form.
    #[error("no protobuf form of kind {kind:?} in version {api_version:?} is known")]
    UnknownKind {
        /// `apiVersion` of the envelope.
        api_version: String,
        /// `kind` of the envelope.
        kind: String,
    },
    /// The bytes end too early, or are none of protobuf's.
    #[error("malformed protobuf at byte {0} of the message")]
    Malformed(usize),
    /// More nesting than any object has.
    #[error("the message is nested too deeply")]
    TooDeep,
    /// An embedded JSON value is none.
    #[error("an embedded value is not JSON: {0}")]
    Json(String),
}

/// The object in a body, as its JSON would be. Unknown fields are skipped, as protobuf does.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(envelope);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Bytes(type_meta)) => {
                let mut inner = Reader::new(type_meta);
                while let Some((number, value)) = inner.field()? {
                    match (number, value) {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    let Some(message) = messages::of(&api_version, &kind) else {
        return Err(Error::UnknownKind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("apiVersion".into(), api_version.into());
    fields(message, raw, &mut object, MAX_DEPTH)?;
    Ok(Value::Object(object))
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| Error::Malformed(error.utf8_error().valid_up_to()))
}

/// Reads the fields of a message into an object.
fn fields(
    message: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(field) = message.field(number) else {
            continue;
        };
        if field.name == "~" {
            if let (Type::Message(inner), Wire::Bytes(bytes)) = (&field.kind, wire) {
                let inner = messages::by_name(inner).ok_or(Error::Malformed(reader.position()))?;
                fields(inner, bytes, object, depth)?;
            }
            continue;
        }
        match field.repeat {
            Repeat::Once => {
                let value = value(&field.kind, wire, depth)?;
                if !is_absent(field, &value) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Repeat::List => append(object, field, wire, depth)?,
            Repeat::Map => insert(object, field, wire, depth)?,
        }
    }
    for field in message.fields().iter().filter(|f| f.zero == Zero::Listed) {
        if !object.contains_key(field.name) {
            object.insert(field.name.to_owned(), Value::Array(Vec::new()));
        }
    }
    Ok(())
}

/// Go writes fields that are not pointers even when nobody set them.
fn is_absent(field: &Field, value: &Value) -> bool {
    value.is_null() || field.zero == Zero::Omitted && is_zero(value)
}

fn append(
    object: &mut Map<String, Value>,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Error> {
    let list = object
        .entry(field.name)
        .or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(list) = list else {
        return Ok(());
    };
    if let (Type::Scalar(Scalar::Integer), Wire::Bytes(packed)) = (&field.kind, wire) {
        let mut reader = Reader::new(packed);
        while !reader.is_at_end() {
            list.push(integer(reader.varint()?));
        }
        return Ok(());
    }
    list.push(value(&field.kind, wire, depth)?);
    Ok(())
}

fn insert(
    object: &mut Map<String, Value>,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Error> {
    let Wire::Bytes(entry) = wire else {
        return Err(Error::Malformed(0));
    };
    let map = object
        .entry(field.name)
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(map) = map else {
        return Ok(());
    };
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, wire) => found = Some(value(&field.kind, wire, depth)?),
            _ => {}
        }
    }
    let found = match (found, &field.kind) {
        (Some(found), _) => found,
        // Defaults are not written inside map entries.
        (None, Type::Scalar(Scalar::Text | Scalar::Bytes)) => "".into(),
        (None, kind) => value(kind, Wire::Bytes(&[]), depth)?,
    };
    map.insert(key, found);
    Ok(())
}

fn value(kind: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    match (kind, wire) {
        (Type::Scalar(Scalar::Text), Wire::Bytes(text)) => Ok(utf8(text)?.into()),
        (Type::Scalar(Scalar::Bytes), Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Type::Scalar(Scalar::Boolean), Wire::Varint(number)) => Ok((number != 0).into()),
        (Type::Scalar(Scalar::Integer), Wire::Varint(number)) => Ok(integer(number)),
        (Type::Scalar(Scalar::Double), Wire::Fixed64(bits)) => {
            Ok(Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number))
        }
        (Type::Message(name), Wire::Bytes(bytes)) => {
            let message = messages::by_name(name).ok_or(Error::Malformed(0))?;
            special(message, bytes, depth)
        }
        _ => Err(Error::Malformed(0)),
    }
}

/// Negative numbers are sign-extended on the wire.
fn integer(number: u64) -> Value {
    number.cast_signed().into()
}

/// Messages whose JSON is not an object with the same fields.
fn special(message: &Message, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let mut object = Map::new();
    fields(message, bytes, &mut object, depth)?;
    let mut take = |name: &str| object.remove(name).unwrap_or_default();
    Ok(match message.shape {
        Shape::Object => Value::Object(object),
        Shape::Quantity => match take("string") {
            Value::Null => "0".into(),
            text => text,
        },
        Shape::IntOrString => match take("type").as_i64() {
            Some(1) => match take("strVal") {
                Value::Null => "".into(),
                text => text,
            },
            _ => take("intVal").as_i64().unwrap_or(0).into(),
        },
        Shape::Time { micros } => time(&take("seconds"), &take("nanos"), micros),
        Shape::Raw => match take("raw").as_str() {
            Some(encoded) => embedded(encoded)?,
            None => Value::Null,
        },
        Shape::Items => match take("items") {
            Value::Null => Value::Array(Vec::new()),
            items => items,
        },
        Shape::Either(other) => match take("schema") {
            Value::Null => take(other),
            schema => schema,
        },
    })
}

fn embedded(encoded: &str) -> Result<Value, Error> {
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|error| Error::Json(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Json(error.to_string()))
}

/// An unset time is an empty message.
fn time(seconds: &Value, nanos: &Value, micros: bool) -> Value {
    let Some(seconds) = seconds.as_i64() else {
        return Value::Null;
    };
    let nanos = nanos
        .as_i64()
        .and_then(|nanos| i32::try_from(nanos).ok())
        .unwrap_or(0);
    match jiff::Timestamp::new(seconds, if micros { nanos } else { 0 }) {
        Ok(time) if micros => format!("{time:.6}").into(),
        Ok(time) => time.to_string().into(),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
