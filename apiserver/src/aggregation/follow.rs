//! Keeps the API services of the groups served here, checks the others, and says so in their conditions.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::future::join_all;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::availability::{Verdict, reachable};
use super::{External, OpenApi, proxy};
use crate::ApiServer;
use crate::auth::{Kind, ObjectSource, UserInfo, groups};
use crate::cache::KindCache;
use crate::health::Part;
use crate::schema::openapi;

/// An extension server may come or go without any object changing.
const RECHECK: Duration = Duration::from_secs(30);
/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest list of resources.
const MAX_LIST: usize = 4 << 20;
/// The largest OpenAPI document.
const MAX_OPENAPI: usize = 16 << 20;

const SERVICES: Kind = Kind {
    group: "apiregistration.k8s.io",
    plural: "apiservices",
};
const COLLECTION: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// Marks those that follow what is served here.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What changes when an API service may have to be looked at again.
const WATCHED: [&str; 4] = [
    "/registry/apiregistration.k8s.io/apiservices/",
    "/registry/apiextensions.k8s.io/customresourcedefinitions/",
    "/registry/core/services/",
    "/registry/discovery.k8s.io/endpointslices/",
];

/// Runs until shutdown.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let kinds: Vec<Arc<KindCache>> = WATCHED.iter().map(|p| server.cache.kind(p)).collect();
    let mut externals = false;
    loop {
        // Services and their endpoints matter only to those that are elsewhere.
        let watched = if externals { kinds.len() } else { 2 };
        let mut changes: Vec<_> = kinds
            .iter()
            .take(watched)
            .map(|kind| Box::pin(kind.changed()))
            .collect();
        for change in &mut changes {
            change.as_mut().enable();
        }
        let found = reconcile(&server).await;
        if found && !externals {
            // What changed meanwhile in the kinds not yet watched is looked at in the next round.
            externals = true;
            continue;
        }
        externals = found;
        tokio::select! {
            _ = futures::future::select_all(changes) => {}
            () = tokio::time::sleep(RECHECK), if externals => {}
            () = server.shutdown.cancelled() => return,
        }
    }
}

/// One round: whether any API service is elsewhere.
async fn reconcile(server: &Arc<ApiServer>) -> bool {
    // The definition that woke this round may not be served yet.
    crate::crd::sync(server);
    let present: Vec<Value> = server
        .cache
        .list(SERVICES, "")
        .iter()
        .filter_map(|bytes| serde_json::from_slice(bytes).ok())
        .collect();
    keep_local(server, &present).await;
    server.health.up(Part::Registration);
    let checks = present.iter().map(|service| async move {
        if service["spec"]["service"].is_null() {
            return (service, Verdict::local(), None);
        }
        let (verdict, external) = check(server, service).await;
        (service, verdict, Some(external))
    });
    let checked = join_all(checks).await;
    let now = crate::handler::now().to_string();
    let mut externals = Vec::new();
    let mut writes = Vec::new();
    for (service, verdict, external) in checked {
        externals.extend(external.map(Arc::new));
        if let Some(conditions) = verdict.conditions(service, &now) {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{COLLECTION}/{name}/status");
            let patch = json!({ "status": { "conditions": conditions } });
            writes.push(async move { server.request(Method::PATCH, &path, Some(&patch)).await });
        }
    }
    let elsewhere = !externals.is_empty();
    server.aggregation.replace(externals);
    for (code, answer) in join_all(writes).await {
        if !code.is_success() {
            tracing::debug!(%answer, "the condition of an API service cannot be written");
        }
    }
    elsewhere
}

/// Makes what is missing for the groups served here, and takes away what is served no more.
async fn keep_local(server: &Arc<ApiServer>, present: &[Value]) {
    let wanted = local(server);
    let named = |list: &[Value], name: &Value| list.iter().any(|s| s["metadata"]["name"] == *name);
    let missing = wanted
        .iter()
        .filter(|s| !named(present, &s["metadata"]["name"]));
    let made = missing.map(|s| server.request(Method::POST, COLLECTION, Some(s)));
    for (code, answer) in join_all(made).await {
        if !code.is_success() && code != http::StatusCode::CONFLICT {
            tracing::warn!(%answer, "an API service cannot be made");
        }
    }
    let over = present.iter().filter(|service| {
        service["metadata"]["labels"][MANAGED] == "true"
            && !named(&wanted, &service["metadata"]["name"])
    });
    for service in over {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{COLLECTION}/{name}");
        server.request(Method::DELETE, &path, None).await;
    }
}

