//! Parses a body straight into a value while walking the schema: unknown and duplicate fields and
//! wrong types are found on the way, and nothing is parsed twice.

mod duplicates;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::field::Path;
use super::node::{ListNode, Node, ObjectNode, Shape, Text};
use super::quantity;

/// More complaints than this are of no use to anybody.
const MAX_COMPLAINTS: usize = 100;

/// How a complaint about a field that occurs twice begins.
const DUPLICATE: &str = "duplicate field";

/// What was found while parsing.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `unknown field "spec.foo"`, `duplicate field "spec.bar"`
    pub(crate) strict: Vec<String>,
    /// The first value of a wrong type.
    pub(crate) wrong_type: Option<String>,
}

/// JSON nested deeper than 128 levels is refused by the parser.
pub(crate) fn json(
    node: &Node,
    body: &[u8],
    report: &RefCell<Report>,
) -> Result<Option<Value>, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = decode(node, &mut deserializer, report).map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    Ok(value)
}

/// YAML with limits on depth, nodes and aliases. Bodies that are JSON, as most clients send under
/// any name, are read as such.
pub(crate) fn yaml(
    node: &Node,
    body: &[u8],
    report: &RefCell<Report>,
) -> Result<Option<Value>, String> {
    if body.trim_ascii_start().first() == Some(&b'{') {
        let parsed = json(node, body, report);
        if parsed.is_ok() || report.borrow().wrong_type.is_some() {
            name_lines(body, report);
            return parsed;
        }
        report.take();
    }
    let parsed = yaml_events(node, body, report);
    name_lines(body, report);
    parsed
}

/// Says of keys that occur twice on which lines they do, as people look for them in a text they wrote.
fn name_lines(body: &[u8], report: &RefCell<Report>) {
    let strict = &mut report.borrow_mut().strict;
    if !strict.iter().any(|c| c.starts_with(DUPLICATE)) {
        return;
    }
    let lines = duplicates::lines(body);
    if !lines.is_empty() {
        strict.retain(|complaint| !complaint.starts_with(DUPLICATE));
        strict.insert(
            0,
            format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")),
        );
    }
}

fn yaml_events(
    node: &Node,
    body: &[u8],
    report: &RefCell<Report>,
) -> Result<Option<Value>, String> {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = 128;
    budget.max_documents = 1;
    budget.max_aliases = 1_000;
    budget.max_anchors = 1_000;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = 50_000;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::Reject;
    serde_saphyr::with_deserializer_from_slice_with_options(body, options, |deserializer| {
        decode(node, deserializer, report)
    })
    .map_err(|e| e.to_string())
}

/// Parses with `deserializer` what `node` describes. `None`: the value was a null that stands for
/// nothing.
pub(crate) fn decode<'de, D: Deserializer<'de>>(
    node: &Node,
    deserializer: D,
    report: &RefCell<Report>,
) -> Result<Option<Value>, D::Error> {
    Seed {
        node,
        path: Path::ROOT,
        report,
    }
    .deserialize(deserializer)
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    node: &'a Node,
    path: Path<'a>,
    report: &'a RefCell<Report>,
}

