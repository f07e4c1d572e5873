//! Structured merge once more, as plain as can be: an object is a flat table from paths to parts, what somebody
//! owns is a set of paths, and every rule is one line over those. Slow, and written without a look at the code it is
//! held against (`sequences.rs`): from the rules of `structured-merge-diff` and KEP-555.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Steps in the spelling of `FieldsV1`.
pub(super) type Path = Vec<String>;
pub(super) type Paths = BTreeSet<Path>;

/// What is at a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// A scalar, or something owned as a whole.
    Leaf(Value),
    /// A map or list that is divided, with nothing in it.
    Hollow(Value),
    /// A map or list that is divided, and has parts.
    Filled,
    /// Items of a list that share a name.
    Twice(Vec<Value>),
}

/// An object: all its paths but the root's.
pub(super) type Flat = BTreeMap<Path, Part>;

/// The schema of metadata; `Null` is the schema of what is open.
fn metadata() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let owner = json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"uid": text, "name": text}});
    json!({"type": "object", "properties": {
        "name": text, "namespace": text, "uid": text, "labels": texts, "annotations": texts,
        "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "ownerReferences": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"], "items": owner},
        "managedFields": {"type": "array", "items": {"type": "object"}}}})
}

/// The schema of what lies under a key, and whether it is a field with a name rather than a key of a map.
fn under(schema: &Value, root: bool, key: &str) -> (Value, bool) {
    let resource = root || schema["x-kubernetes-embedded-resource"] == true;
    if resource && key == "metadata" {
        return (metadata(), true);
    }
    if resource && (key == "apiVersion" || key == "kind") {
        return (json!({"type": "string"}), true);
    }
    match schema["properties"].get(key) {
        Some(found) => (found.clone(), true),
        None => (schema["additionalProperties"].clone(), false),
    }
}

/// Whether maps and lists of the schema are one thing.
fn is_whole(schema: &Value) -> bool {
    let granular = |key: &str, words: &[&str]| words.iter().any(|word| schema[key] == *word);
    match schema["type"].as_str() {
        Some("array") => !granular("x-kubernetes-list-type", &["map", "set"]),
        Some("object") => granular("x-kubernetes-map-type", &["atomic"]),
        _ => false,
    }
}

/// Whether the schema says nothing of what is in an object.
fn is_open(schema: &Value) -> bool {
    schema.is_null()
        || schema["x-kubernetes-preserve-unknown-fields"] == true
            && schema["properties"].is_null()
            && schema["x-kubernetes-embedded-resource"] != true
}

fn item_name(schema: &Value, item: &Value) -> String {
    let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() else {
        return format!("v:{item}");
    };
    let mut found = Map::new();
    for key in keys.iter().filter_map(Value::as_str) {
        let default = &schema["items"]["properties"][key]["default"];
        let value = item.get(key).unwrap_or(default);
        if !value.is_null() {
            found.insert(key.to_owned(), value.clone());
        }
    }
    format!("k:{}", Value::Object(found))
}

/// All paths of an object.
pub(super) fn flatten(schema: &Value, object: &Value) -> Flat {
    let mut out = Flat::new();
    walk(schema, true, object, &Path::new(), &mut out);
    out
}

fn walk(schema: &Value, root: bool, value: &Value, at: &Path, out: &mut Flat) {
    let open = is_open(schema);
    let list = schema["type"] == "array";
    let map = schema["type"] == "object" || open || root;
    let step = |name: String| [at.clone(), vec![name]].concat();
    let part = match value {
        _ if is_whole(schema) => Part::Leaf(value.clone()),
        Value::Null if map || list => Part::Hollow(value.clone()),
        Value::Object(fields) if map => {
            for (key, value) in fields {
                let (schema, _) = under(schema, root, key);
                walk(&schema, false, value, &step(format!("f:{key}")), out);
            }
            hollow(fields.is_empty(), value)
        }
        Value::Array(items) if list => {
            let mut named: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for item in items {
                let name = item_name(schema, item);
                named.entry(name).or_default().push(item.clone());
            }
            for (name, items) in named {
                match items.as_slice() {
                    [one] => walk(&schema["items"], false, one, &step(name), out),
                    _ => drop(out.insert(step(name), Part::Twice(items))),
                }
            }
            hollow(items.is_empty(), value)
        }
        _ => Part::Leaf(value.clone()),
    };
    if !at.is_empty() {
        out.insert(at.clone(), part);
    }
}

fn hollow(empty: bool, value: &Value) -> Part {
    if empty {
        Part::Hollow(value.clone())
    } else {
        Part::Filled
    }
}

/// Whether a path ends at a field that the schema names.
pub(super) fn is_named(schema: &Value, path: &[String]) -> bool {
    let (mut schema, mut named, mut root) = (schema.clone(), false, true);
    for step in path {
        (schema, named) = match step.strip_prefix("f:") {
            Some(key) if !is_open(&schema) || root => under(&schema, root, key),
            Some(_) => (Value::Null, false),
            None => (schema["items"].clone(), false),
        };
        root = false;
    }
    named
}