/// The API services of everything served here.
fn local(server: &ApiServer) -> Vec<Value> {
    let snapshot = server.registry.snapshot();
    let mut all = Vec::new();
    for (order, group) in (0_i64..).zip(&snapshot.groups) {
        if &*group.name == "apiregistration.k8s.io" {
            continue;
        }
        for (place, version) in (0_i64..).zip(&group.versions) {
            let custom = version.resources.iter().all(|r| r.custom.is_some());
            let (minimum, priority, managed) = if custom {
                (1000, 100 - place, "true")
            } else {
                (
                    (18_000 - 100 * order).max(2000),
                    (15 - place).max(1),
                    "onstart",
                )
            };
            all.push(json!({
                "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
                "metadata": {
                    "name": format!("{}.{}", version.name, group.name),
                    "labels": { MANAGED: managed },
                },
                "spec": {
                    "group": group.name, "version": version.name,
                    "groupPriorityMinimum": minimum, "versionPriority": priority,
                },
            }));
        }
    }
    all
}

/// Looks whether an API service that is elsewhere can be used, and what it serves.
async fn check(server: &ApiServer, service: &Value) -> (Verdict, External) {
    let mut external = External::of(service);
    if let Err(verdict) = reachable(&*server.cache, service) {
        return (verdict, external);
    }
    let url = match &external.target {
        Ok(target) => target.place.at(&external.path()),
        Err(why) => {
            return (
                Verdict::failed("FailedDiscoveryCheck", why.clone()),
                external,
            );
        }
    };
    let answered = tokio::time::timeout(PATIENCE, discover(server, &external, &url)).await;
    let answered = answered.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    match answered {
        Ok(resources) => {
            external.available = true;
            external.resources = resources;
            let known = server
                .aggregation
                .known_openapi(&external.group, &external.version);
            let asked = tokio::time::timeout(PATIENCE, openapi(server, &external, known.as_ref()));
            // A version is available without it.
            external.openapi = asked.await.unwrap_or(known);
            (Verdict::passed(), external)
        }
        Err(why) => {
            let message = format!("failing or missing response from {url}: {why}");
            (Verdict::failed("FailedDiscoveryCheck", message), external)
        }
    }
}

/// What the server's OpenAPI v2 document says of a version: what is `known` if it has not changed, or cannot be read.
async fn openapi(
    server: &ApiServer,
    external: &External,
    known: Option<&Arc<OpenApi>>,
) -> Option<Arc<OpenApi>> {
    let target = external.target.as_ref().ok()?;
    let mut request = Request::get(target.place.at("/openapi/v2"))
        .header(header::ACCEPT, "application/json")
        .body(Body::empty())
        .ok()?;
    let etag = known.and_then(|known| HeaderValue::from_str(&known.etag).ok());
    if let Some(etag) = etag {
        request.headers_mut().insert(header::IF_NONE_MATCH, etag);
    }
    let user = UserInfo::new("system:aggregator", [groups::MASTERS]);
    proxy::identify(request.headers_mut(), &user);
    let Ok(response) = server.callouts.send(target, request).await else {
        return known.cloned();
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return None,
        _ => return known.cloned(),
    }
    let etag = response.headers().get(header::ETAG);
    let etag = etag.and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
    let body = Limited::new(response.into_body(), MAX_OPENAPI)
        .collect()
        .await;
    let read = body.ok().map(|body| body.to_bytes());
    let Some(bytes) = read else {
        return known.cloned();
    };
    let etag = etag.unwrap_or_else(|| format!("\"{}\"", hex::encode(Sha256::digest(&bytes))));
    if known.is_some_and(|known| known.etag == etag) {
        return known.cloned();
    }
    let document: Value = serde_json::from_slice(&bytes).ok()?;
    let document = openapi::cut(&document, &external.path());
    Some(Arc::new(OpenApi { etag, document }))
}

async fn discover(server: &ApiServer, external: &External, url: &str) -> Result<Value, String> {
    let target = external.target.as_ref().map_err(Clone::clone)?;
    let mut request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let user = UserInfo::new("system:kube-aggregator", [groups::MASTERS]);
    proxy::identify(request.headers_mut(), &user);
    let response = server.callouts.send(target, request).await?;
    let code = response.status();
    if !code.is_success() {
        return Err(format!("bad status from {url}: {}", code.as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_LIST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| format!("bad answer from {url}: {error}"))
}
