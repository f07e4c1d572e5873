//! Compiles the `openAPIV3Schema` of a CustomResourceDefinition's version.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::builtin;
use super::field::{FieldError, Path};
use super::node::{
    Field, FieldDefault, Hooks, ListKind, ListNode, Node, NodeRef, ObjectNode, Shape, Text,
};
use super::rules::{Bound, Declared, Logic, Pattern, Rules};
use super::{cel, decode, structural, validate};

/// Compiles a schema that must be structural.
pub(crate) fn compile(schema: &Value, at: &Path<'_>) -> Result<NodeRef, Vec<FieldError>> {
    let errors = structural::check(schema, at);
    if !errors.is_empty() {
        return Err(errors);
    }
    let empty = Map::new();
    let root = schema.as_object().unwrap_or(&empty);
    let mut errors = Vec::new();
    check_defaults(root, at, &mut errors);
    if errors.is_empty() {
        Ok(NodeRef::from(node(root, Resource::Yes)))
    } else {
        Err(errors)
    }
}

/// Checks that every default is what its own schema allows.
fn check_defaults(schema: &Map<String, Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        let at = at.field("default");
        let own = node(schema, Resource::No);
        let report = RefCell::default();
        let pruned = decode::decode(&own, default, &report).ok().flatten();
        if pruned.as_ref() != Some(default) {
            let detail = "must not have unknown fields";
            out.push(FieldError::invalid(at, default.clone(), detail));
        }
        for error in validate::validate(&own, default, None) {
            let path = match error.path.as_str() {
                "" => at.to_string(),
                inner => format!("{at}.{inner}"),
            };
            out.push(FieldError { path, ..error });
        }
    }
    let at_properties = at.field("properties");
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(property) = property.as_object() {
            check_defaults(property, &at_properties.key(name), out);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).and_then(Value::as_object) {
            check_defaults(inner, &at.field(key), out);
        }
    }
}

/// The node of a custom kind without a schema: everything is kept.
pub(crate) fn open() -> NodeRef {
    let object = ObjectNode {
        keep_unknown: true,
        ..resource_object(ObjectNode::default())
    };
    NodeRef::from(Node {
        shape: Shape::Object(object),
        ..Node::default()
    })
}

/// Whether a node is a whole resource, with apiVersion, kind and metadata of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Yes,
    No,
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn child(schema: &Value) -> NodeRef {
    match schema.as_object() {
        Some(schema) => NodeRef::from(node(schema, Resource::No)),
        None => NodeRef::from(Node::default()),
    }
}

fn node(schema: &Map<String, Value>, resource: Resource) -> Node {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let resource = if embedded { Resource::Yes } else { resource };
    let rules = rules(schema, resource);
    Node {
        shape: shape(schema, resource, embedded),
        typed: false,
        nullable: flag(schema, "nullable"),
        default: schema.get("default").filter(|d| !d.is_null()).cloned(),
        rules: Some(Box::new(rules)),
    }
}

fn declared(schema: &Map<String, Value>) -> Option<Declared> {
    if flag(schema, "x-kubernetes-int-or-string") {
        return Some(Declared::IntOrString);
    }
    Some(match text(schema, "type") {
        "object" => Declared::Object,
        "array" => Declared::Array,
        "string" => Declared::String,
        "integer" => Declared::Integer,
        "number" => Declared::Number,
        "boolean" => Declared::Boolean,
        _ => return None,
    })
}

fn shape(schema: &Map<String, Value>, resource: Resource, embedded: bool) -> Shape {
    match declared(schema) {
        Some(Declared::Array) => Shape::List(list(schema)),
        Some(Declared::String) => Shape::String(Text::Plain),
        Some(Declared::Integer) => Shape::Integer { bits: 64 },
        Some(Declared::Number) => Shape::Number,
        Some(Declared::Boolean) => Shape::Boolean,
        Some(Declared::IntOrString) => Shape::IntOrString,
        None if !schema.contains_key("properties") => Shape::Any,
        Some(Declared::Object) | None => {
            let object = object(schema, embedded);
            Shape::Object(match resource {
                Resource::Yes => resource_object(object),
                Resource::No => object,
            })
        }
    }
}

fn list(schema: &Map<String, Value>) -> ListNode {
    let keys = || {
        let keys = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array);
        keys.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Box::from)
            .collect()
    };
    ListNode {
        items: schema
            .get("items")
            .map_or_else(|| Node::default().into(), child),
        kind: match text(schema, "x-kubernetes-list-type") {
            "set" => ListKind::Set,
            "map" => ListKind::Map(keys()),
            _ => ListKind::Atomic,
        },
    }
}

