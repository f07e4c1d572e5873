//! `metadata.managedFields`: who owns what, read and written.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Writer;
use super::owned::Owned;
use super::set::Set;
use crate::schema::defaults::is_zero;
use crate::strategy::access::{Fields, ensure};

/// More entries of updates than this are folded together.
const MAX_UPDATERS: usize = 10;
/// The name of the entry that old updates are folded into.
const ANCIENT: &str = "ancient-changes";
/// The name of the entry that owns what was there before the first apply.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// As it is stored.
    time: Value,
    pub(super) owned: Owned,
}

impl Manager {
    /// A new entry of `writer` that owns nothing yet.
    pub(super) fn new(writer: &Writer<'_>, operation: Operation) -> Self {
        Self {
            name: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: Value::Null,
            owned: Owned::Read(Set::default()),
        }
    }

    /// Reads an entry that may come from anywhere.
    fn decode(mut entry: Value) -> Option<Self> {
        if entry.text("fieldsType") != "FieldsV1" || entry.text("apiVersion").is_empty() {
            return None;
        }
        let set = match entry.get("fieldsV1") {
            Some(Value::Null) | None => Set::default(),
            Some(fields) => Set::decode(fields)?,
        };
        let manager = Self::stored(&mut entry)?;
        let owned = Owned::Read(set);
        Some(Self { owned, ..manager })
    }

    /// Reads an entry that this server wrote; what it owns moves out of it.
    fn stored(entry: &mut Value) -> Option<Self> {
        let operation = match entry.text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let mut take = |key: &str| entry.get_mut(key).map(Value::take);
        let (fields, time) = (take("fieldsV1"), take("time"));
        Some(Self {
            name: entry.text("manager").to_owned(),
            operation,
            api_version: entry.text("apiVersion").to_owned(),
            subresource: entry.text("subresource").to_owned(),
            time: time.unwrap_or_default(),
            owned: fields.map_or_else(|| Owned::Read(Set::default()), Owned::Stored),
        })
    }

    fn encode(self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut map = Map::with_capacity(7);
        map.insert("manager".to_owned(), self.name.into());
        map.insert("operation".to_owned(), operation.into());
        map.insert("apiVersion".to_owned(), self.api_version.into());
        if !self.time.is_null() {
            map.insert("time".to_owned(), self.time);
        }
        map.insert("fieldsType".to_owned(), "FieldsV1".into());
        map.insert("fieldsV1".to_owned(), self.owned.encode());
        if !self.subresource.is_empty() {
            map.insert("subresource".to_owned(), self.subresource.into());
        }
        Value::Object(map)
    }

