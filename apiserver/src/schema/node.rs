//! Compiled schema nodes: what every walk over an object (decode, prune, patch, apply) looks at.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::checks::Check;
use super::field::{FieldError, Path};
use super::rules::Rules;

/// One type. Built-in definitions are compiled once and shared between kinds.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// Built-in types refuse wrong types while decoding and drop nulls; custom types keep both for
    /// validation.
    pub(crate) typed: bool,
    /// Custom types: null is a value.
    pub(crate) nullable: bool,
    /// Custom types: what stands for a null that is not allowed, in lists and maps.
    pub(crate) default: Option<Value>,
    /// Value constraints of custom types.
    pub(crate) rules: Option<Box<Rules>>,
}

/// The structure of a type.
#[derive(Debug, Default)]
pub(crate) enum Shape {
    /// Anything, kept as it is.
    #[default]
    Any,
    Object(ObjectNode),
    List(ListNode),
    String(Text),
    /// `bits` is 32 or 64.
    Integer {
        bits: u8,
    },
    Number,
    Boolean,
    IntOrString,
    Quantity,
}

/// What a string of a built-in type must parse as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Plain,
    DateTime,
    Base64,
}

/// A struct, a map, or both (custom types may have properties and additional ones).
#[derive(Debug, Default)]
pub(crate) struct ObjectNode {
    /// Sorted by name.
    pub(crate) fields: Vec<Field>,
    /// The type of values whose keys are not in `fields`.
    pub(crate) values: Option<NodeRef>,
    /// Unknown keys stay (`x-kubernetes-preserve-unknown-fields`).
    pub(crate) keep_unknown: bool,
    /// Owned and replaced as a whole by server-side apply.
    pub(crate) atomic: bool,
    /// `x-kubernetes-embedded-resource`
    pub(crate) embedded: bool,
    /// Code of a built-in type that defaults need or that checks need beyond the tables.
    pub(crate) hooks: Hooks,
}

/// What a built-in type does in code when it is met anywhere in an object.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hooks {
    /// Runs after the type's own defaults and before those of its fields.
    pub(crate) default: Option<fn(&mut Map<String, Value>)>,
    /// Runs after the checks of the table.
    pub(crate) check: Option<fn(&Value, &Path<'_>, &mut Vec<FieldError>)>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (default, check) = (self.default.is_some(), self.check.is_some());
        f.debug_struct("Hooks")
            .field("default", &default)
            .field("check", &check)
            .finish()
    }
}

impl ObjectNode {
    /// The field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok()?;
        self.fields.get(at)
    }
}

/// A named field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) node: NodeRef,
    /// How strategic merge patches treat it.
    pub(crate) patch: PatchRule,
    /// Overrides the atomicity of the type.
    pub(crate) atomic: Option<bool>,
    pub(crate) default: Option<FieldDefault>,
    /// Built-in types: whether there is such a thing as a field that is left out.
    pub(crate) zero: Zero,
    /// What built-in types demand of the field.
    pub(crate) checks: &'static [Check],
}

impl Field {
    /// A field that nothing is said about.
    pub(crate) fn plain(name: &str, node: NodeRef) -> Self {
        let patch = PatchRule::default();
        Self {
            name: name.into(),
            node,
            patch,
            atomic: None,
            default: None,
            zero: Zero::default(),
            checks: &[],
        }
    }
}

/// What becomes of a field that nobody set, or that somebody set to false, 0, "" or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Zero {
    /// As it was sent: the two are told apart.
    #[default]
    AsSent,
    /// It is left out.
    Omitted,
    /// It is there, as an empty object.
    Shown,
    /// As it was sent, but of protobuf, which has no empty lists, an empty list.
    Listed,
}

/// The value of a field that was left out.
#[derive(Clone, Debug)]
pub(crate) struct FieldDefault {
    pub(crate) value: Value,
    /// The zero value counts as left out (fields that are no pointers in Kubernetes' types).
    pub(crate) zero_too: bool,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PatchRule {
    /// Lists are merged rather than replaced.
    pub(crate) merge: bool,
    /// Objects are replaced rather than merged.
    pub(crate) replace: bool,
    /// `$retainKeys` is expected.
    pub(crate) retain_keys: bool,
    /// The key that identifies an item of a merged list of objects.
    pub(crate) key: Option<Box<str>>,
}

#[derive(Debug)]
pub(crate) struct ListNode {
    pub(crate) items: NodeRef,
    pub(crate) kind: ListKind,
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    /// With the names of the key fields, in the order the schema gives them.
    Map(Vec<Box<str>>),
}

/// A node of one's own, or a built-in definition that may be recursive.
#[derive(Clone, Debug)]
pub(crate) enum NodeRef {
    Own(Arc<Node>),
    Shared(Arc<Definition>),
}

/// A named built-in type; filled once while its first user is compiled.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    pub(crate) node: OnceLock<Node>,
}

static ANY: Node = Node {
    shape: Shape::Any,
    typed: false,
    nullable: true,
    default: None,
    rules: None,
};

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Own(node) => node,
            Self::Shared(definition) => definition.node.get().unwrap_or(&ANY),
        }
    }
}

impl From<Node> for NodeRef {
    fn from(node: Node) -> Self {
        Self::Own(Arc::new(node))
    }
}

impl Node {
    /// The node that knows nothing and keeps everything.
    pub(crate) fn any() -> &'static Node {
        &ANY
    }

    pub(crate) fn object(&self) -> Option<&ObjectNode> {
        match &self.shape {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&ListNode> {
        match &self.shape {
            Shape::List(list) => Some(list),
            _ => None,
        }
    }

    /// The name of the type for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.shape {
            Shape::Any => "object",
            Shape::Object(object) if object.fields.is_empty() && object.values.is_some() => "map",
            Shape::Object(_) => "object",
            Shape::List(_) => "array",
            Shape::String(_) => "string",
            Shape::Integer { bits: 32 } => "int32",
            Shape::Integer { .. } => "int64",
            Shape::Number => "float64",
            Shape::Boolean => "bool",
            Shape::IntOrString => "int32 or string",
            Shape::Quantity => "quantity",
        }
    }

    /// What a null stands for where it cannot be left out: inside lists and maps of built-in types.
    pub(crate) fn zero(&self) -> Value {
        match &self.shape {
            Shape::Any => Value::Null,
            Shape::Object(_) => Value::Object(Map::new()),
            Shape::List(_) => Value::Array(Vec::new()),
            Shape::String(_) => Value::String(String::new()),
            Shape::Integer { .. } | Shape::Number | Shape::IntOrString => Value::from(0),
            Shape::Boolean => Value::Bool(false),
            Shape::Quantity => Value::String("0".to_owned()),
        }
    }
}
