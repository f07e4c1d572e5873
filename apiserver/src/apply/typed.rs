//! Values beside their types: which parts of a value are owned one by one, and by what names.

use serde_json::Value;

use super::path::Element;
use super::set::Set;
use crate::schema::Node;
use crate::schema::node::{ListKind, ListNode, ObjectNode, Shape};

/// The type of a value at its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) node: &'a Node,
    /// What the field says about atomicity, over the type.
    atomic: Option<bool>,
}

/// How a value is divided into what is owned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parts<'a> {
    /// Not at all.
    Leaf,
    /// By fields or keys. `None`: of a type that says nothing.
    Map(Option<&'a ObjectNode>),
    /// By items with keys or by items as values.
    List(&'a ListNode),
}

impl Parts<'_> {
    /// Whether both are of one form.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl<'a> Slot<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, atomic: None }
    }

    /// How `value` is divided. A null is an empty map or list where the type is one.
    pub(crate) fn parts(&self, value: &Value) -> Parts<'a> {
        match (&self.node.shape, value) {
            _ if self.is_atomic() => Parts::Leaf,
            (Shape::Object(object), Value::Object(_) | Value::Null) => Parts::Map(Some(object)),
            (Shape::List(list), Value::Array(_) | Value::Null) => Parts::List(list),
            // Opaque built-in types are atomic; of open custom ones, objects are divided.
            (Shape::Any, Value::Null) | (_, Value::Object(_)) if !self.node.typed => {
                Parts::Map(None)
            }
            _ => Parts::Leaf,
        }
    }

    /// Whether a map or list of this type is owned as a whole.
    pub(crate) fn is_atomic(&self) -> bool {
        match &self.node.shape {
            Shape::Object(object) => self.atomic.unwrap_or(object.atomic),
            Shape::List(list) => list.kind == ListKind::Atomic,
            _ => false,
        }
    }

    /// The type of what lies under an element.
    pub(crate) fn under(&self, element: &Element) -> Slot<'a> {
        match element {
            Element::Field(key) => child(self.node.object(), key),
            _ => self.node.list().map_or(Slot::root(Node::any()), items),
        }
    }
}

/// The type of the value under `key`.
pub(crate) fn child<'a>(object: Option<&'a ObjectNode>, key: &str) -> Slot<'a> {
    match object {
        None => Slot::root(Node::any()),
        Some(object) => match object.field(key) {
            Some(field) => Slot {
                node: &field.node,
                atomic: field.atomic,
            },
            None => Slot::root(object.values.as_deref().unwrap_or(Node::any())),
        },
    }
}

/// The type of a list's items.
pub(crate) fn items(list: &ListNode) -> Slot<'_> {
    Slot::root(&list.items)
}

/// The name of a list's item among its siblings. An item without one of the keys is another than those with it.
///
/// # Errors
/// The item has none of the keys, nor has one of them a default, or it is nothing that has keys.
pub(crate) fn element(list: &ListNode, item: &Value) -> Result<Element, String> {
    let ListKind::Map(keys) = &list.kind else {
        return Ok(Element::Value(item.clone()));
    };
    let Some(map) = item.as_object() else {
        return Err("associative list with keys may not have non-map elements".to_owned());
    };
    let object = list.items.object();
    let mut fields = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || Some(&object?.field(key)?.default.as_ref()?.value);
        if let Some(value) = map.get(&**key).or_else(default) {
            fields.push((key.clone(), value.clone()));
        }
    }
    if fields.is_empty() {
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields {keys:?} \
             (and doesn't have default values for any key fields)"
        ));
    }
    Ok(Element::key(fields))
}

/// All that is owned by whoever says `value`.
///
/// # Errors
/// An item of a list has no name, or two have the same; with its path.
pub(crate) fn to_set(value: &Value, slot: Slot<'_>) -> Result<Set, String> {
    let mut set = Set::default();
    match slot.parts(value) {
        Parts::Leaf => {}
        Parts::Map(object) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let children =
                    to_set(value, child(object, key)).map_err(|e| format!(".{key}{e}"))?;
                field(&mut set, object, key, value, children);
            }
        }
        Parts::List(list) => {
            for item in value.as_array().into_iter().flatten() {
                let name = element(list, item).map_err(|e| format!(": {e}"))?;
                if set.get(&name).is_some() {
                    return Err(format!(": duplicate entries for key {name}"));
                }
                let children = to_set(item, items(list)).map_err(|e| format!("{name}{e}"))?;
                set.attach(name, true, children);
            }
        }
    }
    Ok(set)
}

/// Adds a field to the set. It counts itself when it is a leaf, holds nothing, or is a key of a map.
fn field(set: &mut Set, object: Option<&ObjectNode>, key: &str, value: &Value, children: Set) {
    let empty = match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let leaf = matches!(child(object, key).parts(value), Parts::Leaf);
    let entry = object.is_none_or(|o| o.field(key).is_none());
    set.attach(Element::field(key), leaf || empty || entry, children);
}

/// As [`to_set`] for objects that are stored already: items without a name are passed over, and
/// those with the same name count as one value.
pub(crate) fn to_set_lenient(value: &Value, slot: Slot<'_>) -> Set {
    let mut set = Set::default();
    match slot.parts(value) {
        Parts::Leaf => {}
        Parts::Map(object) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let children = to_set_lenient(value, child(object, key));
                field(&mut set, object, key, value, children);
            }
        }
        Parts::List(list) => {
            let mut twice = Vec::new();
            for item in value.as_array().into_iter().flatten() {
                let Ok(name) = element(list, item) else {
                    continue;
                };
                if set.get(&name).is_some() {
                    twice.push(name);
                } else {
                    set.attach(name, true, to_set_lenient(item, items(list)));
                }
            }
            for name in twice {
                set.make_whole(name);
            }
        }
    }
    set
}

/// Adds the named fields on the way to every path of the set.
pub(crate) fn with_named_fields(set: &Set, slot: Slot<'_>) -> Set {
    let mut out = Set::default();
    for (element, member, children) in set.iter() {
        let named = match element {
            Element::Field(key) => slot
                .node
                .object()
                .is_some_and(|object| object.field(key).is_some()),
            _ => false,
        };
        let children = with_named_fields(children, slot.under(element));
        out.attach(element.clone(), member || named, children);
    }
    out
}
