//! What changes when a scope's plan is replaced by another: steps are matched by key.

use super::Op;
use std::collections::BTreeMap;

/// One change from an old plan to a new one.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<O> {
    /// A step that the old plan had and the new one has not.
    Remove(O),
    /// A step whose value differs.
    Replace {
        /// As it was.
        old: O,
        /// As it is to be.
        new: O,
    },
    /// A step that the old plan did not have.
    Add(O),
}

/// The changes in the order they are to be made: removals in reverse of the old order, then
/// replacements and additions in the new order. Equal plans give none.
#[must_use]
pub fn diff<O: Op>(old: &[O], new: &[O]) -> Vec<Change<O>> {
    let wanted: BTreeMap<String, &O> = new.iter().map(|op| (op.key(), op)).collect();
    let present: BTreeMap<String, &O> = old.iter().map(|op| (op.key(), op)).collect();
    let removed = old
        .iter()
        .rev()
        .filter(|op| !wanted.contains_key(&op.key()));
    let mut changes: Vec<Change<O>> = removed.map(|op| Change::Remove(op.clone())).collect();
    changes.extend(new.iter().filter_map(|op| match present.get(&op.key()) {
        None => Some(Change::Add(op.clone())),
        Some(old) if *old != op => Some(Change::Replace {
            old: (*old).clone(),
            new: op.clone(),
        }),
        Some(_) => None,
    }));
    changes
}

#[cfg(test)]
mod tests {
    use super::super::{NetworkOp, Place};
    use super::*;
    use proptest::prelude::*;

    fn sysctl(key: &str, value: &str) -> NetworkOp {
        NetworkOp::Sysctl {
            place: Place::Pod,
            key: key.into(),
            value: value.into(),
            former: None,
        }
    }

    #[test]
    fn only_differences_by_key() {
        let old = [sysctl("a", "1"), sysctl("b", "1"), sysctl("c", "1")];
        let new = [sysctl("c", "2"), sysctl("b", "1"), sysctl("d", "1")];
        assert_eq!(
            diff(&old, &new),
            [
                Change::Remove(sysctl("a", "1")),
                Change::Replace {
                    old: sysctl("c", "1"),
                    new: sysctl("c", "2")
                },
                Change::Add(sysctl("d", "1")),
            ]
        );
        assert_eq!(diff(&old, &old), []);
        assert_eq!(
            diff(&old, &[]),
            old.iter()
                .rev()
                .cloned()
                .map(Change::Remove)
                .collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn applying_a_diff_gives_the_new_plan(
            old in prop::collection::btree_map("[a-f]", "[0-2]", 0..6),
            new in prop::collection::btree_map("[a-f]", "[0-2]", 0..6),
        ) {
            let ops = |map: &BTreeMap<String, String>| {
                map.iter().map(|(k, v)| sysctl(k, v)).collect::<Vec<_>>()
            };
            let mut state: BTreeMap<String, NetworkOp> =
                ops(&old).into_iter().map(|op| (op.key(), op)).collect();
            for change in diff(&ops(&old), &ops(&new)) {
                match change {
                    Change::Remove(op) => { state.remove(&op.key()); }
                    Change::Replace { new, .. } | Change::Add(new) => { state.insert(new.key(), new); }
                }
            }
            prop_assert_eq!(state.into_values().collect::<Vec<_>>(), ops(&new));
        }
    }
}
