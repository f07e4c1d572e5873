//! Compiles the schemas of built-in kinds out of the bindings' own descriptions, each definition
//! once, at the first use of a kind that needs it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::kinds::referred;
use super::lists;
use super::node::{
    Definition, Field, ListKind, ListNode, Node, NodeRef, ObjectNode, PatchRule, Shape, Text, Zero,
};
use super::{Schema, kinds, tables};

type Definitions = HashMap<String, Arc<Definition>>;

/// Schemas and definitions compiled so far. A definition is only reachable by others once its
/// whole batch is filled, since both maps are changed under this one lock.
#[derive(Default)]
struct Compiled {
    definitions: Definitions,
    schemas: HashMap<(&'static str, &'static str, &'static str), Arc<Schema>>,
}

static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);

/// The schema of a built-in kind.
pub(crate) fn schema(group: &str, version: &str, kind: &str) -> Option<Arc<Schema>> {
    let entry = kinds::find(group, version, kind)?;
    let key = (entry.group, entry.version, entry.kind);
    let mut compiled = COMPILED.lock();
    if let Some(schema) = compiled.schemas.get(&key) {
        return Some(schema.clone());
    }
    let sources = kinds::definitions(&[entry], |name| compiled.definitions.contains_key(name));
    fill(&mut compiled.definitions, &sources);
    let root = compiled.definitions.get(entry.definition)?.clone();
    let schema = Arc::new(Schema::new(
        entry.kind,
        group,
        version,
        NodeRef::Shared(root),
    ));
    compiled.schemas.insert(key, schema.clone());
    Some(schema)
}

/// The type of `metadata` in every kind.
pub(crate) fn object_meta() -> NodeRef {
    static NODE: LazyLock<NodeRef> = LazyLock::new(|| {
        let pod = schema("", "v1", "ConfigMap");
        let metadata = pod
            .as_ref()
            .and_then(|s| s.root().object()?.field("metadata"));
        metadata.map_or_else(|| NodeRef::from(Node::default()), |f| f.node.clone())
    });
    NODE.clone()
}

fn fill(definitions: &mut Definitions, sources: &Map<String, Value>) {
    for name in sources.keys() {
        if !definitions.contains_key(name) {
            definitions.insert(name.clone(), Arc::default());
        }
    }
    for (name, source) in sources {
        if let Some(definition) = definitions.get(name) {
            definition
                .node
                .get_or_init(|| compile_definition(definitions, name, source));
        }
    }
}

fn compile_definition(definitions: &Definitions, name: &str, source: &Value) -> Node {
    let shape = match name.rsplit('.').next() {
        Some("Quantity") => Shape::Quantity,
        Some("IntOrString") => Shape::IntOrString,
        Some(
            "RawExtension"
            | "FieldsV1"
            | "JSON"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrStringArray",
        ) => Shape::Any,
        _ => return compile(definitions, Some(name), source),
    };
    Node {
        shape,
        typed: true,
        ..Node::default()
    }
}

fn compile(definitions: &Definitions, name: Option<&str>, source: &Value) -> Node {
    let shape = match source.get("type").and_then(Value::as_str) {
        Some("object") => object(definitions, name, source),
        Some("array") => {
            let items = source.get("items").unwrap_or(&Value::Null);
            let items = child(definitions, items);
            Shape::List(ListNode {
                items,
                kind: ListKind::Atomic,
            })
        }
        Some("string") => Shape::String(match source.get("format").and_then(Value::as_str) {
            Some("date-time") => Text::DateTime,
            Some("byte") => Text::Base64,
            _ => Text::Plain,
        }),
        Some("integer") => {
            let short = source.get("format").and_then(Value::as_str) == Some("int32");
            Shape::Integer {
                bits: if short { 32 } else { 64 },
            }
        }
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        _ => Shape::Any,
    };
    Node {
        shape,
        typed: true,
        ..Node::default()
    }
}

fn child(definitions: &Definitions, source: &Value) -> NodeRef {
    if let Some(shared) = referred(source).and_then(|name| definitions.get(name)) {
        return NodeRef::Shared(shared.clone());
    }
    NodeRef::from(compile(definitions, None, source))
}

fn object(definitions: &Definitions, name: Option<&str>, source: &Value) -> Shape {
    let empty = Map::new();
    let properties = source
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let values = source.get("additionalProperties").filter(|v| v.is_object());
    // A type of its own without fields has none; only what is described in place is open.
    if properties.is_empty() && values.is_none() && name.is_none() {
        return Shape::Any;
    }
    let mut fields: Vec<Field> = properties
        .iter()
        .map(|(field, s)| named(definitions, name, field, s))
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Shape::Object(ObjectNode {
        fields,
        values: values.map(|v| child(definitions, v)),
        atomic: name
            .and_then(lists::of_type)
            .and_then(|n| n.atomic)
            .unwrap_or(false),
        hooks: name
            .map(|n| crate::strategy::hooks_of(lists::short(n)))
            .unwrap_or_default(),
        ..ObjectNode::default()
    })
}

fn named(definitions: &Definitions, owner: Option<&str>, field: &str, source: &Value) -> Field {
    let note = owner.and_then(|owner| lists::of_field(owner, field));
    let node = match referred(source).and_then(|name| definitions.get(name)) {
        Some(shared) => NodeRef::Shared(shared.clone()),
        None => {
            let mut node = compile(definitions, None, source);
            if let (Shape::List(list), Some(note)) = (&mut node.shape, note) {
                list.kind = note.list.clone();
            }
            NodeRef::from(node)
        }
    };
    Field {
        name: field.into(),
        node,
        patch: note.map_or_else(PatchRule::default, |n| n.patch.clone()),
        atomic: note.and_then(|n| n.atomic),
        default: owner.and_then(|owner| tables::default_of(owner, field)),
        zero: owner.map_or_else(Zero::default, |owner| tables::zero_of(owner, field)),
        checks: owner.map_or(&[], |owner| tables::checks_of(owner, field)),
    }
}
