//! Merging an applied configuration into an object, and taking parts out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::path::Element;
use super::set::Set;
use super::typed::{Parts, Slot, child, element, items};
use crate::schema::node::ListNode;

/// Lays `config` over `target`: scalars and atomic parts replace, the others merge. A null takes nothing away from a
/// map or list that is merged.
pub(crate) fn merge(target: &mut Value, config: Value, slot: Slot<'_>) {
    match (slot.parts(&config), target, config) {
        (Parts::Map(object), Value::Object(target), Value::Object(config)) => {
            for (key, value) in config {
                match target.get_mut(&key) {
                    Some(own) => merge(own, value, child(object, &key)),
                    None => {
                        target.insert(key, value);
                    }
                }
            }
        }
        (Parts::List(list), Value::Array(target), Value::Array(config)) => {
            *target = lists(std::mem::take(target), config, list);
        }
        (Parts::Map(_), Value::Object(target), Value::Null) if !target.is_empty() => {}
        (Parts::List(_), Value::Array(target), Value::Null) if !target.is_empty() => {}
        (_, target, config) => *target = config,
    }
}

/// A list taken apart, with the names of its items. Items stored without a name match nothing.
struct Items {
    names: Vec<Option<Element>>,
    values: Vec<Option<Value>>,
}

impl Items {
    fn new(values: Vec<Value>, list: &ListNode) -> Self {
        let names = values.iter().map(|item| element(list, item).ok()).collect();
        Self {
            names,
            values: values.into_iter().map(Some).collect(),
        }
    }

    fn name(&self, at: usize) -> Option<&Element> {
        self.names.get(at)?.as_ref()
    }

    /// Where the items of each name are.
    fn places(&self) -> BTreeMap<&Element, Vec<usize>> {
        let mut places: BTreeMap<&Element, Vec<usize>> = BTreeMap::new();
        for (at, name) in self.names.iter().enumerate() {
            if let Some(name) = name {
                places.entry(name).or_default().push(at);
            }
        }
        places
    }
}

/// Merges two lists item by item. The order is the one of the configuration; items that only the
/// object has keep their place relative to those that both have. Items of the object that share a name give way to
/// the one of the configuration.
fn lists(own: Vec<Value>, config: Vec<Value>, list: &ListNode) -> Vec<Value> {
    let (mut own, mut config) = (Items::new(own, list), Items::new(config, list));
    let order = order(&own, &config);
    let mut out = Vec::with_capacity(order.len());
    for (left, right) in order {
        let take = |items: &mut Items, at: Option<usize>| items.values.get_mut(at?)?.take();
        let (before, change) = (take(&mut own, left), take(&mut config, right));
        out.extend(match (before, change) {
            (Some(mut before), Some(change)) => {
                merge(&mut before, change, items(list));
                Some(before)
            }
            (before, change) => before.or(change),
        });
    }
    out
}

/// Which items of the object and of the configuration make up each item of the merged list.
fn order(own: &Items, config: &Items) -> Vec<(Option<usize>, Option<usize>)> {
    let (mine, theirs) = (own.places(), config.places());
    // An item of the object, unless its name is there more than once.
    let partner = |name: Option<&Element>| match mine.get(name?).map(Vec::as_slice) {
        Some([only]) => Some(*only),
        _ => None,
    };
    let is_shared = |name: &&Option<Element>| name.as_ref().is_some_and(|n| mine.contains_key(n));
    let mut shared = config.names.iter().filter(is_shared).flatten();
    let mut next = shared.next();
    let mut done = BTreeSet::new();
    let mut out = Vec::with_capacity(own.names.len() + config.names.len());
    let (mut l, mut r) = (0, 0);
    while l < own.names.len() || r < config.names.len() {
        let left = own.name(l);
        if l < own.names.len() {
            let Some(name) = left.filter(|name| theirs.contains_key(name)) else {
                out.push((Some(l), None));
                l += 1;
                continue;
            };
            if config.name(r) != left {
                // Shared, but its turn comes later or is over.
                let later = r < config.names.len() && next.is_some_and(|next| next != name);
                if later || done.contains(name) {
                    l += 1;
                }
                if later {
                    continue;
                }
            }
        }
        let right = config.name(r);
        if r < config.names.len() {
            out.push((partner(right), Some(r)));
            l += usize::from(left.is_some() && left == right);
            r += 1;
        }
        if let Some(name) = right {
            done.insert(name);
        }
        if next.is_some() && next == right {
            next = shared.next();
        }
    }
    out
}

/// Takes every path of `gone` out of `value`. True when nothing is left of it.
pub(crate) fn remove(value: &mut Value, gone: &Set, slot: Slot<'_>) -> bool {
    let parts = slot.parts(value);
    match (parts, value) {
        (Parts::Map(object), Value::Object(map)) => {
            if map.is_empty() {
                return false;
            }
            for (element, member, children) in gone.iter() {
                let Element::Field(key) = element else {
                    continue;
                };
                let empty = match map.get_mut(&**key) {
                    None => continue,
                    Some(_) if member => true,
                    Some(inner) => remove(inner, children, child(object, key)),
                };
                if empty {
                    map.remove(&**key);
                }
            }
            map.is_empty()
        }
        (Parts::List(list), Value::Array(values)) => {
            if values.is_empty() {
                return false;
            }
            values.retain_mut(|item| {
                let found = element(list, item).ok();
                match found.as_ref().and_then(|name| gone.get(name)) {
                    Some((true, _)) => false,
                    Some((false, children)) => !remove(item, children, items(list)),
                    None => true,
                }
            });
            values.is_empty()
        }
        _ => false,
    }
}
