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

impl<'a> Slot<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, atomic: None }
    }

    /// How `value` is divided.
    pub(crate) fn parts(&self, value: &Value) -> Parts<'a> {
        match (&self.node.shape, value) {
            (Shape::Object(object), Value::Object(_)) => {
                if self.atomic.unwrap_or(object.atomic) {
                    Parts::Leaf
                } else {
                    Parts::Map(Some(object))
                }
            }
            (Shape::List(list), Value::Array(_)) => match list.kind {
                ListKind::Atomic => Parts::Leaf,
                ListKind::Set | ListKind::Map(_) => Parts::List(list),
            },
            // Opaque built-in types are atomic; of open custom ones, objects are divided.
            (_, Value::Object(_)) if !self.node.typed => Parts::Map(None),
            _ => Parts::Leaf,
        }
    }

    /// Whether the existence of a map is owned by itself, apart from what is in it. Structs of
    /// built-in types come and go with their fields.
    pub(crate) fn owns_itself(&self) -> bool {
        !(self.node.typed && self.node.object().is_some_and(|o| !o.fields.is_empty()))
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

/// The name of a list's item among its siblings.
///
/// # Errors
/// The item lacks a key that has no default, or has a value that cannot be one.
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
        let Some(value) = map.get(&**key).or_else(default) else {
            return Err(format!(
                "associative list with keys has an element that omits key field {key:?} \
                 (and doesn't have default value)"
            ));
        };
        fields.push((key.clone(), value.clone()));
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
                let inner = child(object, key);
                let children = to_set(value, inner).map_err(|e| format!(".{key}{e}"))?;
                let empty = matches!(value, Value::Object(map) if map.is_empty());
                let leaf = matches!(inner.parts(value), Parts::Leaf);
                let entry = object.is_none_or(|o| o.field(key).is_none());
                set.attach(Element::field(key), leaf || empty || entry, children);
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

/// As [`to_set`] for objects that are stored already: items without a name are passed over, and
/// items with the same name count once.
pub(crate) fn to_set_lenient(value: &Value, slot: Slot<'_>) -> Set {
    let mut set = Set::default();
    match slot.parts(value) {
        Parts::Leaf => {}
        Parts::Map(object) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let inner = child(object, key);
                let children = to_set_lenient(value, inner);
                let empty = matches!(value, Value::Object(map) if map.is_empty());
                let leaf = matches!(inner.parts(value), Parts::Leaf);
                let entry = object.is_none_or(|o| o.field(key).is_none());
                set.attach(Element::field(key), leaf || empty || entry, children);
            }
        }
        Parts::List(list) => {
            for item in value.as_array().into_iter().flatten() {
                if let Ok(name) = element(list, item) {
                    set.attach(name, true, to_set_lenient(item, items(list)));
                }
            }
        }
    }
    set
}

/// Adds the named fields on the way to every path of the set.
pub(crate) fn with_named_fields(set: &Set, slot: Slot<'_>) -> Set {
    let mut out = Set::default();
    for (element, member, children) in set.iter() {
        let (named, inner) = match element {
            Element::Field(key) => {
                let object = slot.node.object();
                let named = object.is_some_and(|o| o.field(key).is_some());
                (named, child(object, key))
            }
            _ => (
                false,
                slot.node.list().map_or(Slot::root(Node::any()), items),
            ),
        };
        out.attach(
            element.clone(),
            member || named,
            with_named_fields(children, inner),
        );
    }
    out
}
