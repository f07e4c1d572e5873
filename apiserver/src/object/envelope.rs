//! Reads labels, selectable fields and the place of the resourceVersion in one pass over the bytes.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use serde_json::value::RawValue;

use crate::resource::Field;

/// What lists and watches select by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of [`Paths::fields`].
    fields: Box<[Box<str>]>,
    /// Offset and length of the digits of `metadata.resourceVersion`.
    pub(crate) revision_digits: (u32, u8),
    /// Offset and length of `metadata.managedFields` with its name and the comma before it; nothing if it is not there.
    pub(crate) managed_fields: (u32, u32),
}

impl Meta {
    pub(crate) fn parse(bytes: &[u8], paths: &Paths) -> Result<Self, serde_json::Error> {
        let mut found = Found {
            base: bytes.as_ptr() as usize,
            labels: Vec::new(),
            fields: paths
                .fields
                .iter()
                .map(|field| Box::from(&*field.default))
                .collect(),
            revision_digits: (0, 0),
            managed_fields: (0, 0),
        };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        Walk {
            node: &paths.root,
            found: &mut found,
        }
        .deserialize(&mut reader)?;
        for (field, other) in &*paths.fallbacks {
            if found.fields[*field].is_empty() {
                found.fields[*field] = found.fields[*other].clone();
            }
        }
        Ok(Self {
            labels: found.labels.into(),
            fields: found.fields,
            revision_digits: found.revision_digits,
            managed_fields: after_comma(bytes, found.managed_fields),
        })
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(have, _)| &**have == key)
            .map(|(_, value)| &**value)
    }

    pub(crate) fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", |value| value)
    }
}

/// Which parts of an object are of interest, as a tree of keys.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) fields: Arc<[Field]>,
    /// Places of a field and of the one that is read where it is absent.
    fallbacks: Box<[(usize, usize)]>,
    root: Node,
}

#[derive(Debug)]
enum Node {
    Map(Vec<(Box<str>, Node)>),
    Field(usize),
    Labels,
    Revision,
    ManagedFields,
}

impl Paths {
    pub(crate) fn new(fields: Arc<[Field]>) -> Self {
        let mut root = Node::Map(Vec::new());
        root.insert("metadata.labels", Node::Labels);
        root.insert("metadata.resourceVersion", Node::Revision);
        root.insert("metadata.managedFields", Node::ManagedFields);
        for (index, field) in fields.iter().enumerate() {
            root.insert(&field.path, Node::Field(index));
        }
        let fallbacks = fields.iter().enumerate().filter_map(|(index, field)| {
            let other = field.or.as_deref()?;
            Some((
                index,
                fields.iter().position(|field| *field.path == *other)?,
            ))
        });
        Self {
            fallbacks: fallbacks.collect(),
            fields,
            root,
        }
    }
}

impl Node {
    fn insert(&mut self, path: &str, leaf: Self) {
        let Self::Map(children) = self else { return };
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let found = children.iter().position(|(key, _)| &**key == first);
        match (found, rest) {
            (Some(at), Some(rest)) => children[at].1.insert(rest, leaf),
            (None, Some(rest)) => {
                let mut child = Self::Map(Vec::new());
                child.insert(rest, leaf);
                children.push((first.into(), child));
            }
            (_, None) => children.push((first.into(), leaf)),
        }
    }
}

/// The place of a field of which only that of its value is known; nothing when no comma and name stand before it.
fn after_comma(bytes: &[u8], (at, length): (u32, u32)) -> (u32, u32) {
    const NAME: &[u8] = br#","managedFields":"#;
    let before = bytes.get(..at as usize).unwrap_or_default();
    match before.ends_with(NAME) {
        true => (at - NAME.len() as u32, length + NAME.len() as u32),
        false => (0, 0),
    }
}

struct Found {
    /// Address of the first byte, to turn borrowed text into offsets.
    base: usize,
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Box<[Box<str>]>,
    revision_digits: (u32, u8),
    /// Of the value alone.
    managed_fields: (u32, u32),
}

impl Found {
    /// Where a part of the bytes is, and its length.
    fn place(&self, part: &str) -> (u32, u32) {
        let at = (part.as_ptr() as usize).saturating_sub(self.base);
        match (u32::try_from(at), u32::try_from(part.len())) {
            (Ok(at), Ok(length)) => (at, length),
            _ => (0, 0),
        }
    }

    fn set(&mut self, field: usize, text: &str) {
        if let Some(slot) = self.fields.get_mut(field) {
            *slot = text.into();
        }
    }
}

struct Walk<'n, 'f> {
    node: &'n Node,
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Finds a child by key without copying the key.
struct Child<'n>(&'n [(Box<str>, Node)]);

impl<'de, 'n> DeserializeSeed<'de> for Child<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Child<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self
            .0
            .iter()
            .find(|(have, _)| &**have == key)
            .map(|(_, node)| node))
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.node {
            Node::Map(children) => {
                while let Some(child) = map.next_key_seed(Child(children))? {
                    match child {
                        Some(Node::ManagedFields) => {
                            let value = map.next_value::<&RawValue>()?.get();
                            self.found.managed_fields = self.found.place(value);
                        }
                        Some(node) => map.next_value_seed(Walk {
                            node,
                            found: self.found,
                        })?,
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
            }
            Node::Labels => {
                while let Some((key, value)) = map.next_entry::<Box<str>, Box<str>>()? {
                    self.found.labels.push((key, value));
                }
            }
            Node::Field(_) | Node::Revision | Node::ManagedFields => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        match self.node {
            Node::Field(index) => self.found.set(*index, text),
            Node::Revision => {
                let (at, length) = self.found.place(text);
                if let Ok(length) = u8::try_from(length) {
                    self.found.revision_digits = (at, length);
                }
            }
            Node::Map(_) | Node::Labels | Node::ManagedFields => {}
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if let Node::Field(index) = self.node {
            self.found.set(*index, text);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_str(itoa::Buffer::new().format(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_str(itoa::Buffer::new().format(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}
