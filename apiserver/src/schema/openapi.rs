//! OpenAPI documents: v3 for each group version, and the v2 aggregate.
//!
//! Built on request from the same sources as the compiled schemas; callers cache them.

mod components;
mod merge;
mod operations;
mod proto;
mod render;

use bytes::Bytes;
pub(crate) use merge::cut;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

/// What OpenAPI needs to know about one served kind.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    /// Empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// Whether paths have `namespaces/{namespace}`.
    pub namespaced: bool,
    /// `get`, `list`, `create`, …
    pub verbs: Vec<String>,
    /// A deletion is answered with the object instead of a `Status`.
    pub returns_deleted: bool,
    /// Subresources with the kind they take, such as `("scale", "autoscaling", "v1", "Scale")`.
    pub subresources: Vec<SubresourceInfo>,
    /// For custom kinds: the version's `openAPIV3Schema`.
    pub custom_schema: Option<Value>,
}

/// A subresource's path and the kind that goes through it.
#[derive(Clone, Debug)]
pub struct SubresourceInfo {
    /// `status`
    pub name: String,
    /// Group of the kind.
    pub group: String,
    /// Version of the kind.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// `get`, `update`, `patch`, `create`
    pub verbs: Vec<String>,
}

/// A serialized document and the upper-case hexadecimal SHA-512 of it, which is its ETag and the
/// `hash` parameter in the `/openapi/v3` index.
#[derive(Clone, Debug)]
pub struct Document {
    /// The bytes to send.
    pub bytes: Bytes,
    /// The hash.
    pub hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = hex::encode_upper(Sha512::digest(&bytes));
        Self {
            bytes: bytes.into(),
            hash,
        }
    }
}

/// The version of the API that the documents describe.
const VERSION: &str = "v1.37.0";

/// Which of the two specifications a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edition {
    V2,
    V3,
}

impl Edition {
    /// Where definitions are.
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

fn security() -> Value {
    json!({"BearerToken": {
        "type": "apiKey", "name": "authorization", "in": "header",
        "description": "Bearer Token authentication",
    }})
}

/// The OpenAPI v3 document of one group version.
pub fn v3(group: &str, version: &str, resources: &[ResourceInfo]) -> Document {
    let edition = Edition::V3;
    let mut paths = Map::new();
    for (path, item) in operations::paths(group, version, resources) {
        paths.insert(path, render::item(&item, edition));
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components::definitions(resources, edition),
            "securitySchemes": security(),
        },
    });
    Document::new(document.to_string().into_bytes())
}

/// The `/openapi/v3` index; `documents` are (`apis/apps/v1`, hash) pairs.
pub fn v3_index(documents: &[(String, String)]) -> Value {
    let entry = |(path, hash): &(String, String)| {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path.clone(), json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = documents.iter().map(entry).collect();
    json!({"paths": paths})
}

fn swagger(resources: &[ResourceInfo]) -> Value {
    let edition = Edition::V2;
    let mut paths = Map::new();
    let mut versions: Vec<(&str, &str)> = resources
        .iter()
        .map(|r| (r.group.as_str(), r.version.as_str()))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    for (group, version) in versions {
        let own: Vec<ResourceInfo> = resources
            .iter()
            .filter(|r| r.group == group && r.version == version)
            .cloned()
            .collect();
        for (path, item) in operations::paths(group, version, &own) {
            paths.insert(path, render::item(&item, edition));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": components::definitions(resources, edition),
        "securityDefinitions": security(),
        "security": [{"BearerToken": []}],
    })
}

/// What is served here, and what was cut out of the documents of others.
fn merged(resources: &[ResourceInfo], others: &[&Value]) -> Value {
    let mut document = swagger(resources);
    for other in others {
        merge::merge(&mut document, other);
    }
    document
}

/// The `/openapi/v2` document as JSON, with what [`cut`] kept of other servers' documents.
pub fn v2(resources: &[ResourceInfo], others: &[&Value]) -> Document {
    Document::new(merged(resources, others).to_string().into_bytes())
}

/// The `/openapi/v2` document as gnostic protobuf, which kubectl up to 1.26 insists on
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(resources: &[ResourceInfo], others: &[&Value]) -> Document {
    Document::new(proto::document(&merged(resources, others)))
}

#[cfg(test)]
mod tests;
