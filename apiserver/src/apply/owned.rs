//! What a manager owns: kept as it is stored until it must change, since most writes touch few fields of few managers.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set::{Set, is_member};
use super::typed::Slot;

/// A set of paths, read only when that is needed.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    /// `FieldsV1` as [`Set::encode`] writes it.
    Stored(Value),
    Read(Set),
}

impl Owned {
    /// The whole set.
    pub(super) fn set(&self) -> Cow<'_, Set> {
        match self {
            Self::Stored(fields) => Cow::Owned(Set::decode(fields).unwrap_or_default()),
            Self::Read(set) => Cow::Borrowed(set),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Set)) {
        let mut set = match std::mem::replace(self, Self::Read(Set::default())) {
            Self::Stored(fields) => Set::decode(&fields).unwrap_or_default(),
            Self::Read(set) => set,
        };
        change(&mut set);
        *self = Self::Read(set);
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Stored(fields) => fields.as_object().is_none_or(Map::is_empty),
            Self::Read(set) => set.is_empty(),
        }
    }

    /// The paths that are in both.
    pub(super) fn intersection(&self, other: &Set) -> Set {
        match self {
            Self::Stored(fields) if !has_any(fields, other) => Set::default(),
            _ => self.set().intersection(other),
        }
    }

    /// Removes every path of `other`; paths below those stay.
    pub(super) fn subtract(&mut self, other: &Set) {
        match self {
            Self::Stored(fields) if !has_any(fields, other) => {}
            _ => self.change(|set| set.subtract(other)),
        }
    }

    /// Adds every path of `other`.
    pub(super) fn merge(&mut self, other: Set) {
        match self {
            Self::Stored(fields) if has_all(fields, &other) => {}
            _ => self.change(|set| set.merge(other)),
        }
    }

    /// As [`Set::reconcile`].
    pub(super) fn reconcile(&mut self, slot: Slot<'_>) {
        let before = self.set().into_owned();
        let mut after = before.clone();
        after.reconcile(slot);
        if after != before {
            *self = Self::Read(after);
        }
    }

    /// Writes `FieldsV1`.
    pub(super) fn encode(self) -> Value {
        match self {
            Self::Stored(fields) => fields,
            Self::Read(set) => set.encode(),
        }
    }
}

fn has_any(fields: &Value, set: &Set) -> bool {
    set.iter().any(|(element, member, children)| {
        fields
            .get(element.encode())
            .is_some_and(|inner| member && is_member(inner) || has_any(inner, children))
    })
}

fn has_all(fields: &Value, set: &Set) -> bool {
    set.iter().all(|(element, member, children)| {
        fields
            .get(element.encode())
            .is_some_and(|inner| (!member || is_member(inner)) && has_all(inner, children))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: &Value) -> Set {
        Set::decode(value).unwrap()
    }

    /// Whatever is asked, what is stored answers as the set that is read from it.
    #[test]
    fn stored_and_read_are_the_same() {
        let sets = [
            json!({}),
            json!({"f:a": {}}),
            json!({"f:a": {"f:b": {}}}),
            json!({"f:a": {".": {}, "f:b": {}, "f:c": {"k:{\"name\":\"x\"}": {".": {}, "f:y": {}}}}}),
            json!({"f:a": {"f:c": {"k:{\"name\":\"x\"}": {"f:y": {}}, "v:1": {}}}, "f:d": {}}),
            json!({"f:a": {"f:c": {"v:1": {}}}, "f:d": {"i:1": {}}}),
        ];
        for (a, b) in sets.iter().flat_map(|a| sets.iter().map(move |b| (a, b))) {
            let (stored, read) = (Owned::Stored(a.clone()), Owned::Read(set(a)));
            let other = set(b);
            assert_eq!(stored.is_empty(), read.is_empty(), "{a}");
            assert_eq!(
                stored.intersection(&other),
                read.intersection(&other),
                "{a} {b}"
            );
            let changed = |owned: &Owned, change: fn(&mut Owned, &Set)| {
                let mut owned = owned.clone();
                change(&mut owned, &other);
                owned.encode()
            };
            for change in [
                (|owned, other| owned.subtract(other)) as fn(&mut Owned, &Set),
                |owned, other| owned.merge(other.clone()),
            ] {
                assert_eq!(changed(&stored, change), changed(&read, change), "{a} {b}");
            }
        }
    }
}