fn is_at_or_under(path: &[String], paths: &Paths) -> bool {
    (1..=path.len()).any(|length| paths.contains(&path[..length]))
}

/// What somebody owns who says an object.
pub(super) fn said(schema: &Value, flat: &Flat) -> Paths {
    let counts = |(path, part): &(&Path, &Part)| match part {
        Part::Leaf(_) | Part::Twice(_) => true,
        Part::Hollow(Value::Null) => true,
        Part::Hollow(Value::Object(_)) => true,
        Part::Hollow(_) | Part::Filled => !is_named(schema, path),
    };
    flat.iter()
        .filter(counts)
        .map(|(path, _)| path.clone())
        .collect()
}

/// With every named field on the way.
fn with_named(schema: &Value, paths: &Paths) -> Paths {
    let mut out = paths.clone();
    for path in paths {
        let way = (1..=path.len()).map(|length| path[..length].to_vec());
        out.extend(way.filter(|path| is_named(schema, path)));
    }
    out
}

/// Paths that came, went and changed.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) added: Paths,
    pub(super) removed: Paths,
    pub(super) modified: Paths,
}

pub(super) fn compare(old: &Flat, new: &Flat) -> Changes {
    let mut changes = Changes::default();
    for path in old.keys().chain(new.keys()) {
        let path = path.clone();
        match (old.get(&path), new.get(&path)) {
            (None, _) => drop(changes.added.insert(path)),
            (_, None) => drop(changes.removed.insert(path)),
            (Some(old), Some(new)) if old == new => {}
            (Some(Part::Twice(_)), Some(Part::Twice(_))) => drop(changes.modified.insert(path)),
            (Some(Part::Twice(_)), _) | (_, Some(Part::Twice(_))) => {
                changes.added.insert(path.clone());
                changes.removed.insert(path);
            }
            (Some(Part::Filled), Some(Part::Hollow(_)))
            | (Some(Part::Hollow(_)), Some(Part::Filled)) => {}
            _ => drop(changes.modified.insert(path)),
        }
    }
    changes
}

/// A configuration laid over an object.
pub(super) fn merge(live: &Flat, config: &Flat) -> Flat {
    let mut out = live.clone();
    for (path, part) in config {
        let keeps = matches!(
            (out.get(path), part),
            (Some(Part::Filled), Part::Filled | Part::Hollow(_))
        );
        if keeps {
            continue;
        }
        if !matches!(part, Part::Filled) || matches!(out.get(path), Some(Part::Twice(_))) {
            out.retain(|below, _| below == path || !below.starts_with(path));
        }
        out.insert(path.clone(), part.clone());
    }
    out
}

/// Takes paths and all below them away.
fn remove(flat: &Flat, gone: &Paths) -> Flat {
    let mut out = flat.clone();
    out.retain(|path, _| !is_at_or_under(path, gone));
    let filled: Vec<Path> = out
        .iter()
        .filter(|(_, part)| **part == Part::Filled)
        .map(|(path, _)| path.clone())
        .collect();
    for path in filled.into_iter().rev() {
        if !out
            .keys()
            .any(|below| below.len() > path.len() && below.starts_with(&path))
        {
            out.remove(&path);
        }
    }
    out
}

/// Takes away what the applier said `last`, says no longer, and nobody owns.
fn prune(schema: &Value, merged: &Flat, last: &Paths, owned: &Paths) -> Flat {
    let all = with_named(schema, &said(schema, merged));
    let minus = |a: &Paths, b: &Paths| -> Paths { a.difference(b).cloned().collect() };
    let last = with_named(schema, last);
    let left = remove(merged, &last);
    let left = with_named(schema, &said(schema, &left));
    let kept = left
        .union(&with_named(schema, owned))
        .cloned()
        .collect::<Paths>();
    let left = remove(merged, &minus(&all, &kept));
    let left = with_named(schema, &said(schema, &left));
    let gone = minus(&all, &left);
    remove(merged, &gone.intersection(&last).cloned().collect())
}

/// What tells managers apart: name, whether it applies, version unless it applies, subresource.
pub(super) type Key = (String, bool, String, String);

/// The managers of an object, each with its version.
pub(super) type Managers = BTreeMap<Key, (String, Paths)>;

/// Reads `managedFields`.
pub(super) fn managers(entries: &Value) -> Managers {
    let mut out = Managers::new();
    for entry in entries.as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let mut paths = Paths::new();
        fields(&entry["fieldsV1"], &Path::new(), &mut paths);
        let applies = text("operation") == "Apply";
        let version = text("apiVersion");
        let key = (
            text("manager"),
            applies,
            if applies {
                String::new()
            } else {
                version.clone()
            },
            text("subresource"),
        );
        out.insert(key, (version, paths));
    }
    out
}

fn fields(value: &Value, at: &Path, out: &mut Paths) {
    let map = value.as_object();
    if !at.is_empty() && map.is_none_or(|map| map.is_empty() || map.contains_key(".")) {
        out.insert(at.clone());
    }
    for (key, value) in map.into_iter().flatten().filter(|(key, _)| *key != ".") {
        fields(value, &[at.clone(), vec![key.clone()]].concat(), out);
    }
}

