//! Follows the metadata of every kind the server has, and of kinds that appear later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Metadata;
use super::graph::Change;

/// How soon discovery is asked again after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// A resource that can be listed, watched and deleted, and whether it is namespaced.
pub(crate) type Collectable = (Arc<ApiResource>, bool);

/// The kinds found by the latest discovery.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    all: RwLock<Vec<Collectable>>,
}

impl Resources {
    /// The resource of a kind, by any version of its group.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<Collectable> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let all = self.all.read();
        all.iter()
            .find(|(found, _)| found.group == group && found.kind == kind)
            .cloned()
    }
}

/// Asks the server for every resource whose objects can be listed, watched and deleted.
///
/// # Errors
/// Those of the client.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Collectable>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let events = resource.kind == "Event";
            let wanted = [verbs::LIST, verbs::WATCH, verbs::DELETE];
            if !events
                && wanted
                    .iter()
                    .all(|verb| capabilities.supports_operation(verb))
            {
                let namespaced = capabilities.scope == Scope::Namespaced;
                found.push((Arc::new(resource), namespaced));
            }
        }
    }
    Ok(found)
}

/// Runs one metadata watch a kind and reports its changes, for ever. A change of any
/// CustomResourceDefinition or APIService makes it look for new kinds.
pub(crate) async fn follow_all(
    client: Client,
    resources: Arc<Resources>,
    report: impl Fn(&Arc<ApiResource>, Change) + Clone + Send + Sync + 'static,
) {
    let look_again = Arc::new(Notify::new());
    let mut watches: HashMap<ApiResource, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        match discover(&client).await {
            Ok(found) => {
                watches.retain(|known, watch| {
                    let kept = found.iter().any(|(resource, _)| **resource == *known);
                    if !kept {
                        watch.abort();
                        report(&Arc::new(known.clone()), Change::All(Vec::new()));
                    }
                    kept
                });
                for (resource, _) in &found {
                    watches.entry((**resource).clone()).or_insert_with(|| {
                        let (client, resource) = (client.clone(), resource.clone());
                        let (report, look_again) = (report.clone(), look_again.clone());
                        tasks.spawn(follow(client, resource, report, look_again))
                    });
                }
                *resources.all.write() = found;
                look_again.notified().await;
            }
            Err(error) => {
                tracing::debug!(%error, "discovery for garbage collection failed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn follow(
    client: Client,
    resource: Arc<ApiResource>,
    report: impl Fn(&Arc<ApiResource>, Change),
    look_again: Arc<Notify>,
) {
    let defines_kinds =
        ["CustomResourceDefinition", "APIService"].contains(&resource.kind.as_str());
    let api: Api<Metadata> = Api::all_with(client, &*resource);
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    futures::pin_mut!(events);
    let mut initial = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => initial.clear(),
            Ok(Event::InitApply(meta)) => initial.push(meta),
            Ok(Event::InitDone) => report(&resource, Change::All(std::mem::take(&mut initial))),
            Ok(Event::Apply(meta)) => {
                report(&resource, Change::Put(meta));
                if defines_kinds {
                    look_again.notify_one();
                }
            }
            Ok(Event::Delete(meta)) => {
                report(&resource, Change::Gone(meta));
                if defines_kinds {
                    look_again.notify_one();
                }
            }
            Err(error) => tracing::debug!(kind = resource.kind, %error, "watch interrupted"),
        }
    }
}
