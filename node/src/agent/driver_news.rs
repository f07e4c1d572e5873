//! What drivers have to say, and what others did to what drivers made.
use std::sync::Arc;

use davit_plugins::capabilities::DriverEvent;
use davit_plugins::executor::Host;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::events::Recorder;
use crate::network::{Gone, LinkWatch};
use crate::pod::services::Severity;

/// Longest reason of an Event that the API takes.
const REASON: usize = 128;

/// Writes the Events that drivers raise (`log.event`), until shutdown.
pub(super) async fn write_events(
    mut events: mpsc::Receiver<DriverEvent>,
    recorder: Recorder,
    shutdown: CancellationToken,
) {
    while let Some(Some(event)) = shutdown.run_until_cancelled(events.recv()).await {
        let severity = if event.warning {
            Severity::Warning
        } else {
            Severity::Normal
        };
        let reason = reason(&event.reason);
        let message = format!("driver {}: {}", event.driver, event.message);
        match event.subject {
            Some(subject) => {
                let some = |text: String| (!text.is_empty()).then_some(text);
                let object = ObjectReference {
                    api_version: some(subject.api_version),
                    kind: some(subject.kind),
                    namespace: some(subject.namespace),
                    name: some(subject.name),
                    uid: some(subject.uid),
                    ..ObjectReference::default()
                };
                recorder.about(object, severity, &reason, message);
            }
            None => recorder.about_node(severity, &reason, message),
        }
    }
}

/// A reason is a word; whatever the driver calls it.
fn reason(text: &str) -> String {
    let word: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(REASON)
        .collect();
    if word.is_empty() {
        "DriverEvent".to_owned()
    } else {
        word
    }
}

/// Hears of links of drivers that vanish although their scope is in force, until shutdown. What davit itself takes back is no
/// news: its scope is being released, or its pod's namespace gone, by then.
pub(super) fn follow_links(
    host: Arc<Host>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> watch::Receiver<()> {
    let (sender, news) = watch::channel(());
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let heard = async {
            let mut watch = LinkWatch::open()?;
            loop {
                let missed = match watch.next().await? {
                    Gone::Any => true,
                    Gone::Marks(marks) => marks.iter().any(|mark| host.is_in_force(mark)),
                };
                if missed {
                    sender.send_replace(());
                }
            }
        };
        let failed: Option<std::io::Result<()>> = shutdown.run_until_cancelled(heard).await;
        if let Some(Err(error)) = failed {
            tracing::warn!(%error, "links that others delete are only noticed now and then");
        }
        // Those who listen go on without news.
        shutdown.cancelled().await;
    });
    news
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_reason_is_a_word() {
        for (said, expected) in [
            ("PoolNearlyFull", "PoolNearlyFull"),
            ("pool nearly\nfull", "poolnearlyfull"),
            ("", "DriverEvent"),
            ("???", "DriverEvent"),
        ] {
            assert_eq!(reason(said), expected);
        }
        assert_eq!(reason(&"x".repeat(500)).len(), 128);
    }
}
