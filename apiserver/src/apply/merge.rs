//! Merging an applied configuration into an object, and taking parts out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::path::Element;
use super::set::Set;
use super::typed::{Parts, Slot, child, element, items};
use crate::schema::node::ListNode;

/// Lays `config` over `target`: scalars and atomic parts replace, the others merge.
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

    fn len(&self) -> usize {
        self.values.len()
    }

    fn take(&mut self, at: usize) -> Option<Value> {
        self.values.get_mut(at)?.take()
    }

    /// For each item of `self`, where `other` has the one with the same name.
    fn partners(&self, other: &Self) -> Vec<Option<usize>> {
        let places: BTreeMap<&Element, usize> = other
            .names
            .iter()
            .enumerate()
            .filter_map(|(at, n)| Some((n.as_ref()?, at)))
            .collect();
        self.names
            .iter()
            .map(|n| places.get(n.as_ref()?).copied())
            .collect()
    }
}

/// Merges two lists item by item. The order is the one of the configuration; items that only the
/// object has keep their place relative to those that both have.
fn lists(own: Vec<Value>, config: Vec<Value>, list: &ListNode) -> Vec<Value> {
    let mut own = Items::new(own, list);
    let mut config = Items::new(config, list);
    let matches = config.partners(&own);
    let theirs = own.partners(&config);
    let partner = |list: &[Option<usize>], at: usize| list.get(at).copied().flatten();
    let mut shared = matches
        .iter()
        .enumerate()
        .filter(|(_, m)| m.is_some())
        .map(|(c, _)| c);
    let mut next_shared = shared.next();
    let mut merged = BTreeSet::new();
    let mut out = Vec::with_capacity(own.len() + config.len());
    let (mut l, mut r) = (0, 0);
    while l < own.len() || r < config.len() {
        let mine = partner(&theirs, l);
        if l < own.len() && mine.is_none() {
            out.extend(own.take(l));
            l += 1;
            continue;
        }
        let met = mine == Some(r) && r < config.len();
        let later = !met && r < config.len() && next_shared.is_some() && mine != next_shared;
        let done = mine.is_some_and(|mine| merged.contains(&mine));
        if l < own.len() && !met && (later || done || r >= config.len()) {
            // Shared, but its turn comes later or is over.
            l += 1;
            continue;
        }
        out.extend(joined(&mut own, &mut config, partner(&matches, r), r, list));
        merged.insert(r);
        if met || next_shared == Some(r) {
            next_shared = shared.next();
        }
        l += usize::from(met);
        r += 1;
    }
    out
}

fn joined(
    own: &mut Items,
    config: &mut Items,
    partner: Option<usize>,
    at: usize,
    list: &ListNode,
) -> Option<Value> {
    let change = config.take(at)?;
    Some(match partner.and_then(|p| own.take(p)) {
        Some(mut before) => {
            merge(&mut before, change, items(list));
            before
        }
        None => change,
    })
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
