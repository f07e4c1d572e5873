//! What the server serves, in the words of discovery: the old documents and the aggregated one.

mod negotiate;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) use negotiate::Wanted;

use crate::resource::{Group, Resource, Snapshot, Subresource, Verbs};
use crate::schema::openapi::{ResourceInfo, SubresourceInfo};

/// Bytes with their ETag.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
}

impl Document {
    pub(crate) fn new(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(&bytes)));
        Self { bytes, etag }
    }
}

/// The aggregated documents of a snapshot, made once.
#[derive(Debug)]
pub(crate) struct Documents {
    /// `/api`
    pub(crate) core: Document,
    /// `/apis`
    pub(crate) groups: Document,
}

impl Documents {
    pub(crate) fn of(snapshot: &Snapshot) -> &Self {
        snapshot.documents.get_or_init(|| Self {
            core: Document::new(&aggregated(snapshot, |group| group.name.is_empty())),
            groups: Document::new(&aggregated(snapshot, |group| !group.name.is_empty())),
        })
    }
}

fn aggregated(snapshot: &Snapshot, wanted: impl Fn(&Group) -> bool) -> Value {
    let items = snapshot
        .groups
        .iter()
        .filter(|group| wanted(group))
        .map(|group| {
            let versions = group.versions.iter().map(|version| {
                json!({
                    "version": version.name, "freshness": "Current",
                    "resources": version.resources.iter().map(|r| entry(r)).collect::<Value>(),
                })
            });
            let mut metadata = json!({ "creationTimestamp": null });
            if !group.name.is_empty() {
                metadata["name"] = (*group.name).into();
            }
            json!({ "metadata": metadata, "versions": versions.collect::<Value>() })
        });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items.collect::<Value>(),
    })
}

/// Tells clients that migrate what is stored when that changes.
fn storage_hash(resource: &Resource) -> String {
    let what = format!("{}/{}", resource.stored, resource.kind);
    let digest = Sha256::digest(what.as_bytes());
    BASE64_STANDARD.encode(digest.get(..8).unwrap_or_default())
}

fn entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource.verbs),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter().map(|subresource| {
            let (group, version, spoken) = spoken(resource, subresource);
            json!({
                "subresource": subresource.name(),
                "responseKind": kind(&group, &version, &spoken),
                "verbs": verbs(subresource.verbs()),
            })
        });
        entry["subresources"] = subresources.collect();
    }
    entry
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn verbs(verbs: Verbs) -> Value {
    verbs
        .iter()
        .map(|verb| Value::from(verb.as_str()))
        .collect()
}

/// Group, version and kind that a subresource speaks.
fn spoken(resource: &Resource, subresource: &Subresource) -> (String, String, String) {
    match subresource.speaks(&resource.kind) {
        Some(other) => (other.group.into(), other.version.into(), other.kind.into()),
        None => (
            resource.group.to_string(),
            resource.version.to_string(),
            resource.kind.to_string(),
        ),
    }
}

/// `/api`
pub(crate) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`
pub(crate) fn group_list(snapshot: &Snapshot) -> Value {
    let groups = snapshot
        .groups
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(api_group);
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Value>() })
}

/// `/apis/<group>`
pub(crate) fn group(group: &Group) -> Value {
    let mut value = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), api_group(group)) {
        value.extend(fields);
    }
    value
}

fn api_group(group: &Group) -> Value {
    let version =
        |name: &str| json!({ "groupVersion": format!("{}/{name}", group.name), "version": name });
    let versions: Vec<Value> = group.versions.iter().map(|v| version(&v.name)).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({ "name": group.name, "versions": versions, "preferredVersion": preferred })
}

/// `/api/v1`, `/apis/<group>/<version>`
pub(crate) fn resource_list(
    group: &str,
    version: &str,
    resources: &[std::sync::Arc<Resource>],
) -> Value {
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut list = Vec::new();
    for resource in resources {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular,
            "namespaced": resource.namespaced, "kind": resource.kind,
            "verbs": verbs(resource.verbs),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if resource.review.is_none() {
            entry["storageVersionHash"] = storage_hash(resource).into();
        }
        list.push(entry);
        for subresource in &resource.subresources {
            let (spoken_group, spoken_version, kind) = spoken(resource, subresource);
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, subresource.name()),
                "singularName": "", "namespaced": resource.namespaced, "kind": kind,
                "verbs": verbs(subresource.verbs()),
            });
            if spoken_group != *resource.group || spoken_version != *resource.version {
                entry["group"] = spoken_group.into();
                entry["version"] = spoken_version.into();
            }
            list.push(entry);
        }
    }
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": list,
    })
}

/// What the OpenAPI documents are made of.
pub(crate) fn openapi_info(resource: &Resource) -> ResourceInfo {
    let names = |verbs: Verbs| verbs.iter().map(|verb| verb.as_str().to_owned()).collect();
    let subresources = resource.subresources.iter().map(|subresource| {
        let (group, version, kind) = spoken(resource, subresource);
        let verbs = names(subresource.verbs());
        SubresourceInfo {
            name: subresource.name().to_owned(),
            group,
            version,
            kind,
            verbs,
        }
    });
    ResourceInfo {
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        kind: resource.kind.to_string(),
        plural: resource.plural.to_string(),
        namespaced: resource.namespaced,
        verbs: names(resource.verbs),
        returns_deleted: resource.returns_deleted,
        subresources: subresources.collect(),
        custom_schema: resource.custom.as_ref().map(|custom| custom.schema.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Registry;

    #[test]
    fn both_forms_name_every_resource() {
        let snapshot = Registry::builtin().snapshot();
        let documents = Documents::of(&snapshot);
        let all = [&documents.core, &documents.groups];
        let all: Vec<Value> = all
            .iter()
            .map(|document| serde_json::from_slice(&document.bytes).unwrap())
            .collect();
        for resource in snapshot.iter() {
            let named = all.iter().any(|list| {
                list["items"].as_array().unwrap().iter().any(|group| {
                    group["metadata"]["name"].as_str().unwrap_or_default() == &*resource.group
                        && group["versions"].as_array().unwrap().iter().any(|version| {
                            version["version"] == *resource.version
                                && version["resources"]
                                    .as_array()
                                    .unwrap()
                                    .iter()
                                    .any(|entry| entry["resource"] == *resource.plural)
                        })
                })
            });
            assert!(named, "{resource:?}");
        }
        let pods = resource_list("", "v1", &snapshot.group("").unwrap().versions[0].resources);
        let names: Vec<&str> = pods["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"pods/log") && names.contains(&"serviceaccounts/token"));
    }
}
