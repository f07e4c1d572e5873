//! One object, every write to it, and what must be true afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::types::{Step, Types, cut, put};
use super::{CLIENT_SIDE, Choice, MANAGERS, Sent, Write};
use crate::apply::model::{self, Flat, Managers, Path, Paths};
use crate::apply::path::Element;
use crate::apply::set::Set;
use crate::apply::{ApplyError, Writer, managers, track_update};
use crate::schema::Schema;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The one object that all write to.
pub(super) struct Rig<'t> {
    pub(super) types: &'t Types,
    pub(super) shape: usize,
    pub(super) live: Option<Value>,
}

impl Rig<'_> {
    fn schema(&self) -> (&Arc<Schema>, &Value) {
        let (schema, model) = &self.types.shapes[self.shape % self.types.shapes.len()];
        (schema, model)
    }

    fn chosen(&self, choice: &Choice) -> (&[Step], Option<&Value>) {
        let (steps, values) = choice.0.get(&self.types.places);
        (steps, (!values.is_empty()).then(|| choice.1.get(values)))
    }

    fn base(&self) -> Value {
        json!({"apiVersion": self.types.api_versions[0], "kind": self.types.kind, "metadata": {"name": "o"}})
    }

    /// A configuration, for the status alone or for the rest.
    fn config(&self, say: &[Choice], status: bool) -> Value {
        let mut config = self.base();
        for choice in say {
            let (steps, value) = self.chosen(choice);
            let of_status = matches!(steps.first(), Some(Step::Field("status")));
            let twice = steps.iter().any(|step| matches!(step, Step::Another(_)));
            if of_status == status && !twice {
                put(&mut config, steps, value);
            }
        }
        config
    }

    fn changed(&self, puts: &[Choice], cuts: &[Choice]) -> Value {
        let mut new = self.live.clone().unwrap_or_else(|| self.base());
        for choice in cuts {
            let (steps, value) = self.chosen(choice);
            cut(&mut new, steps, value);
        }
        for choice in puts {
            let (steps, value) = self.chosen(choice);
            put(&mut new, steps, value);
        }
        new
    }

    fn flat(&self, object: &Value) -> Flat {
        let mut flat = model::flatten(self.schema().1, object);
        flat.remove(&["f:metadata".to_owned(), "f:managedFields".to_owned()][..]);
        flat
    }

    fn nothing(&self) -> Flat {
        model::flatten(self.schema().1, &self.types.nothing)
    }

    fn writer<'w>(&self, manager: &'w str, version: usize, status: bool) -> Writer<'w> {
        Writer {
            manager,
            api_version: self.types.api_versions[version],
            subresource: if status { "status" } else { "" },
            status_apart: true,
            now: Timestamp::from_second(1_700_000_000).unwrap(),
        }
    }

    fn door<'w>(&self, writer: &Writer<'w>) -> model::Door<'w> {
        model::Door {
            subresource: writer.subresource,
            built_in: self.schema().0.root().typed,
        }
    }

    /// The managers, in line with the types of today.
    fn managers(&self) -> Managers {
        let live = self.live.as_ref();
        let mut managers = live
            .map(|live| model::managers(&live["metadata"]["managedFields"]))
            .unwrap_or_default();
        self.reconcile(&mut managers);
        managers
    }

    fn reconcile(&self, managers: &mut Managers) {
        let list = ["f:spec".to_owned(), "f:shifting".to_owned()];
        if self.schema().1["properties"]["spec"]["properties"]["shifting"]["x-kubernetes-list-type"]
            == "atomic"
        {
            for (_, paths) in managers.values_mut() {
                if paths
                    .iter()
                    .any(|path| path.len() > 2 && path.starts_with(&list))
                {
                    paths.retain(|path| !path.starts_with(&list));
                    paths.insert(list.to_vec());
                }
            }
        }
    }

    fn apply(&mut self, config: Value, writer: &Writer<'_>, force: bool) {
        let (schema, model) = self.schema();
        let outcome =
            crate::apply::apply(schema, self.live.as_ref(), config.clone(), writer, force);
        let (said, before) = (self.flat(&config), self.managers());
        if said
            .values()
            .any(|part| matches!(part, model::Part::Twice(_)))
        {
            assert!(
                matches!(outcome, Err(ApplyError::BadRequest(_))),
                "{outcome:#?}"
            );
            return;
        }
        let live = self.live.as_ref().map(|live| self.flat(live));
        let allowed = self.unchanged_since_client_side(writer);
        let expected = model::Apply {
            schema: model,
            live: live.as_ref(),
            managers: &before,
            config: &said,
            manager: writer.manager,
            version: writer.api_version,
            door: self.door(writer),
            nothing: &self.nothing(),
        };
        let expected = expected.run(|path| force || allowed.contains(path));
        match (outcome, expected) {
            (Ok(mut object), Ok((mut flat, managers))) => {
                let annotation: Path = ["f:metadata", "f:annotations"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain([format!("f:{ANNOTATION}")])
                    .collect();
                let text = object["metadata"]["annotations"][ANNOTATION].clone();
                if writer.manager == "kubectl" && flat.contains_key(&annotation) {
                    let said: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
                    assert_eq!(said, config);
                    flat.insert(annotation, model::Part::Leaf(text));
                }
                assert_eq!(self.flat(&object), flat, "the object\n{object:#}");
                let found = model::managers(&object["metadata"]["managedFields"]);
                assert_eq!(found, managers, "the managers of\n{object:#}");
                self.promises(&config, writer, &object);
                self.settle(&mut object);
            }
            (Err(ApplyError::Conflicts(found)), Err(expected)) => {
                let found: BTreeSet<String> = found.into_iter().map(|c| c.field).collect();
                let expected: BTreeSet<String> =
                    expected.iter().map(|(_, path)| shown(path)).collect();
                assert_eq!(found, expected, "the conflicts");
            }
            (found, expected) => panic!("{found:#?}\nand not\n{expected:#?}"),
        }
    }

    /// What a client-side apply said and still is so.
    fn unchanged_since_client_side(&self, writer: &Writer<'_>) -> Paths {
        let said = self
            .live
            .as_ref()
            .and_then(|live| live["metadata"]["annotations"][ANNOTATION].as_str());
        let said: Option<Value> = said.and_then(|text| serde_json::from_str(text).ok());
        match (said, &self.live) {
            (Some(said), Some(live))
                if writer.manager == "kubectl" && said["apiVersion"] == writer.api_version =>
            {
                let said = self.flat(&said);
                let changes = model::compare(&said, &self.flat(live));
                let mut paths = model::said(self.schema().1, &said);
                paths.retain(|p| {
                    !changes.modified.contains(p)
                        && !changes.removed.contains(p)
                        && !changes.added.contains(p)
                });
                paths
            }
            _ => Paths::new(),
        }
    }

    /// What anybody may rely on after an apply, whatever the rules are in detail.
    fn promises(&self, config: &Value, writer: &Writer<'_>, object: &Value) {
        let entries = &object["metadata"]["managedFields"];
        let (said, after) = (self.flat(config), self.flat(object));
        let (before, now) = (self.managers(), model::managers(entries));
        assert!(managers::is_readable(entries), "{entries:#}");
        assert!(now.is_empty() || entries.as_array().is_some_and(|list| !list.is_empty()));
        let mine =
            |key: &model::Key| key.0 == writer.manager && key.1 && key.3 == writer.subresource;
        let all: Paths = now.values().flat_map(|(_, paths)| paths.clone()).collect();
        let own: Paths = now
            .iter()
            .filter(|(key, _)| mine(key))
            .flat_map(|(_, (_, p))| p.clone())
            .collect();
        for (path, part) in said
            .iter()
            .filter(|(path, _)| model::is_ownable(path, self.door(writer)))
        {
            if let model::Part::Leaf(_) = part {
                assert_eq!(
                    after.get(path),
                    Some(part),
                    "what is applied is there: {path:?}"
                );
                assert!(own.contains(path), "and owned by who applied it: {path:?}");
            }
        }
        for (key, (_, paths)) in &before {
            for path in paths {
                let there = after.get(path);
                let kept = all.contains(path);
                if mine(key)
                    && !own.contains(path)
                    && !kept
                    && matches!(there, Some(model::Part::Leaf(_)))
                {
                    panic!("{path:?} was dropped by its last owner and is still there");
                }
                let was = self.live.as_ref().map(|live| self.flat(live));
                if !mine(key) && there.is_some() && was.is_some_and(|was| was.get(path) == there) {
                    assert!(
                        now.get(key).is_some_and(|(_, paths)| paths.contains(path)),
                        "{path:?} was lost by {key:?}"
                    );
                }
            }
        }
    }

    fn update(&mut self, mut new: Value, sent: Sent, writer: &Writer<'_>) {
        let schema = self.schema().0.clone();
        let read = new["metadata"]["managedFields"].clone();
        let entries = match sent {
            Sent::AsRead => read,
            Sent::Absent => Value::Null,
            Sent::Nothing => json!([]),
            Sent::OneEmpty => json!([{}]),
            Sent::Garbage => json!([{"manager": "x", "operation": "Fly"}]),
            Sent::Renamed => renamed(&read, "Update", "a", "b"),
        };
        let mut may = None;
        if let (Sent::Nothing | Sent::OneEmpty, "") = (sent, writer.subresource) {
            may = Some(Managers::new());
        } else if let (Sent::Renamed, "") = (sent, writer.subresource) {
            may = Some(model::managers(&entries)).filter(|sent| !sent.is_empty());
        }
        if let Some(may) = &mut may {
            self.reconcile(may);
        }
        if entries.is_null() {
            new["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("managedFields");
        } else {
            new["metadata"]["managedFields"] = entries;
        }
        if schema.root().typed {
            complete(&schema, &mut new);
        }
        let (flat, before) = (self.flat(&new), self.managers());
        let old = self.live.as_ref().map(|live| self.flat(live));
        let names = (writer.manager, writer.api_version, self.door(writer));
        let nothing = self.nothing();
        let expected = model::update(
            old.as_ref().map(|old| (old, &before)),
            &nothing,
            &flat,
            may,
            names,
        );
        track_update(&schema, self.live.as_ref(), &mut new, writer);
        assert_eq!(self.flat(&new), flat);
        let entries = &new["metadata"]["managedFields"];
        assert_eq!(
            model::managers(entries),
            expected,
            "the managers of\n{new:#}"
        );
        assert!(managers::is_readable(entries));
        if let Some(live) = &self.live {
            // What a write cannot change stays.
            let (from, to) = if writer.subresource.is_empty() {
                (live.clone(), &mut new)
            } else {
                let mut whole = live.clone();
                whole["metadata"]["managedFields"] = entries.clone();
                (std::mem::replace(&mut new, whole), &mut new)
            };
            match from.get("status") {
                Some(status) => to["status"] = status.clone(),
                None => drop(to.as_object_mut().unwrap().remove("status")),
            }
        } else {
            new.as_object_mut().unwrap().remove("status");
        }
        self.settle(&mut new);
    }

    /// Stores an object.
    fn settle(&mut self, object: &mut Value) {
        let schema = self.schema().0;
        if schema.root().typed {
            complete(schema, object);
        }
        if object["metadata"]["managedFields"].is_null() {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("managedFields");
        }
        self.live = Some(object.take());
    }

    pub(super) fn step(&mut self, write: &Write) {
        match write {
            Write::Apply {
                who,
                say,
                force,
                status,
                later,
            } => {
                if *status && self.live.is_none() {
                    return;
                }
                let version = usize::from(*later);
                let mut config = self.config(say, *status);
                config["apiVersion"] = self.types.api_versions[version].into();
                if let Some(live) = &mut self.live {
                    live["apiVersion"] = config["apiVersion"].clone();
                }
                let writer = self.writer(MANAGERS[*who], version, *status);
                self.apply(config, &writer, *force);
            }
            Write::Update {
                who,
                put,
                cut,
                sent,
                status,
            } => {
                let new = self.changed(put, cut);
                let status = *status && self.live.is_some();
                self.update(new, *sent, &self.writer(MANAGERS[*who], 0, status));
            }
            Write::Patch { who, put, cut } => {
                let Some(live) = &self.live else { return };
                let patch = difference_as_patch(live, &self.changed(put, cut));
                let new = crate::patch::merge(live, patch.to_string().as_bytes(), &mut Vec::new())
                    .unwrap();
                self.update(new, Sent::AsRead, &self.writer(MANAGERS[*who], 0, false));
            }
            Write::Client { say } => {
                let mut config = self.config(say, false);
                if config["metadata"]["annotations"].is_null() {
                    config["metadata"]["annotations"] = json!({});
                }
                let mut new = self.changed(say, &[]);
                put(
                    &mut new,
                    &[
                        Step::Field("metadata"),
                        Step::Field("annotations"),
                        Step::Field(ANNOTATION),
                    ],
                    Some(&config.to_string().into()),
                );
                self.update(new, Sent::AsRead, &self.writer(CLIENT_SIDE, 0, false));
            }
            Write::Migrate { to } => {
                let Some(live) = &self.live else { return };
                let mut new = live.clone();
                let entries = &new["metadata"]["managedFields"];
                new["metadata"]["managedFields"] =
                    renamed(entries, "Update", CLIENT_SIDE, MANAGERS[*to]);
                self.migrate(new, MANAGERS[*to]);
            }
            Write::Reshape => self.shape += 1,
            Write::Delete => self.live = None,
        }
    }

    /// Takes `managedFields` as kubectl sends them.
    fn migrate(&mut self, mut new: Value, by: &str) {
        let mut expected = model::managers(&new["metadata"]["managedFields"]);
        self.reconcile(&mut expected);
        let schema = self.schema().0.clone();
        track_update(
            &schema,
            self.live.as_ref(),
            &mut new,
            &self.writer(by, 0, false),
        );
        assert_eq!(model::managers(&new["metadata"]["managedFields"]), expected);
        self.settle(&mut new);
    }
}

/// `managedFields` in which the updates of one manager have become applies of another.
fn renamed(entries: &Value, operation: &str, from: &str, to: &str) -> Value {
    let mut out: Vec<Value> = Vec::new();
    for entry in entries.as_array().into_iter().flatten() {
        let mut entry = entry.clone();
        if entry["manager"] == from && entry["operation"] == operation {
            entry["manager"] = to.into();
            entry["operation"] = "Apply".into();
        }
        let same = |known: &&mut Value| {
            let keys: &[&str] = match entry["operation"] == "Apply" {
                true => &["manager", "operation", "subresource"],
                false => &["manager", "operation", "subresource", "apiVersion"],
            };
            keys.iter().all(|key| known.get(key) == entry.get(key))
        };
        match out.iter_mut().find(same) {
            Some(known) => {
                let mut set = Set::decode(&known["fieldsV1"]).unwrap();
                set.merge(Set::decode(&entry["fieldsV1"]).unwrap());
                known["fieldsV1"] = set.encode();
            }
            None => out.push(entry),
        }
    }
    match out.is_empty() {
        true => Value::Null,
        false => out.into(),
    }
}

/// What built-in types always have.
fn complete(schema: &Schema, object: &mut Value) {
    crate::schema::defaults::show(schema.root(), object);
}

/// The merge patch from one object to another.
fn difference_as_patch(old: &Value, new: &Value) -> Value {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        return new.clone();
    };
    let mut patch = serde_json::Map::new();
    for key in a.keys().filter(|key| !b.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in b.iter().filter(|(key, value)| a.get(*key) != Some(*value)) {
        let change = a
            .get(key)
            .map_or_else(|| value.clone(), |old| difference_as_patch(old, value));
        patch.insert(key.clone(), change);
    }
    patch.into()
}

/// A path as conflicts name it.
fn shown(path: &[String]) -> String {
    let step = |step: &String| Element::parse(step).unwrap().to_string();
    path.iter().map(step).collect()
}
