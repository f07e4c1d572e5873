//! Objects as CEL values: dates and durations typed by their format, field names escaped.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::{Key, Map as CelMap};
use serde_json::Value;

use crate::schema::formats::duration_nanos;
use crate::schema::node::{Node, ObjectNode, Shape};

/// The value as rules see it.
pub(super) fn convert(node: &Node, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match (&node.shape, number.as_i64()) {
            (Shape::Number, _) | (_, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            (_, Some(number)) => Cel::Int(number),
        },
        Value::String(text) => scalar(node, text),
        Value::Array(items) => {
            let inner = node.list().map_or(Node::any(), |l| &*l.items);
            Cel::List(Arc::new(
                items.iter().map(|item| convert(inner, item)).collect(),
            ))
        }
        Value::Object(map) => {
            let object = node.object();
            let entries = map.iter().map(|(key, value)| {
                let (name, inner) = entry(object, key);
                (Key::String(Arc::new(name)), convert(inner, value))
            });
            Cel::Map(CelMap {
                map: Arc::new(entries.collect::<HashMap<Key, Cel>>()),
            })
        }
    }
}

fn entry<'a>(object: Option<&'a ObjectNode>, key: &str) -> (String, &'a Node) {
    let Some(object) = object else {
        return (key.to_owned(), Node::any());
    };
    match object.field(key) {
        Some(field) => (escape(key), &field.node),
        None => (
            key.to_owned(),
            object.values.as_deref().unwrap_or(Node::any()),
        ),
    }
}

fn scalar(node: &Node, text: &str) -> Cel {
    let plain = || Cel::String(Arc::new(text.to_owned()));
    match node.rules.as_ref().and_then(|r| r.format.as_deref()) {
        Some("date-time") => {
            let parsed = chrono::DateTime::parse_from_rfc3339(text);
            parsed.map_or_else(|_| plain(), Cel::Timestamp)
        }
        Some("duration") => {
            let parsed = duration_nanos(text).map(chrono::Duration::nanoseconds);
            parsed.map_or_else(plain, Cel::Duration)
        }
        _ => plain(),
    }
}

/// A field's name as an identifier.
fn escape(name: &str) -> String {
    const RESERVED: [&str; 19] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    if name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// The field's name an identifier stands for.
pub(super) fn unescape(name: &str) -> String {
    let inner = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    if let Some(inner) = inner.filter(|inner| escape(inner) == name) {
        return inner.to_owned();
    }
    name.replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace("__underscores__", "__")
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn names_become_identifiers() {
        let table = [
            ("a", "a"),
            ("a_b", "a_b"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("a__b", "a__underscores__b"),
            ("namespace", "__namespace__"),
        ];
        for (name, expected) in table {
            assert_eq!(escape(name), expected);
            assert_eq!(unescape(expected), name);
        }
    }
}