    /// Whether `writer` writes under this entry. An applier keeps its entry when it changes the
    /// version it applies.
    pub(super) fn is(&self, writer: &Writer<'_>, operation: Operation) -> bool {
        self.operation == operation
            && self.name == writer.manager
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    /// Whether both are the same manager writing in the same way.
    fn is_same(&self, other: &Self) -> bool {
        self.operation == other.operation
            && self.name == other.name
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// Notes when the entry last changed.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.time = format!("{:.0}", now).into();
    }

    /// What entries are sorted by: appliers first, then by time.
    fn order(&self) -> (bool, &str, &str, &str, &str) {
        (
            self.operation == Operation::Update,
            self.time.as_str().unwrap_or_default(),
            &self.name,
            &self.api_version,
            &self.subresource,
        )
    }

    /// Takes over what an entry owns, with its time if that is later.
    fn take(&mut self, other: Self) {
        self.owned.merge(other.owned.set().into_owned());
        if other.time.as_str() > self.time.as_str() {
            self.time = other.time;
        }
    }

    /// As conflicts name it.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = self.time.as_str() {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// Reads `managedFields` that may come from anywhere. `None` if an entry cannot be read. Of two entries of one
/// manager the last counts.
fn decode(entries: Vec<Value>) -> Option<Vec<Manager>> {
    let mut managers: Vec<Manager> = Vec::with_capacity(entries.len());
    for entry in entries {
        let manager = Manager::decode(entry)?;
        match managers.iter_mut().find(|known| known.is_same(&manager)) {
            Some(known) => *known = manager,
            None => managers.push(manager),
        }
    }
    Some(managers)
}

/// Whether `managedFields` that come from outside can be read.
pub(super) fn is_readable(entries: &Value) -> bool {
    match entries {
        Value::Null => true,
        Value::Array(entries) => decode(entries.clone()).is_some(),
        _ => false,
    }
}

/// Reads `managedFields` of a stored object.
pub(super) fn stored(mut entries: Vec<Value>) -> Vec<Manager> {
    entries.iter_mut().filter_map(Manager::stored).collect()
}

/// Whether a client asks to forget all managers: by an empty list, or by one entry that says nothing.
fn is_reset(sent: &[Value]) -> bool {
    match sent {
        [] => true,
        [only] => only
            .as_object()
            .is_some_and(|entry| entry.values().all(is_zero)),
        _ => false,
    }
}

/// The managers that count for a write: those the client sent, if it sent any that can be read,
/// or those of the stored object. Those of `new` are taken out of it.
pub(super) fn of_write(old: Option<&Value>, new: &mut Value, subresource: &str) -> Vec<Manager> {
    let sent = new
        .pointer_mut("/metadata/managedFields")
        .map(Value::take)
        .unwrap_or_default();
    let known = old.map_or(&[][..], |old| old.at("metadata").items("managedFields"));
    let Value::Array(sent) = sent else {
        return stored(known.to_vec());
    };
    if sent == known {
        return stored(sent);
    }
    if !subresource.is_empty() {
        return stored(known.to_vec());
    }
    if is_reset(&sent) {
        return Vec::new();
    }
    match decode(sent) {
        Some(managers) if !managers.is_empty() => managers,
        _ => stored(known.to_vec()),
    }
}

/// Writes `managedFields`: appliers first, then by time.
pub(super) fn encode(mut managers: Vec<Manager>, object: &mut Value) {
    managers.retain(|m| !m.owned.is_empty());
    managers.sort_by(|a, b| a.order().cmp(&b.order()));
    let Some(object) = object.as_object_mut() else {
        return;
    };
    let meta = ensure(object, "metadata");
    if managers.is_empty() {
        meta.remove("managedFields");
        return;
    }
    let entries: Vec<Value> = managers.into_iter().map(Manager::encode).collect();
    meta.insert("managedFields".to_owned(), entries.into());
}

/// Keeps the number of updaters bounded: the oldest share one entry for each version.
pub(super) fn fold_old_updates(managers: &mut Vec<Manager>) {
    let is_update = |m: &Manager| m.operation == Operation::Update && !m.owned.is_empty();
    let count = managers.iter().filter(|m| is_update(m)).count();
    let mut surplus = count.saturating_sub(MAX_UPDATERS);
    if surplus == 0 {
        return;
    }
    managers.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut kept: Vec<Manager> = Vec::with_capacity(managers.len());
    for mut manager in managers.drain(..) {
        let shares = |k: &Manager| is_update(k) && k.api_version == manager.api_version;
        let bucket = match is_update(&manager) && surplus > 0 {
            true => kept.iter().position(shares),
            false => None,
        };
        if let Some(bucket) = bucket.and_then(|at| kept.get_mut(at)) {
            bucket.name = ANCIENT.to_owned();
            bucket.subresource = String::new();
            bucket.take(manager);
            surplus -= 1;
            continue;
        }
        // The entry of earlier times may be a young one.
        if let Some(known) = kept.iter().position(|known| known.is_same(&manager)) {
            manager.take(kept.remove(known));
        }
        kept.push(manager);
    }
    *managers = kept;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str, second: u8) -> Value {
        json!({"manager": name, "operation": "Update", "apiVersion": "v1",
            "time": format!("2024-01-01T00:00:{second:02}Z"), "fieldsType": "FieldsV1",
            "fieldsV1": {format!("f:{name}"): {}}})
    }

    #[test]
    fn entries_go_in_and_come_out() {
        let entries = vec![
            json!({"manager": "a", "operation": "Apply", "apiVersion": "v1", "time": "2024-01-01T00:00:01Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:x": {}}, "subresource": "status"}),
            entry("b", 0),
        ];
        let mut object = json!({"metadata": {}});
        encode(decode(entries.clone()).unwrap(), &mut object);
        assert_eq!(object["metadata"]["managedFields"], Value::from(entries));
        assert!(decode(vec![json!({"operation": "Fly"})]).is_none());
        for (field, wrong) in [
            ("operation", json!("Fly")),
            ("apiVersion", json!("")),
            ("fieldsType", json!("FieldsV2")),
            ("fieldsV1", json!({"x": 1})),
        ] {
            let mut bad = entry("a", 0);
            bad[field] = wrong;
            assert!(!is_readable(&json!([entry("b", 0), bad])), "{bad}");
        }
    }

    #[test]
    fn old_updates_share_an_entry() {
        let entries: Vec<Value> = (0..14).map(|n| entry(&format!("m{n}"), n)).collect();
        let mut object = json!({"metadata": {}});
        let mut managers = decode(entries).unwrap();
        fold_old_updates(&mut managers);
        encode(managers, &mut object);
        let written = object["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(written.len(), 10);
        assert_eq!(written[0]["manager"], "ancient-changes");
        assert_eq!(written[0]["time"], "2024-01-01T00:00:04Z");
        assert_eq!(written[0]["fieldsV1"].as_object().unwrap().len(), 5);
    }

    #[test]
    fn the_shared_entry_is_one() {
        let mut entries: Vec<Value> = (0..14).map(|n| entry(&format!("m{n}"), n)).collect();
        entries[12]["manager"] = "ancient-changes".into();
        let mut managers = decode(entries).unwrap();
        fold_old_updates(&mut managers);
        let ancient = |m: &&Manager| m.name == ANCIENT;
        assert_eq!(managers.iter().filter(ancient).count(), 1);
        let all = managers.iter().map(|m| m.owned.set().iter().count());
        assert_eq!(all.sum::<usize>(), 14, "nobody loses a field");
    }

    #[test]
    fn one_empty_entry_forgets_all() {
        let old = json!({"metadata": {"managedFields": [entry("a", 1)]}});
        let count = |mut new: Value, subresource: &str| {
            let managers = of_write(Some(&old), &mut new, subresource);
            managers.into_iter().map(|m| m.name).collect::<Vec<_>>()
        };
        let with = |entries: Value| json!({"metadata": {"managedFields": entries}});
        assert_eq!(count(json!({"metadata": {}}), ""), ["a"]);
        for reset in [
            json!([]),
            json!([{}]),
            json!([{"manager": "", "fieldsV1": null}]),
        ] {
            assert_eq!(count(with(reset), ""), [""; 0]);
        }
        assert_eq!(count(with(Value::Null), ""), ["a"]);
        let twice = with(json!([entry("b", 1), entry("c", 1), entry("b", 2)]));
        assert_eq!(count(twice, ""), ["b", "c"]);
        assert_eq!(count(with(json!([{}])), "status"), ["a"]);
        assert_eq!(count(with(json!([{"operation": "Fly"}])), ""), ["a"]);
        assert_eq!(count(with(json!([entry("b", 1)])), ""), ["b"]);
        assert_eq!(count(with(json!([entry("a", 1)])), ""), ["a"]);
    }
}
