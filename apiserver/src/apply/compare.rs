//! What differs between two versions of an object, as sets of paths.

use std::collections::BTreeMap;

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
    value(Some(old), Some(new), slot, &mut out);
    out
}

/// What happened to a value itself, apart from what lies in it.
#[derive(Clone, Copy, Default)]
struct Itself {
    added: bool,
    removed: bool,
    modified: bool,
}

/// Compares two values of which at least one is there; what lies in them goes to `out`. A value that changed its
/// form, of a type that allows several, is modified, and the parts of both forms come and go besides.
fn value(old: Option<&Value>, new: Option<&Value>, slot: Slot<'_>, out: &mut Difference) -> Itself {
    let forms = [old, new].map(|value| value.map(|value| slot.parts(value)));
    let differs = || matches!((old, new), (Some(old), Some(new)) if old != new);
    let mut itself = Itself::default();
    let last = match forms {
        [Some(before), Some(after)] if !before.is_like(&after) => {
            itself.modified = inside(old, new, before, out) && differs();
            after
        }
        [_, Some(form)] | [Some(form), None] => form,
        [None, None] => return itself,
    };
    let leaf = inside(old, new, last, out);
    itself.modified |= leaf && differs();
    itself.added = old.is_none();
    itself.removed = new.is_none();
    itself
}

/// Compares the parts of two values, as one form has them. True when there are none, so that the values count as one.
fn inside(old: Option<&Value>, new: Option<&Value>, form: Parts<'_>, out: &mut Difference) -> bool {
    match form {
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
    let mut pair = |key: &str, old: Option<&Value>, new: Option<&Value>| {
        if old != new {
            part(old, new, child(object, key), &Element::field(key), out);
        }
    };
    for (key, value) in new.into_iter().flatten() {
        pair(key, old.and_then(|old| old.get(key)), Some(value));
    }
    for (key, value) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(key)) {
            pair(key, Some(value), None);
        }
    }
}

/// Compares lists by the names of their items. Items that share a name are compared as one value.
fn lists(old: &[Value], new: &[Value], list: &ListNode, out: &mut Difference) {
    let mut named: BTreeMap<Element, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, values) in [old, new].into_iter().enumerate() {
        for item in values {
            if let Ok(name) = element(list, item)
                && let Some(found) = named.entry(name).or_default().get_mut(side)
            {
                found.push(item);
            }
        }
    }
    for (name, [old, new]) in named {
        if old == new {
            continue;
        }
        let [before, after] = [&old, &new].map(|values| values.first().copied());
        let slot = items(list);
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => part(before, after, slot, &name, out),
            (0 | 1, _) => {
                if before.is_some() {
                    part(before, None, slot, &name, out);
                }
                out.added.attach(name, true, Set::default());
            }
            (_, 0 | 1) => {
                if after.is_some() {
                    part(None, after, slot, &name, out);
                }
                out.removed.attach(name, true, Set::default());
            }
            _ => out.modified.attach(name, true, Set::default()),
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
    let itself = value(old, new, slot, &mut inner);
    for (set, member, children) in [
        (&mut out.added, itself.added, inner.added),
        (&mut out.removed, itself.removed, inner.removed),
        (&mut out.modified, itself.modified, inner.modified),
    ] {
        set.attach(name.clone(), member, children);
    }
}
