//! The items of a list as they were before a change, found in one step: large lists have many.

use std::collections::HashMap;

use serde_json::Value;

use super::node::ListKind;

/// The old items of a list by what identifies them; those of atomic lists have no identity.
pub(super) struct Before<'a> {
    kind: &'a ListKind,
    items: HashMap<String, &'a Value>,
}

impl<'a> Before<'a> {
    /// The items of `old`, if that is a list.
    pub(super) fn new(kind: &'a ListKind, old: Option<&'a Value>) -> Self {
        let old = old.filter(|_| *kind != ListKind::Atomic);
        let old = old.and_then(Value::as_array).into_iter().flatten();
        // Of several with the same name the first counts.
        let mut items = HashMap::new();
        for item in old {
            items.entry(name(kind, item)).or_insert(item);
        }
        Self { kind, items }
    }

    /// What an item of the new list was.
    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        if self.items.is_empty() {
            return None;
        }
        self.items.get(&name(self.kind, item)).copied()
    }
}

/// What identifies an item, as text.
fn name(kind: &ListKind, item: &Value) -> String {
    match kind {
        ListKind::Map(keys) => {
            let values = keys.iter().map(|key| match item.get(&**key) {
                Some(value) => value.to_string(),
                None => String::new(),
            });
            values.collect::<Vec<_>>().join(",")
        }
        ListKind::Set | ListKind::Atomic => item.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_found_by_what_identifies_them() {
        let keys = ListKind::Map(vec!["name".into(), "port".into()]);
        let old =
            json!([{"name": "a", "v": 1}, {"name": "a", "port": 1, "v": 2}, {"name": "a", "v": 3}]);
        let before = Before::new(&keys, Some(&old));
        let of = |item: Value| before.of(&item).map(|found| found["v"].clone());
        assert_eq!(of(json!({"name": "a", "v": 9})), Some(json!(1)));
        assert_eq!(of(json!({"name": "a", "port": 1})), Some(json!(2)));
        assert_eq!(of(json!({"name": "b"})), None);
        let old = json!([1, "1", {"a": 1}]);
        let set = Before::new(&ListKind::Set, Some(&old));
        assert_eq!(set.of(&json!("1")), Some(&json!("1")));
        assert_eq!(set.of(&json!(2)), None);
        let atomic = Before::new(&ListKind::Atomic, Some(&old));
        assert_eq!(atomic.of(&json!(1)), None);
        assert_eq!(Before::new(&keys, Some(&json!({}))).of(&json!({})), None);
    }

    /// Kubernetes' largest request has room for lists of which all pairs are too many to look at.
    #[test]
    fn large_lists_are_compared_in_one_pass() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "v": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}}}}});
        let at = crate::schema::Path::new("s");
        let schema = crate::schema::Schema::from_crd("x.io", "v1", "Foo", &schema, &at).unwrap();
        let object = |v: u32| {
            let map: Vec<Value> = (0..60_000).map(|n| json!({"n": n, "v": v})).collect();
            let set: Vec<u32> = (v..v + 60_000).collect();
            json!({"spec": {"map": map, "set": set}})
        };
        let (old, new) = (object(1), object(2));
        assert!(schema.validate(&new, Some(&old)).is_empty());
        assert!(!schema.validate(&old, Some(&new)).is_empty());
    }
}
