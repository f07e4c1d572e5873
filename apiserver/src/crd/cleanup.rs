//! A definition that is deleted takes its instances with it.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{FINALIZER, PREFIX, sync};
use crate::cache::KindCache;
use crate::object;
use crate::resource::Resource;
use crate::selection::Selection;
use crate::{ApiServer, bootstrap};

/// Follows the definitions until shutdown: serves what other servers wrote, and cleans up after those that
/// are being deleted.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let kind = server.cache.kind(PREFIX);
    loop {
        let changed = kind.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        sync(&server);
        if let Err(error) = bootstrap::definitions(&server).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a kind of davit's own is not there"
            );
        }
        let terminating = terminating(&server);
        let kinds = instance_kinds(&server, &terminating);
        let mut instances: Vec<_> = kinds.iter().map(|kind| Box::pin(kind.changed())).collect();
        for instance in &mut instances {
            instance.as_mut().enable();
        }
        for definition in &terminating {
            clean(&server, definition).await;
        }
        tokio::select! {
            () = changed => {}
            () = any(instances) => {}
            () = server.shutdown.cancelled() => return,
        }
    }
}

/// Definitions that wait for their instances to go.
fn terminating(server: &ApiServer) -> Vec<Value> {
    let snapshot = server.registry.snapshot();
    let group = "apiextensions.k8s.io";
    let Some(resource) = snapshot.find_preferred(group, "customresourcedefinitions") else {
        return Vec::new();
    };
    let page = server
        .cache
        .kind(PREFIX)
        .page(&Selection::all(&resource, ""), None, 0, 0);
    let all = page
        .objects
        .iter()
        .filter_map(|object| object::parse(&object.bytes).ok());
    all.filter(|definition| {
        let finalizers = definition["metadata"]["finalizers"].as_array();
        !definition["metadata"]["deletionTimestamp"].is_null()
            && finalizers.is_some_and(|list| list.iter().any(|f| f == FINALIZER))
    })
    .collect()
}

fn resources_of(server: &ApiServer, definition: &Value) -> Option<Arc<Resource>> {
    let name = definition["metadata"]["name"].as_str()?;
    let snapshot = server.registry.snapshot();
    let mut all = snapshot.iter();
    all.find(|r| {
        r.custom
            .as_ref()
            .is_some_and(|custom| &*custom.definition == name)
    })
    .cloned()
}

/// Deletes the instances; when none is left, lets the definition go. A kind of davit's own goes without its instances: it comes
/// back at once, and nothing works without them.
async fn clean(server: &Arc<ApiServer>, definition: &Value) {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let own = bootstrap::is_own(name);
    if own {
        tracing::warn!(
            name,
            "a kind of davit's own was deleted; it comes back with all its objects"
        );
    } else if let Some(resource) = resources_of(server, definition) {
        let path = format!(
            "/apis/{}/{}/{}",
            resource.group, resource.version, resource.plural
        );
        let (code, answer) = server.request(Method::DELETE, &path, None).await;
        if !code.is_success() {
            tracing::warn!(name, %answer, "the instances of a definition cannot be deleted");
        }
        server.cache.catch_up();
        if server.cache.kind(&resource.prefix).len() > 0 {
            return;
        }
    }
    let finalizers = definition["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten();
    let left: Vec<&Value> = finalizers
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let patch = json!({ "metadata": {
        "finalizers": left,
        "resourceVersion": definition["metadata"]["resourceVersion"],
    }});
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    let (code, answer) = server.request(Method::PATCH, &path, Some(&patch)).await;
    if !code.is_success() && code != http::StatusCode::CONFLICT {
        tracing::warn!(name, %answer, "a definition cannot be let go");
    }
}

/// The caches of the instances of these definitions.
fn instance_kinds(server: &ApiServer, definitions: &[Value]) -> Vec<Arc<KindCache>> {
    let resources = definitions
        .iter()
        .filter_map(|definition| resources_of(server, definition));
    resources
        .map(|resource| server.cache.kind(&resource.prefix))
        .collect()
}

/// Returns when one of them does; never when there is none.
async fn any<F: Future<Output = ()> + Unpin>(waits: Vec<F>) {
    if waits.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waits).await;
}
