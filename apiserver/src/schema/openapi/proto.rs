//! The v2 document in gnostic's protobuf form (`openapi.v2.Document`), written field by field.

use serde_json::{Map, Value};

/// A message being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten() {
            self.text(field, Some(text));
        }
    }

    fn flag(&mut self, field: u32, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(u64::from(field) << 3);
            self.0.push(1);
        }
    }

    fn number(&mut self, field: u32, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_f64) {
            self.varint(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn count(&mut self, field: u32, value: Option<&Value>) {
        if let Some(count) = value.and_then(Value::as_u64) {
            self.varint(u64::from(field) << 3);
            self.varint(count);
        }
    }

    fn message(&mut self, field: u32, inner: Message) {
        self.bytes(field, &inner.0);
    }

    /// A `Named…` message: name and value.
    fn named(&mut self, field: u32, name: &str, value: Message) {
        let mut named = Message::default();
        named.bytes(1, name.as_bytes());
        named.message(2, value);
        self.message(field, named);
    }

    /// An `Any` that holds its value as YAML; JSON is YAML.
    fn any(&mut self, field: u32, value: &Value) {
        let mut any = Message::default();
        any.bytes(2, format!("{value}\n").as_bytes());
        self.message(field, any);
    }

    fn extensions(&mut self, field: u32, map: &Map<String, Value>) {
        for (key, value) in map.iter().filter(|(k, _)| k.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, format!("{value}\n").as_bytes());
            self.named(field, key, any);
        }
    }
}

fn empty() -> &'static Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &EMPTY
}

fn object<'a>(map: &'a Map<String, Value>, key: &str) -> &'a Map<String, Value> {
    map.get(key).and_then(Value::as_object).unwrap_or(empty())
}

/// The whole document.
pub(super) fn document(swagger: &Value) -> Vec<u8> {
    let root = swagger.as_object().unwrap_or(empty());
    let mut out = Message::default();
    out.text(1, root.get("swagger"));
    let mut info = Message::default();
    info.text(1, object(root, "info").get("title"));
    info.text(2, object(root, "info").get("version"));
    out.message(2, info);
    let mut paths = Message::default();
    for (name, item) in object(root, "paths") {
        paths.named(2, name, path_item(item.as_object().unwrap_or(empty())));
    }
    out.message(8, paths);
    let mut definitions = Message::default();
    for (name, definition) in object(root, "definitions") {
        definitions.named(1, name, schema(definition.as_object().unwrap_or(empty())));
    }
    out.message(9, definitions);
    out.0
}

fn path_item(item: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    for (field, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if let Some(Value::Object(map)) = item.get(method) {
            out.message(field, operation(map));
        }
    }
    for parameter in item
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(9, parameter_item(parameter.as_object().unwrap_or(empty())));
    }
    out
}

fn operation(map: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.texts(1, map.get("tags"));
    out.text(3, map.get("description"));
    out.text(5, map.get("operationId"));
    out.texts(6, map.get("produces"));
    out.texts(7, map.get("consumes"));
    for parameter in map
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(8, parameter_item(parameter.as_object().unwrap_or(empty())));
    }
    let mut responses = Message::default();
    for (code, answer) in object(map, "responses") {
        responses.named(1, code, response(answer.as_object().unwrap_or(empty())));
    }
    out.message(9, responses);
    out.texts(10, map.get("schemes"));
    out.extensions(13, map);
    out
}

fn parameter_item(map: &Map<String, Value>) -> Message {
    let place = map.get("in").and_then(Value::as_str).unwrap_or_default();
    let mut parameter = Message::default();
    if place == "body" {
        let mut body = Message::default();
        body.text(2, map.get("name"));
        body.text(3, map.get("in"));
        body.flag(4, map.get("required"));
        body.message(5, schema(object(map, "schema")));
        parameter.message(1, body);
    } else {
        let in_path = place == "path";
        let mut sub = Message::default();
        sub.flag(1, map.get("required"));
        sub.text(2, map.get("in"));
        sub.text(3, map.get("description"));
        sub.text(4, map.get("name"));
        sub.text(if in_path { 5 } else { 6 }, map.get("type"));
        sub.flag(if in_path { 19 } else { 20 }, map.get("uniqueItems"));
        let mut non_body = Message::default();
        non_body.message(if in_path { 4 } else { 3 }, sub);
        parameter.message(2, non_body);
    }
    let mut item = Message::default();
    item.message(1, parameter);
    item
}

fn response(map: &Map<String, Value>) -> Message {
    let mut answer = Message::default();
    answer.text(1, map.get("description"));
    if let Some(Value::Object(inner)) = map.get("schema") {
        let mut item = Message::default();
        item.message(1, schema(inner));
        answer.message(2, item);
    }
    let mut value = Message::default();
    value.message(1, answer);
    value
}

fn schema(map: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.text(1, map.get("$ref"));
    out.text(2, map.get("format"));
    out.text(3, map.get("title"));
    out.text(4, map.get("description"));
    if let Some(default) = map.get("default") {
        out.any(5, default);
    }
    out.number(6, map.get("multipleOf"));
    out.number(7, map.get("maximum"));
    out.flag(8, map.get("exclusiveMaximum"));
    out.number(9, map.get("minimum"));
    out.flag(10, map.get("exclusiveMinimum"));
    out.count(11, map.get("maxLength"));
    out.count(12, map.get("minLength"));
    out.text(13, map.get("pattern"));
    out.count(14, map.get("maxItems"));
    out.count(15, map.get("minItems"));
    out.flag(16, map.get("uniqueItems"));
    out.count(17, map.get("maxProperties"));
    out.count(18, map.get("minProperties"));
    out.texts(19, map.get("required"));
    for value in map
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.any(20, value);
    }
    match map.get("additionalProperties") {
        Some(Value::Object(inner)) => {
            let mut item = Message::default();
            item.message(1, schema(inner));
            out.message(21, item);
        }
        Some(Value::Bool(true)) => {
            let mut item = Message::default();
            item.flag(2, Some(&Value::Bool(true)));
            out.message(21, item);
        }
        _ => {}
    }
    if map.contains_key("type") {
        let mut kind = Message::default();
        kind.text(1, map.get("type"));
        out.message(22, kind);
    }
    if let Some(Value::Object(inner)) = map.get("items") {
        let mut item = Message::default();
        item.message(1, schema(inner));
        out.message(23, item);
    }
    if let Some(Value::Object(properties)) = map.get("properties") {
        let mut inner = Message::default();
        for (name, property) in properties {
            inner.named(1, name, schema(property.as_object().unwrap_or(empty())));
        }
        out.message(25, inner);
    }
    out.extensions(31, map);
    out
}
