//! Paths that are not resources: discovery, OpenAPI, health, version, metrics, keys.

use std::collections::HashMap;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ApiServer;
use crate::config::Build;
use crate::discovery::{self, Documents, Wanted};
use crate::error::StatusError;
use crate::handler::Answer;
use crate::health;
use crate::past;
use crate::request::Syntax;
use crate::resource::{Resource, Snapshot};
use crate::schema::openapi::{self, Document};
use crate::sealing;

/// The version clients are told. The patch number is davit's own.
const GIT_VERSION: &str = "v1.37.0+davit";

/// Content type of the protobuf document. Clients ask for it with `@`, which is not allowed in an answer.
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// OpenAPI documents that were asked for, until the resources change.
#[derive(Debug, Default)]
pub(crate) struct OpenApiCache(Mutex<((u64, u64), HashMap<String, Document>)>);

impl OpenApiCache {
    /// `generation` is that of the resources here and of the others' documents.
    fn get(&self, generation: (u64, u64), name: &str, make: impl FnOnce() -> Document) -> Document {
        let mut cache = self.0.lock();
        if cache.0 != generation {
            *cache = (generation, HashMap::new());
        }
        cache.1.entry(name.to_owned()).or_insert_with(make).clone()
    }
}

impl ApiServer {
    /// Answers a path outside the resources.
    pub(crate) async fn other_path(
        &self,
        path: &str,
        parts: &Parts,
    ) -> Result<Response<Body>, StatusError> {
        if path == sealing::ROTATE && parts.method == http::Method::POST {
            return sealing::rotate_now(self).await;
        }
        if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            return Err(StatusError::method_not_allowed());
        }
        let snapshot = self.registry.snapshot();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            [] | [""] => Ok(json_answer(&root(&snapshot))),
            ["livez" | "readyz" | "healthz", ..] => {
                self.health(path, parts.uri.query().unwrap_or_default())
                    .await
            }
            ["davit", "history"] => past::describe(self, parts.uri.query().unwrap_or_default()),
            ["version"] => Ok(json_answer(&version(&self.config.build))),
            ["metrics"] => {
                let mut out = self.metrics.render(&self.cache, &self.store.status());
                self.fairness.render(&mut out);
                Ok(text(StatusCode::OK, out))
            }
            ["api"] | ["apis"] => self.discovery_root(&snapshot, path, parts),
            ["api", version] => resources(parts, &snapshot, "", version),
            ["apis", group, version] => resources(parts, &snapshot, group, version),
            ["apis", group] => {
                let group = self.aggregation.group(&snapshot, group);
                discovered(parts, group.ok_or_else(StatusError::no_such_path)?)
            }
            ["openapi", "v2"] => Ok(self.openapi_v2(&snapshot, parts)),
            ["openapi", "v3"] => {
                let mut documents = index(&snapshot);
                documents.extend(self.aggregation.openapi());
                Ok(json_answer(&openapi::v3_index(&documents)))
            }
            ["openapi", "v3", rest @ ..] => self.openapi_v3(&snapshot, &rest.join("/"), parts),
            [".well-known", "openid-configuration"] => Ok(json_answer(
                &self.authenticator.token_issuer().discovery_document(),
            )),
            ["openid", "v1", "jwks"] => {
                let mut answer = json_answer(&self.authenticator.token_issuer().key_set());
                let kind = HeaderValue::from_static("application/jwk-set+json");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                Ok(answer)
            }
            _ => Err(StatusError::no_such_path()),
        }
    }

    fn discovery_root(
        &self,
        snapshot: &Snapshot,
        path: &str,
        parts: &Parts,
    ) -> Result<Response<Body>, StatusError> {
        let core = path == "/api";
        let form = match Wanted::parse(accepted(parts))? {
            Wanted::Aggregated(form) => form,
            Wanted::Plain(_) if core => {
                let address = self.config.listen.to_string();
                return discovered(parts, discovery::core_versions(&address));
            }
            Wanted::Plain(_) => return discovered(parts, self.aggregation.group_list(snapshot)),
        };
        let document = if core {
            Documents::of(snapshot).core.clone()
        } else {
            self.aggregation.document(snapshot)
        };
        let (bytes, media) = form.of(&document)?;
        let mut response = tagged(parts, &document.etag, bytes);
        let headers = response.headers_mut();
        if let Ok(media) = HeaderValue::from_str(&media) {
            headers.insert(header::CONTENT_TYPE, media);
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        Ok(response)
    }

    fn openapi_v2(&self, snapshot: &Snapshot, parts: &Parts) -> Response<Body> {
        let protobuf = accepted(parts).contains("proto-openapi.spec.v2");
        let name = if protobuf { "v2+protobuf" } else { "v2" };
        let document = self.aggregation.openapi_v2(|generation, others| {
            let generation = (snapshot.generation, generation);
            self.openapi.get(generation, name, || {
                let infos = snapshot.iter().map(|r| discovery::openapi_info(r));
                let infos: Vec<_> = infos.collect();
                if protobuf {
                    openapi::v2_protobuf(&infos, others)
                } else {
                    openapi::v2(&infos, others)
                }
            })
        });
        let mut response = tagged(parts, &format!("\"{}\"", document.hash), document.bytes);
        if protobuf {
            let kind = HeaderValue::from_static(OPENAPI_V2);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }

    fn openapi_v3(
        &self,
        snapshot: &Snapshot,
        name: &str,
        parts: &Parts,
    ) -> Result<Response<Body>, StatusError> {
        let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
            ["api", version] => (String::new(), (*version).to_owned()),
            ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
            _ => return Err(StatusError::no_such_path()),
        };
        let found = snapshot
            .group(&group)
            .and_then(|group| group.versions.iter().find(|have| *have.name == *version));
        let found = found.ok_or_else(StatusError::no_such_path)?;
        let generation = (
            snapshot.generation,
            self.aggregation.openapi_v2(|generation, _| generation),
        );
        let document = self.openapi.get(generation, name, || {
            let infos: Vec<_> = found
                .resources
                .iter()
                .map(|r| discovery::openapi_info(r))
                .collect();
            openapi::v3(&group, &version, &infos)
        });
        let hash = version_hash(&group, &version, &found.resources);
        Ok(tagged(parts, &format!("\"{hash}\""), document.bytes))
    }
}

