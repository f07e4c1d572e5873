//! Removes what an applier said before and says no longer, unless somebody else owns it.

use serde_json::Value;

use super::managers::Manager;
use super::merge::remove;
use super::set::Set;
use super::typed::{Slot, to_set_lenient, with_named_fields};

/// Prunes `merged`. `last` is what the applier owned, `now` all that this configuration says: also what nobody owns,
/// such as the name, since a part of the object that is said stays with all around it.
pub(super) fn prune(merged: &mut Value, slot: Slot<'_>, last: &Set, now: &Set, others: &[Manager]) {
    if last.is_subset(now) {
        return;
    }
    let last = with_named_fields(last, slot);
    let mut survivor = merged.clone();
    remove(&mut survivor, &last, slot);
    // What is still owned comes back, with all the fields on the way to it.
    let mut owned = now.clone();
    for manager in others {
        owned.merge(manager.owned.set().into_owned());
    }
    let mut kept = named(&survivor, slot);
    kept.merge(with_named_fields(&owned, slot));
    let all = named(merged, slot);
    let mut unowned = all.clone();
    unowned.subtract(&kept);
    let mut survivor = merged.clone();
    remove(&mut survivor, &unowned, slot);
    // What the applier never owned comes back too: it is not its to remove.
    let mut gone = all;
    gone.subtract(&named(&survivor, slot));
    remove(merged, &gone.intersection(&last), slot);
}

fn named(value: &Value, slot: Slot<'_>) -> Set {
    with_named_fields(&to_set_lenient(value, slot), slot)
}
