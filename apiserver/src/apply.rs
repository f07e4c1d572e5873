//! Server-side apply and the field ownership kept in `metadata.managedFields`.
//!
//! Follows Kubernetes' structured merge: a write by apply owns exactly what its configuration
//! says, other writes own what they changed, and what an applier no longer says is removed unless
//! somebody else owns it. Ownership recorded under another version of the kind is read as if its
//! fields had the same names.

mod compare;
mod last_applied;
mod managers;
mod merge;
mod overlay;
mod owned;
mod path;
mod prune;
mod set;
mod typed;

pub(crate) use overlay::overlay;

use jiff::Timestamp;
use serde_json::Value;

use self::compare::{Difference, compare};
use self::managers::{Manager, Operation};
use self::owned::Owned;
use self::set::Set;
use self::typed::Slot;
use crate::schema::Schema;
use crate::schema::defaults::show;
use crate::strategy::access::{Fields, ensure};

/// Who writes, and how: what one entry of `managedFields` is keyed by.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the first part of the user agent.
    pub manager: &'a str,
    /// The API version of the request, such as `apps/v1`.
    pub api_version: &'a str,
    /// Empty, or the subresource such as `status`.
    pub subresource: &'a str,
    /// The kind has a status subresource, so that other writes do not count for `status`.
    pub status_apart: bool,
    /// The time for the entry.
    pub now: Timestamp,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As Kubernetes words it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`
    pub field: String,
}

/// Why an apply failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields with other values: 409 `Conflict` with one `FieldManagerConflict` cause
    /// for each, whose message is `conflict with <manager>`.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied configuration is not usable: 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
}

fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        let Conflict { manager, field } = only;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut lines = Vec::new();
    let mut last = "";
    for conflict in conflicts {
        if conflict.manager != last {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = &conflict.manager;
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// Fields that nobody owns.
const SYSTEM: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

fn disown_system(set: &mut Set) {
    set.remove_field("apiVersion");
    set.remove_field("kind");
    set.strip_field("metadata", &SYSTEM);
}

/// What the resize subresource lets through of each container.
const RESIZABLE: [&str; 2] = ["resources", "resizePolicy"];

/// Leaves in a set what a write through this endpoint can change; everything else stays what and whose it was,
/// whatever the body says of it.
fn restrict(set: &mut Set, writer: &Writer<'_>, typed: bool) {
    match writer.subresource {
        "status" | "approval" if typed => set.keep_fields(&["status", "metadata"]),
        "status" => set.keep_fields(&["status"]),
        "ephemeralcontainers" => {
            set.keep_fields(&["spec"]);
            set.inside("spec", |spec| spec.keep_fields(&["ephemeralContainers"]));
        }
        "resize" => {
            set.keep_fields(&["spec"]);
            set.inside("spec", |spec| {
                spec.keep_fields(&["containers", "initContainers"]);
                for list in ["containers", "initContainers"] {
                    spec.inside(list, |items| {
                        items.each_child(|item| item.keep_fields(&RESIZABLE));
                    });
                }
            });
        }
        _ if writer.status_apart => set.remove_field("status"),
        _ => {}
    }
}

/// Applies `config` onto `live` (`None`: the object does not exist yet) for one manager and returns
/// the new object with its `managedFields`. When nothing changes, neither do they.
///
/// # Errors
/// Others own what the configuration changes and `force` is not set, or the configuration brings
/// `managedFields` or lists whose items have no or the same keys.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    mut config: Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if !config.at("metadata").items("managedFields").is_empty() {
        let detail = "metadata.managedFields must be nil".to_owned();
        return Err(ApplyError::BadRequest(detail));
    }
    narrow(&mut config, writer);
    let slot = Slot::root(schema.root());
    let mut said = typed::to_set(&config, slot).map_err(|e| malformed(schema, &config, &e))?;
    restrict(&mut said, writer, schema.root().typed);
    let mut set = said.clone();
    disown_system(&mut set);
    let step = Step {
        schema,
        live,
        writer,
        config,
        said,
        set,
    };
    match step.run(force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == "kubectl" => {
            step.upgrade(conflicts)
        }
        other => other,
    }
}

fn malformed(schema: &Schema, config: &Value, detail: &str) -> ApplyError {
    let meta = config.at("metadata");
    let (kind, version) = (schema.kind(), schema.api_version());
    let name = match meta.text("namespace") {
        "" => meta.text("name").to_owned(),
        namespace => format!("{namespace}/{}", meta.text("name")),
    };
    ApplyError::BadRequest(format!(
        "failed to create typed patch object ({name}; {version}, Kind={kind}): {detail}"
    ))
}

/// Takes out of a configuration what this write has no say in.
fn narrow(config: &mut Value, writer: &Writer<'_>) {
    let Some(map) = config.as_object_mut() else {
        return;
    };
    match writer.subresource {
        "status" => {
            map.retain(|k, _| matches!(k.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        }
        _ if writer.status_apart => {
            map.remove("status");
        }
        _ => {}
    }
}

/// One attempt to apply.
struct Step<'a> {
    schema: &'a Schema,
    live: Option<&'a Value>,
    writer: &'a Writer<'a>,
    config: Value,
    /// All that the configuration says, with the name and other fields that nobody owns: metadata is there even
    /// for one who owns nothing in it.
    said: Set,
    /// What the configuration owns.
    set: Set,
}

impl Step<'_> {
    fn slot(&self) -> Slot<'_> {
        Slot::root(self.schema.root())
    }

    /// The managers of the live object. One that nobody manages belongs to whoever was there
    /// before the first apply.
    fn managers(&self) -> Vec<Manager> {
        let Some(live) = self.live else {
            return Vec::new();
        };
        let entries = live.at("metadata").items("managedFields");
        let mut managers = managers::stored(entries.to_vec());
        if !managers.is_empty() {
            reconcile(&mut managers, self.schema);
            return managers;
        }
        let before = Writer {
            manager: managers::BEFORE_FIRST_APPLY,
            ..*self.writer
        };
        let mut manager = Manager::new(&before, Operation::Update);
        let difference = difference(&nothing(self.schema), live, self.schema, &before);
        manager.owned = Owned::Read(difference.changed());
        manager.touch(self.writer.now);
        vec![manager]
    }

    fn run(&self, force: bool) -> Result<Value, ApplyError> {
        let mut managers = self.managers();
        let mine = managers
            .iter()
            .position(|m| m.is(self.writer, Operation::Apply));
        let mut own = match mine {
            Some(at) => managers.remove(at),
            None => Manager::new(self.writer, Operation::Apply),
        };
        let last = std::mem::replace(&mut own.owned, Owned::Read(self.set.clone()));
        let last = last.set();
        own.api_version = self.writer.api_version.to_owned();
        let mut merged = self
            .live
            .cloned()
            .unwrap_or_else(|| Value::Object(Default::default()));
        merge::merge(&mut merged, self.config.clone(), self.slot());
        prune::prune(&mut merged, self.slot(), &last, &self.said, &managers);
        let difference = match self.live {
            Some(live) => difference(live, &merged, self.schema, self.writer),
            None => Difference::default(),
        };
        self.settle(&mut managers, &difference, force)?;
        if self.live.is_none() || !difference.is_empty() || self.set != *last {
            own.touch(self.writer.now);
        }
        managers.push(own);
        last_applied::sync(&mut merged, &self.config, self.writer);
        managers::encode(managers, &mut merged);
        Ok(merged)
    }

    /// Takes what changes away from the others, or tells who minds.
    fn settle(
        &self,
        managers: &mut [Manager],
        difference: &Difference,
        force: bool,
    ) -> Result<(), ApplyError> {
        let changed = difference.changed();
        let mut conflicts = Vec::new();
        for manager in managers.iter_mut() {
            let contested = manager.owned.intersection(&changed);
            if !force {
                let name = manager.describe();
                contested.for_each(&mut |field| {
                    let (manager, field) = (name.clone(), field.to_owned());
                    conflicts.push(Conflict { manager, field });
                });
            }
            manager.owned.subtract(&contested);
            manager.owned.subtract(&difference.removed);
        }
        if conflicts.is_empty() {
            Ok(())
        } else {
            Err(ApplyError::Conflicts(conflicts))
        }
    }
}

/// What differs in what this write can change, without what nobody owns.
fn difference(old: &Value, new: &Value, schema: &Schema, writer: &Writer<'_>) -> Difference {
    let mut difference = compare(old, new, Slot::root(schema.root()));
    for set in difference.each() {
        disown_system(set);
        restrict(set, writer, schema.root().typed);
    }
    difference
}

/// What a new object is compared with: one that has what is there even when nobody sent it.
fn nothing(schema: &Schema) -> Value {
    let mut nothing = Value::Object(Default::default());
    show(schema.root(), &mut nothing);
    nothing
}

/// Brings what managers own in line with the types of today: a list or map that has become atomic is owned as a
/// whole by whoever owned parts of it. Only custom types change.
fn reconcile(managers: &mut [Manager], schema: &Schema) {
    if schema.root().typed {
        return;
    }
    for manager in managers {
        manager.owned.reconcile(Slot::root(schema.root()));
    }
}

/// Brings `managedFields` of `new` up to date for a write that is not an apply. `old` is the stored
/// object (`None` on create). Call it after defaulting and admission, before storing.
///
/// An object that exists and that nobody manages, since a client has reset its `managedFields`, stays so until the
/// next apply: its owner would otherwise be whoever touches one field of it.
pub fn track_update(schema: &Schema, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let mut managers = managers::of_write(old, new, writer.subresource);
    if managers.is_empty() && old.is_some() {
        managers::encode(managers, new);
        return;
    }
    reconcile(&mut managers, schema);
    let absent = old.is_none().then(|| nothing(schema));
    let before = old.or(absent.as_ref()).unwrap_or(&Value::Null);
    let mut difference = difference(before, new, schema, writer);
    if !difference.is_empty() {
        for manager in &mut managers {
            for set in difference.each() {
                manager.owned.subtract(set);
            }
        }
        let taken = difference.changed();
        if !taken.is_empty() {
            let mine = managers
                .iter()
                .position(|m| m.is(writer, Operation::Update));
            let mut own = match mine {
                Some(at) => managers.remove(at),
                None => Manager::new(writer, Operation::Update),
            };
            own.owned.merge(taken);
            own.touch(writer.now);
            managers.push(own);
        }
    }
    managers::fold_old_updates(&mut managers);
    managers::encode(managers, new);
}

/// Puts `managedFields` back to what they were `before` when what admission made of them cannot be read. True when it did.
pub(crate) fn restore_unreadable(object: &mut Value, before: Option<Value>) -> bool {
    let before = before.unwrap_or_default();
    let now = object.at("metadata").at("managedFields");
    if *now == before || managers::is_readable(now) {
        return false;
    }
    if let Some(root) = object.as_object_mut() {
        ensure(root, "metadata").insert("managedFields".to_owned(), before);
    }
    true
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod tests;