fn root(snapshot: &Snapshot) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in snapshot
        .groups
        .iter()
        .filter(|group| !group.name.is_empty())
    {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(
            group
                .versions
                .iter()
                .map(|v| format!("/apis/{}/{}", group.name, v.name)),
        );
    }
    let rest = ["/metrics", "/openapi/v2", "/openapi/v3", "/version"];
    paths.extend(rest.map(str::to_owned));
    paths.extend(health::paths());
    paths.sort_unstable();
    json!({ "paths": paths })
}

fn version(build: &Build) -> Value {
    json!({
        "major": "1", "minor": "37", "gitVersion": GIT_VERSION, "gitCommit": build.commit,
        "gitTreeState": build.tree, "buildDate": build.date, "goVersion": "",
        "compiler": build.compiler,
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// Kubernetes' name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn resources(
    parts: &Parts,
    snapshot: &Snapshot,
    group: &str,
    version: &str,
) -> Result<Response<Body>, StatusError> {
    let found = snapshot.group(group);
    let found = found.and_then(|group| group.versions.iter().find(|have| *have.name == *version));
    let found = found.ok_or_else(StatusError::no_such_path)?;
    let list = discovery::resource_list(group, version, &found.resources);
    discovered(parts, list)
}

fn accepted(parts: &Parts) -> &str {
    let header = parts.headers.get(header::ACCEPT);
    header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// A document of discovery in the syntax that the client wants.
fn discovered(parts: &Parts, mut document: Value) -> Result<Response<Body>, StatusError> {
    let Wanted::Plain(accept) = Wanted::parse(accepted(parts))? else {
        // Only the roots have the aggregated form.
        return Ok(json_answer(&document));
    };
    if accept.syntax == Syntax::Protobuf {
        // The list of the oldest versions has none in JSON.
        document["apiVersion"] = "v1".into();
    }
    let mut response = Answer::document(accept, StatusCode::OK, document)?.into_response();
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

/// Paths and hashes of the OpenAPI v3 documents. The hashes are of what the documents are made from, so that
/// the index needs none of them.
fn index(snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut documents = Vec::new();
    for group in &snapshot.groups {
        for version in &group.versions {
            let path = if group.name.is_empty() {
                format!("api/{}", version.name)
            } else {
                format!("apis/{}/{}", group.name, version.name)
            };
            let hash = version_hash(&group.name, &version.name, &version.resources);
            documents.push((path, hash));
        }
    }
    documents
}

fn version_hash(group: &str, version: &str, resources: &[std::sync::Arc<Resource>]) -> String {
    let mut hash = Sha256::new();
    for part in [env!("CARGO_PKG_VERSION"), GIT_VERSION, group, version] {
        hash.update(part);
        hash.update([0]);
    }
    for resource in resources {
        hash.update(&*resource.plural);
        if let Some(custom) = &resource.custom {
            hash.update(custom.schema.to_string());
        }
        for subresource in &resource.subresources {
            hash.update(subresource.name());
        }
    }
    hex::encode_upper(hash.finalize())
}

fn json_answer(value: &Value) -> Response<Body> {
    Answer::json(StatusCode::OK, value).into_response()
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Bytes with an ETag; 304 when the client has them.
fn tagged(parts: &Parts, etag: &str, bytes: bytes::Bytes) -> Response<Body> {
    let known = parts.headers.get(header::IF_NONE_MATCH);
    let same = known
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.contains(etag));
    let mut response = if same {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Answer::ok(bytes).into_response()
    };
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
