//! What differs between two versions of an object, as sets of paths.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::path::Element;
use super::set::Set;
use super::typed::{Parts, Slot, child, element, items};
use crate::schema::node::{ListNode, ObjectNode};

/// The outcome of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) added: Set,
    pub(crate) removed: Set,
    pub(crate) modified: Set,
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// All three sets, to work on each.
    pub(crate) fn each(&mut self) -> [&mut Set; 3] {
        [&mut self.added, &mut self.removed, &mut self.modified]
    }

    /// What is there now and was not, or not so.
    pub(crate) fn changed(&self) -> Set {
        let mut set = self.added.clone();
        set.merge(self.modified.clone());
        set
    }
}

/// Compares two objects of one type.
pub(crate) fn compare(old: &Value, new: &Value, slot: Slot<'_>) -> Difference {
    let mut out = Difference::default();
    inside(Some(old), Some(new), slot, &mut out);
    out
}

/// Compares the parts of two values. True when the values have no parts, so that they count as
/// one.
fn inside(old: Option<&Value>, new: Option<&Value>, slot: Slot<'_>, out: &mut Difference) -> bool {
    let Some(shown) = new.or(old) else {
        return true;
    };
    match slot.parts(shown) {
        Parts::Leaf => true,
        Parts::Map(object) => {
            let [old, new] = [old, new].map(|v| v.and_then(Value::as_object));
            if [old, new].into_iter().flatten().all(Map::is_empty) {
                return true;
            }
            maps(old, new, object, out);
            false
        }
        Parts::List(list) => {
            let [old, new] = [old, new].map(|v| v.and_then(Value::as_array).map(Vec::as_slice));
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            if old.is_empty() && new.is_empty() {
                return true;
            }
            lists(old, new, list, out);
            false
        }
    }
}

fn maps(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    object: Option<&ObjectNode>,
    out: &mut Difference,
) {
    for (key, value) in new.into_iter().flatten() {
        let before = old.and_then(|old| old.get(key));
        if before != Some(value) {
            part(
                before,
                Some(value),
                child(object, key),
                &Element::field(key),
                out,
            );
        }
    }
    for (key, value) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(key)) {
            part(
                Some(value),
                None,
                child(object, key),
                &Element::field(key),
                out,
            );
        }
    }
}

fn lists(old: &[Value], new: &[Value], list: &ListNode, out: &mut Difference) {
    let named = |values: &[Value]| -> Vec<Option<Element>> {
        values.iter().map(|item| element(list, item).ok()).collect()
    };
    let (old_names, new_names) = (named(old), named(new));
    let before: BTreeMap<&Element, &Value> = old_names
        .iter()
        .zip(old)
        .filter_map(|(n, v)| Some((n.as_ref()?, v)))
        .collect();
    let mut seen = BTreeSet::new();
    for (item, name) in new.iter().zip(&new_names) {
        let Some(name) = name else { continue };
        seen.insert(name);
        let before = before.get(name).copied();
        if before != Some(item) {
            part(before, Some(item), items(list), name, out);
        }
    }
    for (name, item) in before {
        if !seen.contains(name) {
            part(Some(item), None, items(list), name, out);
        }
    }
}

/// Compares what lies under one element and records it there.
fn part(
    old: Option<&Value>,
    new: Option<&Value>,
    slot: Slot<'_>,
    name: &Element,
    out: &mut Difference,
) {
    let mut inner = Difference::default();
    let mut leaf = inside(old, new, slot, &mut inner);
    // A value that changed its form is replaced as a whole.
    if let (Some(old), Some(new)) = (old, new)
        && !leaf
        && std::mem::discriminant(old) != std::mem::discriminant(new)
    {
        leaf = true;
        inner = Difference::default();
    }
    let itself = leaf || slot.owns_itself() || !matches!(name, Element::Field(_));
    let added = old.is_none() && itself;
    let removed = new.is_none();
    let modified = leaf && old.is_some() && new.is_some();
    for (set, member, children) in [
        (&mut out.added, added, inner.added),
        (&mut out.removed, removed, inner.removed),
        (&mut out.modified, modified, inner.modified),
    ] {
        if member || !children.is_empty() {
            set.attach(name.clone(), member, children);
        }
    }
}