impl Seed<'_> {
    fn wrong<E: de::Error>(&self, found: &str) -> E {
        let expected = self.node.type_name();
        let at = self.path;
        self.fail(format!(
            "json: cannot unmarshal {found} into field {at} of type {expected}"
        ))
    }

    fn fail<E: de::Error>(&self, detail: String) -> E {
        let error = E::custom(&detail);
        self.report.borrow_mut().wrong_type.get_or_insert(detail);
        error
    }

    fn number<E: de::Error>(self, number: serde_json::Number) -> Result<Option<Value>, E> {
        if !self.node.typed {
            return Ok(Some(Value::Number(number)));
        }
        let fits = match self.node.shape {
            Shape::Any | Shape::Number => true,
            Shape::Integer { bits: 64 } => number.is_i64(),
            Shape::Integer { .. } | Shape::IntOrString => {
                number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
            }
            Shape::Quantity => return self.quantity(&number.to_string()),
            _ => return Err(self.wrong("number")),
        };
        if fits {
            Ok(Some(Value::Number(number)))
        } else {
            Err(self.wrong(&format!("number {number}")))
        }
    }

    fn quantity<E: de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        match quantity::canonical(text) {
            Some(canonical) => Ok(Some(Value::String(canonical.into_owned()))),
            None => Err(self.fail(format!("{}: {}", self.path, quantity::FORMAT))),
        }
    }

    fn text<E: de::Error>(self, text: Cow<'_, str>) -> Result<Option<Value>, E> {
        if !self.node.typed {
            return Ok(Some(Value::String(text.into_owned())));
        }
        match self.node.shape {
            Shape::Any | Shape::IntOrString | Shape::String(Text::Plain) => {}
            Shape::String(Text::DateTime) => {
                if text.parse::<jiff::Timestamp>().is_err() {
                    let detail = format!("{}: parsing time {text:?}: not RFC 3339", self.path);
                    return Err(self.fail(detail));
                }
            }
            Shape::String(Text::Base64) => {
                if let Some(at) = super::formats::base64_fault(&text) {
                    let path = self.path;
                    return Err(
                        self.fail(format!("{path}: illegal base64 data at input byte {at}"))
                    );
                }
            }
            Shape::Quantity => return self.quantity(&text),
            _ => return Err(self.wrong("string")),
        }
        Ok(Some(Value::String(text.into_owned())))
    }

    fn complain(&self, what: &str, path: Path<'_>) {
        let mut report = self.report.borrow_mut();
        let complaint = format!("{what} field \"{path}\"");
        if report.strict.len() < MAX_COMPLAINTS && !report.strict.contains(&complaint) {
            report.strict.push(complaint);
        }
    }

    fn entries<'de, A: MapAccess<'de>>(
        self,
        object: Option<&ObjectNode>,
        mut access: A,
    ) -> Result<Option<Value>, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Key)? {
            let key: String = key;
            let path = self.path.field(&key);
            let field = object.and_then(|o| o.field(&key));
            let (node, keeps_null) = match (object, field) {
                (_, Some(field)) => (&*field.node, false),
                (None, None) => (Node::any(), false),
                (Some(object), None) => match &object.values {
                    Some(values) => (&**values, true),
                    None if object.keep_unknown => (Node::any(), false),
                    None => {
                        self.complain("unknown", path);
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    }
                },
            };
            let value = access.next_value_seed(Seed {
                node,
                path,
                report: self.report,
            })?;
            let Some(value) = value.or_else(|| keeps_null.then(|| node.zero())) else {
                continue;
            };
            if field.is_some() && self.node.typed && is_nothing(&key, &value) {
                continue;
            }
            match map.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => {
                    self.complain("duplicate", self.path.field(entry.key()));
                    entry.insert(value);
                }
            }
        }
        Ok(Some(Value::Object(map)))
    }

    fn items<'de, A: SeqAccess<'de>>(
        self,
        list: Option<&ListNode>,
        mut access: A,
    ) -> Result<Option<Value>, A::Error> {
        let node = list.map_or(Node::any(), |l| &*l.items);
        let mut items = Vec::with_capacity(access.size_hint().unwrap_or(0).min(64));
        loop {
            let path = self.path.index(items.len());
            match access.next_element_seed(Seed {
                node,
                path,
                report: self.report,
            })? {
                Some(Some(item)) => items.push(item),
                Some(None) => items.push(node.zero()),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.node.type_name())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        if self.node.typed && !matches!(self.node.shape, Shape::Boolean | Shape::Any) {
            return Err(self.wrong("bool"));
        }
        Ok(Some(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        self.number(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.number(number),
            None => Err(self.wrong("number that is not finite")),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        self.text(Cow::Borrowed(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Self::Value, E> {
        self.text(Cow::Owned(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(if self.node.typed {
            None
        } else {
            Some(Value::Null)
        })
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        match &self.node.shape {
            Shape::List(list) => self.items(Some(list), access),
            Shape::Any => self.items(None, access),
            _ if self.node.typed => Err(self.wrong("array")),
            _ => self.items(None, access),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        match &self.node.shape {
            Shape::Object(object) => self.entries(Some(object), access),
            Shape::Any => self.entries(None, access),
            _ if self.node.typed => Err(self.wrong("object")),
            _ => self.entries(None, access),
        }
    }
}

/// Whether Kubernetes keeps no such value: metadata that is empty is as good as none.
pub(super) fn is_nothing(key: &str, value: &Value) -> bool {
    match key {
        "annotations" | "labels" => value.as_object().is_some_and(Map::is_empty),
        "finalizers" | "ownerReferences" => value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}

/// Map keys; YAML has keys that are not strings, which count by their text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_string(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}
