//! Discovery with the groups of other servers in it.

use serde_json::{Value, json};

use super::{Aggregation, External, Served};
use crate::discovery::{self, Document, Documents};
use crate::resource::Snapshot;

impl Aggregation {
    /// `/apis`
    pub(crate) fn group_list(&self, snapshot: &Snapshot) -> Value {
        let mut list = discovery::group_list(snapshot);
        if let Some(groups) = list["groups"].as_array_mut() {
            add_groups(groups, &self.current.load());
        }
        list
    }

    /// `/apis/<group>`; `None` when nobody serves it.
    pub(crate) fn group(&self, snapshot: &Snapshot, name: &str) -> Option<Value> {
        let own = snapshot.group(name).filter(|group| !group.name.is_empty());
        let mut groups: Vec<Value> = own.map(discovery::group).into_iter().collect();
        let served = self.current.load();
        let externals = served.externals.iter().filter(|e| e.group == name);
        let served = Served {
            externals: externals.cloned().collect(),
            generation: 0,
        };
        add_groups(&mut groups, &served);
        let mut group = groups.into_iter().next()?;
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        Some(group)
    }

    /// The aggregated form of `/apis`.
    pub(crate) fn document(&self, snapshot: &Snapshot) -> Document {
        let own = &Documents::of(snapshot).groups;
        let served = self.current.load();
        if served.externals.is_empty() {
            return own.clone();
        }
        let key = (snapshot.generation, served.generation);
        let mut kept = self.document.lock();
        if let Some((of, document)) = &*kept
            && *of == key
        {
            return document.clone();
        }
        let mut list: Value = serde_json::from_slice(&own.bytes).unwrap_or_default();
        if let Some(items) = list["items"].as_array_mut() {
            add_items(items, &served);
        }
        let document = Document::new(&list);
        *kept = Some((key, document.clone()));
        document
    }

    /// Paths and hashes of the others' OpenAPI documents.
    pub(crate) fn openapi(&self) -> Vec<(String, String)> {
        let served = self.current.load();
        let available = served.externals.iter().filter(|e| e.available);
        let documents = available.map(|external| {
            let path = external.path();
            let hash = Document::new(&external.resources).etag;
            let path = path.trim_start_matches('/').to_owned();
            (path, hash.trim_matches('"').to_owned())
        });
        documents.collect()
    }
}

/// The others by priority: of their groups first, then of their versions.
fn ordered(served: &Served) -> Vec<&External> {
    let mut all: Vec<&External> = served.externals.iter().map(|e| &**e).collect();
    all.sort_by(|a, b| {
        let key = |e: &External| (-e.group_priority, e.group.clone(), -e.version_priority);
        key(a).cmp(&key(b))
    });
    all
}

fn add_groups(groups: &mut Vec<Value>, served: &Served) {
    for external in ordered(served) {
        let (group, version) = (&external.group, &external.version);
        let entry = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
        let own = groups
            .iter_mut()
            .find(|have| have["name"] == group.as_str());
        match own.and_then(|own| own["versions"].as_array_mut()) {
            Some(versions) => versions.push(entry),
            None => groups.push(json!({
                "name": group, "versions": [entry.clone()], "preferredVersion": entry,
            })),
        }
    }
}

fn add_items(items: &mut Vec<Value>, served: &Served) {
    for external in ordered(served) {
        let freshness = if external.available {
            "Current"
        } else {
            "Stale"
        };
        let entry = json!({
            "version": external.version, "freshness": freshness, "resources": resources(external),
        });
        let group = external.group.as_str();
        let own = items
            .iter_mut()
            .find(|have| have["metadata"]["name"] == group);
        match own.and_then(|own| own["versions"].as_array_mut()) {
            Some(versions) => versions.push(entry),
            None => items.push(json!({
                "metadata": { "name": group, "creationTimestamp": null }, "versions": [entry],
            })),
        }
    }
}

/// The list of resources in the words of the aggregated form.
fn resources(external: &External) -> Value {
    let list = external.resources["resources"].as_array();
    let kind = |entry: &Value| {
        let text = |key: &str, other: &str| match entry[key].as_str() {
            None | Some("") => other.to_owned(),
            Some(own) => own.to_owned(),
        };
        json!({
            "group": text("group", &external.group), "version": text("version", &external.version),
            "kind": entry["kind"],
        })
    };
    let mut out: Vec<Value> = Vec::new();
    for entry in list.into_iter().flatten() {
        let name = entry["name"].as_str().unwrap_or_default();
        if let Some((parent, subresource)) = name.split_once('/') {
            let entry = json!({
                "subresource": subresource, "responseKind": kind(entry), "verbs": entry["verbs"],
            });
            let parent = out.iter_mut().find(|have| have["resource"] == parent);
            if let Some(parent) = parent {
                match parent["subresources"].as_array_mut() {
                    Some(list) => list.push(entry),
                    None => parent["subresources"] = json!([entry]),
                }
            }
            continue;
        }
        let scope = if entry["namespaced"] == true {
            "Namespaced"
        } else {
            "Cluster"
        };
        let mut resource = json!({
            "resource": name, "responseKind": kind(entry), "scope": scope,
            "singularResource": entry["singularName"], "verbs": entry["verbs"],
        });
        for key in ["shortNames", "categories"] {
            if entry[key].is_array() {
                resource[key] = entry[key].clone();
            }
        }
        out.push(resource);
    }
    out.into()
}