/// Through what a write goes. Of built-in kinds, a write of the status may change metadata.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    pub(super) subresource: &'a str,
    pub(super) built_in: bool,
}

impl Door<'_> {
    fn leads_to(self, path: &[String]) -> bool {
        let status = self.subresource == "status";
        let first = path.first().map(String::as_str).unwrap_or_default();
        (first == "f:status") == status || first == "f:metadata" && status && self.built_in
    }
}

/// Whether somebody can own a path by a write.
pub(super) fn is_ownable(path: &[String], door: Door<'_>) -> bool {
    const SYSTEM: [&str; 4] = ["f:name", "f:namespace", "f:uid", "f:managedFields"];
    let step = |at: usize| path.get(at).map(String::as_str).unwrap_or_default();
    match step(0) {
        "f:apiVersion" | "f:kind" => false,
        _ if !door.leads_to(path) => false,
        "f:metadata" => path.len() > 1 && !SYSTEM.contains(&step(1)),
        _ => true,
    }
}

fn ownable(paths: &Paths, door: Door<'_>) -> Paths {
    paths
        .iter()
        .filter(|path| is_ownable(path, door))
        .cloned()
        .collect()
}

impl Changes {
    pub(super) fn ownable(&self, door: Door<'_>) -> Self {
        Self {
            added: ownable(&self.added, door),
            removed: ownable(&self.removed, door),
            modified: ownable(&self.modified, door),
        }
    }

    pub(super) fn written(&self) -> Paths {
        self.added.union(&self.modified).cloned().collect()
    }

    /// Leaves the others what did not change.
    fn settle(&self, managers: &mut Managers) {
        for (_, paths) in managers.values_mut() {
            for changed in [&self.added, &self.removed, &self.modified] {
                paths.retain(|path| !changed.contains(path));
            }
        }
        managers.retain(|_, (_, paths)| !paths.is_empty());
    }
}

/// An apply: the object and managers afterwards, or whose fields it would change.
pub(super) struct Apply<'a> {
    pub(super) schema: &'a Value,
    pub(super) live: Option<&'a Flat>,
    pub(super) managers: &'a Managers,
    pub(super) config: &'a Flat,
    pub(super) manager: &'a str,
    pub(super) version: &'a str,
    pub(super) door: Door<'a>,
    /// What an object has that nobody wrote.
    pub(super) nothing: &'a Flat,
}

impl Apply<'_> {
    pub(super) fn run(
        &self,
        force: impl Fn(&Path) -> bool,
    ) -> Result<(Flat, Managers), BTreeSet<(String, Path)>> {
        let mut managers = self.managers.clone();
        let (door, sub) = (self.door, self.door.subresource);
        if let Some(live) = self.live
            && managers.is_empty()
        {
            let before = "before-first-apply".to_owned();
            let key = (before, false, self.version.to_owned(), sub.to_owned());
            let all = compare(self.nothing, live).ownable(door).written();
            managers.insert(key, (self.version.to_owned(), all));
        }
        let key = (self.manager.to_owned(), true, String::new(), sub.to_owned());
        let (_, last) = managers.remove(&key).unwrap_or_default();
        let said = said(self.schema, self.config);
        let in_reach = |path: &&Path| door.leads_to(path);
        let reached: Paths = said.iter().filter(in_reach).cloned().collect();
        let mut owned = reached.clone();
        owned.extend(managers.values().flat_map(|(_, paths)| paths.clone()));
        let nothing = Flat::new();
        let live = self.live.unwrap_or(&nothing);
        let merged = prune(self.schema, &merge(live, self.config), &last, &owned);
        let mut conflicts = BTreeSet::new();
        if self.live.is_some() {
            let changes = compare(live, &merged).ownable(door);
            for ((name, ..), (_, paths)) in &managers {
                let mine = changes.written();
                let contested = paths.intersection(&mine).filter(|path| !force(path));
                conflicts.extend(contested.map(|path| (name.clone(), path.clone())));
            }
            changes.settle(&mut managers);
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let own = ownable(&said, door);
        if !own.is_empty() {
            managers.insert(key, (self.version.to_owned(), own));
        }
        Ok((merged, managers))
    }
}

/// Any other write. `sent` are the managers the client sent, if it may and did.
pub(super) fn update(
    old: Option<(&Flat, &Managers)>,
    nothing: &Flat,
    new: &Flat,
    sent: Option<Managers>,
    (manager, version, door): (&str, &str, Door<'_>),
) -> Managers {
    let mut managers = sent.unwrap_or_else(|| old.map(|(_, m)| m.clone()).unwrap_or_default());
    if old.is_some() && managers.is_empty() {
        return managers;
    }
    let changes = compare(old.map_or(nothing, |(old, _)| old), new).ownable(door);
    changes.settle(&mut managers);
    let own = changes.written();
    if !own.is_empty() {
        let key = (
            manager.to_owned(),
            false,
            version.to_owned(),
            door.subresource.to_owned(),
        );
        let entry = managers.entry(key).or_default();
        entry.0 = version.to_owned();
        entry.1.extend(own);
    }
    managers
}
