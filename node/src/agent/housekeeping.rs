//! What the node tidies up by itself: images that are in the way, roots of containers that are gone, and what somebody took
//! away from under it.
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use davit_plugins::executor::Host;
use davit_plugins::plan::ScopeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dispatch::Pods;
use super::events::Recorder;
use crate::image::{GarbagePolicy, ImageStore};
use crate::pod::observed::Phase;
use crate::pod::record::Record;
use crate::pod::services::{EventSink as _, Severity, chain};

/// How often the disk is looked at, as kubelet does.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Kubelet's defaults.
const POLICY: GarbagePolicy = GarbagePolicy {
    high_percent: 85,
    low_percent: 80,
    minimum_age: Duration::from_secs(120),
    maximum_age: None,
};

/// Removes unused images whenever the disk is too full, until shutdown.
pub(super) async fn collect_images(images: ImageStore, shutdown: CancellationToken) {
    let start = tokio::time::Instant::now() + EVERY;
    let mut due = tokio::time::interval_at(start, EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => {}
        }
        match images.collect_garbage(&POLICY).await {
            Ok(collected) if !collected.images.is_empty() => {
                tracing::info!(?collected, "unused images were removed")
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = chain(&error), "images could not be collected"),
        }
    }
}

/// How often the kernel is compared with the ledger: what others changed comes back by then, rules and links at once.
const MEND_EVERY: Duration = Duration::from_secs(60);

/// Puts back what is in the ledger and no longer in the kernel, until shutdown; Events say what it was.
pub(super) async fn mend(
    host: Arc<Host>,
    recorder: Recorder,
    pods: Pods,
    mut news: News,
    shutdown: CancellationToken,
) {
    let start = tokio::time::Instant::now() + MEND_EVERY;
    let mut due = tokio::time::interval_at(start, MEND_EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => {}
            Ok(()) = news.rules.changed() => {}
            Ok(()) = news.links.changed() => {}
        }
        let report = host.replay().await;
        let drift = |scope: &ScopeId, message: String| {
            recorder.about_node(
                Severity::Warning,
                "NetworkDrift",
                format!("{scope}: {message}"),
            );
            // A network's own scope is the node's; the others are of a pod, which then knows as well.
            let pod = match scope.kind() {
                "net" => scope.parts().next(),
                "publish" => scope.parts().nth(1),
                _ => None,
            };
            let pod = pod.and_then(|uid| pods.read().get(uid).map(|live| Arc::clone(&live.pod)));
            if let Some(pod) = pod {
                recorder.event(&pod, None, Severity::Warning, "NetworkDrift", message);
            }
        };
        for (scope, what) in report.mended {
            drift(&scope, format!("{what}; it was put back"));
        }
        for (scope, cause) in report.failed {
            tracing::warn!(%scope, cause, "the ledger and the kernel differ");
            drift(&scope, format!("{cause}; it is tried again"));
        }
        for mark in report.collected {
            recorder.about_node(
                Severity::Normal,
                "ScopeCollected",
                format!("{mark}: nobody owned it; it was removed"),
            );
        }
    }
}

/// What others do to what drivers made, as it is heard.
pub(super) struct News {
    /// Packet rules were changed.
    pub(super) rules: watch::Receiver<()>,
    /// Links are gone.
    pub(super) links: watch::Receiver<()>,
}

/// Removes the root file systems of containers that no pod knows.
pub(super) async fn discard_roots(images: &ImageStore, records: &[Record]) {
    let known: HashSet<&str> = records
        .iter()
        .flat_map(|record| record.seen.containers.values())
        .flat_map(|known| {
            let running = match &known.phase {
                Phase::Running(running) => Some(running.id.as_str()),
                _ => None,
            };
            running
                .into_iter()
                .chain(known.remains.iter().map(String::as_str))
        })
        .collect();
    for key in images
        .prepared()
        .into_iter()
        .filter(|key| !known.contains(key.as_str()))
    {
        if let Err(error) = images.discard(&key).await {
            tracing::warn!(
                key,
                error = chain(&error),
                "a root file system could not be removed"
            );
        }
    }
}
