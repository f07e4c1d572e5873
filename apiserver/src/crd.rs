//! CustomResourceDefinitions: their conditions, and the resources they add while the server runs.

mod cleanup;
mod names;
mod resources;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::error::StatusError;
use crate::object;
use crate::resource::Companion;
use crate::selection::Selection;
use crate::storage::{Revision, Txn};

pub(crate) use cleanup::follow;

/// Keeps a definition until its instances are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
pub(crate) const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// The companion of CustomResourceDefinitions: a definition is established by the write that makes it.
#[derive(Debug)]
pub(crate) struct Definitions;

impl Companion for Definitions {
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        if let Some(definition) = new {
            if old.is_none() {
                add_finalizer(definition);
            }
            let others = names::Taken::collect(server, definition);
            settle(definition, &others);
        }
        Ok(Txn::default())
    }

    fn written(&self, server: &ApiServer) {
        sync(server);
    }
}

fn add_finalizer(definition: &mut Value) {
    let finalizers = &mut definition["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|finalizer| finalizer == FINALIZER) => {}
        Some(list) => list.push(FINALIZER.into()),
        None => *finalizers = json!([FINALIZER]),
    }
}

/// Accepts names that are free, and establishes the definition once all are.
fn settle(definition: &mut Value, taken: &names::Taken) {
    let wanted = names::complete(&definition["spec"]["names"]);
    let before = definition["status"]["acceptedNames"].clone();
    let (accepted, conflict) = taken.accept(&wanted, &before);
    definition["status"]["acceptedNames"] = accepted;
    let named = conflict.is_none();
    match conflict {
        None => set_condition(
            definition,
            "NamesAccepted",
            true,
            "NoConflicts",
            "no conflicts found",
        ),
        Some((reason, message)) => {
            set_condition(definition, "NamesAccepted", false, reason, &message);
        }
    }
    let was_established = condition(definition, "Established") == Some("True");
    if named || was_established {
        let message = "the initial names have been accepted";
        set_condition(
            definition,
            "Established",
            true,
            "InitialNamesAccepted",
            message,
        );
    } else {
        let message = "not all names are accepted";
        set_condition(definition, "Established", false, "NotAccepted", message);
    }
    if !definition["metadata"]["deletionTimestamp"].is_null() {
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will \
                       begin soon";
        set_condition(
            definition,
            "Terminating",
            true,
            "InstanceDeletionPending",
            message,
        );
    }
    store_version(definition);
}

/// The storage version joins the versions in which objects may be stored.
fn store_version(definition: &mut Value) {
    let versions = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten();
    let storage = versions
        .into_iter()
        .find(|version| version["storage"] == true);
    let Some(name) = storage.map(|version| version["name"].clone()) else {
        return;
    };
    let stored = &mut definition["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(list) if list.contains(&name) => {}
        Some(list) => list.push(name),
        None => *stored = json!([name]),
    }
}

pub(crate) fn condition<'v>(definition: &'v Value, kind: &str) -> Option<&'v str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)?["status"]
        .as_str()
}

fn set_condition(definition: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now.map(|now| now.to_string()).unwrap_or_default(),
    });
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = definition["status"]["conditions"].as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|have| have["type"] == kind) {
        Some(have) if have["status"] == status && have["reason"] == reason => {}
        Some(have) => *have = condition,
        None => conditions.push(condition),
    }
}

/// Which revision of each definition is being served.
#[derive(Debug, Default)]
pub(crate) struct Served(Mutex<HashMap<Arc<str>, Revision>>);

/// Brings the registry up to date with the definitions in the cache.
pub(crate) fn sync(server: &ApiServer) {
    server.cache.catch_up();
    let Some(resource) = server
        .registry
        .snapshot()
        .find_preferred("apiextensions.k8s.io", "customresourcedefinitions")
    else {
        return;
    };
    let kind = server.cache.kind(PREFIX);
    let page = kind.page(&Selection::all(&resource, ""), None, 0, 0);
    let mut served = server.definitions.0.lock();
    let mut gone: Vec<Arc<str>> = served.keys().cloned().collect();
    for definition in page.objects {
        let name = definition.key.strip_prefix(PREFIX).unwrap_or_default();
        gone.retain(|have| &**have != name);
        if served.get(name) == Some(&definition.revision) {
            continue;
        }
        match object::parse(&definition.bytes) {
            Ok(value) => serve(server, name, &value),
            Err(error) => tracing::error!(name, %error, "a stored definition is not readable"),
        }
        served.insert(name.into(), definition.revision);
    }
    for name in gone {
        server.registry.replace_custom(&name, Vec::new());
        served.remove(&name);
    }
}

fn serve(server: &ApiServer, name: &str, definition: &Value) {
    let established = condition(definition, "Established") == Some("True");
    let resources = if established {
        resources::build(definition, &server.callouts)
    } else {
        Vec::new()
    };
    let prefixes: Vec<Arc<str>> = resources.iter().map(|r| r.prefix.clone()).collect();
    server
        .registry
        .replace_custom(name, resources.into_iter().map(Arc::new).collect());
    for prefix in prefixes {
        server.cache.refresh_fields(&prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": {"plural": plural, "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true}]},
        })
    }

    #[test]
    fn free_names_are_accepted_at_once() {
        let mut widget = definition("widgets");
        settle(&mut widget, &names::Taken::default());
        assert_eq!(condition(&widget, "NamesAccepted"), Some("True"));
        assert_eq!(condition(&widget, "Established"), Some("True"));
        assert_eq!(widget["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(widget["status"]["acceptedNames"]["listKind"], "WidgetList");
        let again = widget.clone();
        settle(&mut widget, &names::Taken::default());
        assert_eq!(widget, again);
    }

    #[test]
    fn a_taken_name_keeps_the_definition_from_being_served() {
        let mut widget = definition("widgets");
        let taken = names::Taken {
            kinds: vec!["Widget".to_owned()],
            ..Default::default()
        };
        settle(&mut widget, &taken);
        assert_eq!(condition(&widget, "NamesAccepted"), Some("False"));
        assert_eq!(condition(&widget, "Established"), Some("False"));
    }
}