fn object(schema: &Map<String, Value>, embedded: bool) -> ObjectNode {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut fields: Vec<Field> = properties
        .into_iter()
        .flatten()
        .map(|(name, s)| field(name, child(s)))
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    ObjectNode {
        fields,
        values: match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Node::default().into()),
            Some(Value::Object(values)) => Some(NodeRef::from(node(values, Resource::No))),
            _ => None,
        },
        keep_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
        atomic: text(schema, "x-kubernetes-map-type") == "atomic",
        embedded,
        hooks: Hooks::default(),
    }
}

fn field(name: &str, node: NodeRef) -> Field {
    let default = node.default.clone().map(|value| FieldDefault {
        value,
        zero_too: false,
    });
    Field {
        default,
        ..Field::plain(name, node)
    }
}

/// Gives a resource its implicit fields: typed texts for apiVersion and kind, and metadata.
fn resource_object(mut object: ObjectNode) -> ObjectNode {
    object
        .fields
        .retain(|f| !matches!(&*f.name, "apiVersion" | "kind" | "metadata"));
    let plain = || Node {
        shape: Shape::String(Text::Plain),
        typed: true,
        ..Node::default()
    };
    object.fields.push(field("apiVersion", plain().into()));
    object.fields.push(field("kind", plain().into()));
    object
        .fields
        .push(field("metadata", builtin::object_meta()));
    object.fields.sort_by(|a, b| a.name.cmp(&b.name));
    object
}

fn rules(schema: &Map<String, Value>, resource: Resource) -> Rules {
    let mut rules = constraints(schema);
    rules.declared = declared(schema);
    // The user's constraints on a resource's implicit fields come beside the built-in types.
    if resource == Resource::Yes
        && let Some(properties) = schema.get("properties").and_then(Value::as_object)
    {
        let implicit = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
        let fields: Vec<(Box<str>, Logic)> = properties
            .iter()
            .filter(|(name, _)| implicit(name))
            .filter_map(|(name, s)| Some((name.as_str().into(), logic(s.as_object()?))))
            .collect();
        if !fields.is_empty() {
            rules.beside.push(Logic {
                fields,
                ..Logic::default()
            });
        }
    }
    rules
}

fn constraints(schema: &Map<String, Value>) -> Rules {
    let size = |key: &str| {
        let number = schema.get(key).and_then(Value::as_u64);
        number.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    let bound = |key: &str, exclusive: &str| match schema.get(key) {
        Some(Value::Number(number)) => Some(Bound {
            number: number.clone(),
            exclusive: flag(schema, exclusive),
        }),
        _ => None,
    };
    let branches = |key: &str| {
        let branches = schema
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        branches.filter_map(Value::as_object).map(logic).collect()
    };
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    Rules {
        allowed: schema
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        pattern: schema
            .get("pattern")
            .and_then(Value::as_str)
            .and_then(|p| Pattern::new(p).ok()),
        format: schema.get("format").and_then(Value::as_str).map(Box::from),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: schema
            .get("multipleOf")
            .and_then(Value::as_f64)
            .filter(|m| *m > 0.0),
        min_length: size("minLength"),
        max_length: size("maxLength"),
        min_items: size("minItems"),
        max_items: size("maxItems"),
        unique_items: flag(schema, "uniqueItems"),
        min_properties: size("minProperties"),
        max_properties: size("maxProperties"),
        required: required.filter_map(Value::as_str).map(Box::from).collect(),
        all_of: branches("allOf"),
        any_of: branches("anyOf"),
        one_of: branches("oneOf"),
        not: schema
            .get("not")
            .and_then(Value::as_object)
            .map(|s| Box::new(logic(s))),
        expressions: cel::rules(schema),
        ..Rules::default()
    }
}

fn logic(schema: &Map<String, Value>) -> Logic {
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let inner = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_object)
            .map(|s| Box::new(logic(s)))
    };
    Logic {
        rules: Rules {
            declared: declared(schema),
            ..constraints(schema)
        },
        fields: properties
            .filter_map(|(name, s)| Some((name.as_str().into(), logic(s.as_object()?))))
            .collect(),
        items: inner("items"),
        values: inner("additionalProperties"),
    }
}
