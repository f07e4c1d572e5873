//! Sets of field paths, and their `FieldsV1` form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::Element;
use super::typed::Slot;

/// Whether the path that leads to this part of `FieldsV1` is itself in the set.
pub(super) fn is_member(inner: &Value) -> bool {
    inner
        .as_object()
        .is_none_or(|inner| inner.is_empty() || inner.contains_key("."))
}

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    entries: BTreeMap<Element, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The path that ends here is in the set.
    member: bool,
    /// The paths that go on from here.
    children: Set,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds what lies under `element`, and the element itself if `member`.
    pub(crate) fn attach(&mut self, element: Element, member: bool, children: Set) {
        if member || !children.is_empty() {
            let entry = self.entries.entry(element).or_default();
            entry.member |= member;
            entry.children.merge(children);
        }
    }

    /// Whether the path of one step is in the set, and the paths that go on from it.
    pub(crate) fn get(&self, element: &Element) -> Option<(bool, &Set)> {
        self.entries.get(element).map(|e| (e.member, &e.children))
    }

    /// The first steps, whether each is itself in the set, and what goes on from it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.entries
            .iter()
            .map(|(element, e)| (element, e.member, &e.children))
    }

    /// Adds every path of `other`.
    pub(crate) fn merge(&mut self, other: Set) {
        if self.entries.is_empty() {
            self.entries = other.entries;
            return;
        }
        for (element, entry) in other.entries {
            let own = self.entries.entry(element).or_default();
            own.member |= entry.member;
            own.children.merge(entry.children);
        }
    }

    /// Removes every path of `other`; paths below those stay.
    pub(crate) fn subtract(&mut self, other: &Set) {
        if other.is_empty() {
            return;
        }
        self.entries.retain(|element, entry| {
            if let Some(gone) = other.entries.get(element) {
                entry.member &= !gone.member;
                entry.children.subtract(&gone.children);
            }
            !entry.is_empty()
        });
    }

    /// Removes what starts with this field, all the way down.
    pub(crate) fn remove_field(&mut self, name: &str) {
        self.entries.remove(&Element::field(name));
    }

    /// Keeps only what starts with one of these fields.
    pub(crate) fn keep_fields(&mut self, names: &[&str]) {
        self.entries.retain(
            |element, _| matches!(element, Element::Field(name) if names.contains(&&**name)),
        );
    }

    /// Has a path of one step in the set, and nothing that goes on from it.
    pub(crate) fn make_whole(&mut self, element: Element) {
        let children = Set::default();
        let member = true;
        self.entries.insert(element, Entry { member, children });
    }

    /// Gives whoever owns a part of what `slot` has as a whole the whole of it.
    pub(crate) fn reconcile(&mut self, slot: Slot<'_>) {
        for (element, entry) in &mut self.entries {
            let inner = slot.under(element);
            if entry.children.is_empty() {
                continue;
            }
            if inner.is_atomic() {
                entry.member = true;
                entry.children = Set::default();
            } else {
                entry.children.reconcile(inner);
            }
        }
    }

    /// Changes what lies under a field.
    pub(crate) fn inside(&mut self, name: &str, change: impl FnOnce(&mut Set)) {
        let element = Element::field(name);
        let Some(entry) = self.entries.get_mut(&element) else {
            return;
        };
        entry.member = false;
        change(&mut entry.children);
        if entry.is_empty() {
            self.entries.remove(&element);
        }
    }

    /// Changes what lies under each first step; the steps themselves leave the set.
    pub(crate) fn each_child(&mut self, change: impl Fn(&mut Set)) {
        self.entries.retain(|_, entry| {
            entry.member = false;
            change(&mut entry.children);
            !entry.is_empty()
        });
    }

    /// The paths that are in both.
    pub(crate) fn intersection(&self, other: &Set) -> Set {
        let common = self.entries.iter().filter_map(|(element, entry)| {
            let also = other.entries.get(element)?;
            let children = entry.children.intersection(&also.children);
            let entry = Entry {
                member: entry.member && also.member,
                children,
            };
            (!entry.is_empty()).then(|| (element.clone(), entry))
        });
        Set {
            entries: common.collect(),
        }
    }

    /// Whether every path is also in `other`.
    pub(crate) fn is_subset(&self, other: &Set) -> bool {
        self.entries
            .iter()
            .all(|(element, entry)| match other.entries.get(element) {
                Some(also) => {
                    (also.member || !entry.member) && entry.children.is_subset(&also.children)
                }
                None => false,
            })
    }

    /// Calls `visit` with the text of every path.
    pub(crate) fn for_each(&self, visit: &mut impl FnMut(&str)) {
        fn walk(set: &Set, path: &mut String, visit: &mut impl FnMut(&str)) {
            for (element, entry) in &set.entries {
                let length = path.len();
                path.push_str(&element.to_string());
                if entry.member {
                    visit(path);
                }
                walk(&entry.children, path, visit);
                path.truncate(length);
            }
        }
        walk(self, &mut String::new(), visit);
    }

    /// Removes a field's own path and some of its own fields with all below them.
    pub(crate) fn strip_field(&mut self, name: &str, inner: &[&str]) {
        let element = Element::field(name);
        let Some(entry) = self.entries.get_mut(&element) else {
            return;
        };
        entry.member = false;
        for field in inner {
            entry.children.remove_field(field);
        }
        if entry.is_empty() {
            self.entries.remove(&element);
        }
    }

    /// Writes `FieldsV1`.
    pub(crate) fn encode(&self) -> Value {
        let mut map = Map::new();
        for (element, entry) in &self.entries {
            let mut inner = entry.children.encode();
            if let (Value::Object(inner), true) = (&mut inner, entry.member) {
                // A path that only ends here is an empty object; the dot tells it from a step.
                if !inner.is_empty() {
                    inner.insert(".".to_owned(), Value::Object(Map::new()));
                }
            }
            map.insert(element.encode(), inner);
        }
        Value::Object(map)
    }

    /// Reads `FieldsV1`. `None` if it is none.
    pub(crate) fn decode(value: &Value) -> Option<Set> {
        let mut set = Set::default();
        for (key, inner) in value.as_object()? {
            if key == "." {
                continue;
            }
            let children = Set::decode(inner)?;
            let member = is_member(inner);
            set.entries
                .insert(Element::parse(key)?, Entry { member, children });
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Set {
        Set::decode(&value).unwrap()
    }

    #[test]
    fn the_wire_format_goes_in_and_comes_out() {
        let value = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"a/b\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:ports": {
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
            "f:x": {"i:3": {}},
        });
        assert_eq!(set(value.clone()).encode(), value);
        for bad in [
            json!(1),
            json!({"q:x": {}}),
            json!({"k:[]": {}}),
            json!({"f:a": 1}),
            json!({"v:{": {}}),
            json!({"i:x": {}}),
        ] {
            assert_eq!(Set::decode(&bad), None, "{bad}");
        }
    }

    #[test]
    fn algebra() {
        let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        let b = set(json!({"f:a": {}, "f:b": {"f:c": {}}, "f:e": {}}));
        let mut union = a.clone();
        union.merge(b.clone());
        assert_eq!(
            union.encode(),
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {}})
        );
        assert_eq!(
            a.intersection(&b).encode(),
            json!({"f:a": {}, "f:b": {"f:c": {}}})
        );
        let mut difference = a.clone();
        difference.subtract(&b);
        assert_eq!(difference.encode(), json!({"f:b": {".": {}, "f:d": {}}}));
        assert!(a.intersection(&b).is_subset(&a) && a.is_subset(&union) && !a.is_subset(&b));
        let mut paths = Vec::new();
        a.for_each(&mut |p| paths.push(p.to_owned()));
        assert_eq!(paths, [".a", ".b", ".b.c", ".b.d"]);
    }
}
