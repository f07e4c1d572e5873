//! Events: written behind the workers' backs, repeated ones counted instead of written again.
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pod::members::{self, Role};
use crate::pod::services::{EventSink, Severity, chain};

/// What the Events say they come from; tools that look for a node's Events know this name.
const COMPONENT: &str = "kubelet";
/// Events about one object that may come at once, and how often one more may follow.
const BURST: u32 = 25;
const REFILL: SignedDuration = SignedDuration::from_mins(5);
/// Repeats after this long begin a new count.
const MEMORY: SignedDuration = SignedDuration::from_mins(10);
/// Most Events and objects remembered.
const MOST: usize = 4096;
/// Kubernetes' limit for a message.
const LONGEST: usize = 1024;

/// Takes Events of the node's pods, claims and the node itself.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    sender: mpsc::UnboundedSender<Said>,
    node: Arc<str>,
}

/// One Event to be written.
#[derive(Debug, Clone)]
struct Said {
    object: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Recorder {
    /// A recorder and the loop that writes its Events; the loop ends with the last recorder.
    pub(super) fn new(
        client: Client,
        node: &str,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Said>();
        let recorder = Self {
            sender,
            node: node.into(),
        };
        let node = node.to_owned();
        let write = async move {
            let mut correlator = Correlator::default();
            while let Some(said) = receiver.recv().await {
                let Some(write) = correlator.correlate(&said) else {
                    continue;
                };
                if let Err(error) = perform(&client, &node, &said, &write).await {
                    correlator.forget(&said);
                    tracing::debug!(
                        reason = said.reason,
                        error = chain(&error),
                        "event not written"
                    );
                }
            }
        };
        (recorder, write)
    }

    /// Records an Event about any object.
    pub(super) fn about(
        &self,
        object: ObjectReference,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let message = message.chars().take(LONGEST).collect();
        let said = Said {
            object,
            severity,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        // The loop ends only with the agent; then nobody is there to write it.
        let _ = self.sender.send(said);
    }

    /// Records an Event about this node. Its UID is the name, as kubelet has it and `kubectl describe node` looks for.
    pub(super) fn about_node(&self, severity: Severity, reason: &str, message: String) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.node.to_string()),
            uid: Some(self.node.to_string()),
            ..ObjectReference::default()
        };
        self.about(object, severity, reason, message);
    }
}

impl EventSink for Recorder {
    fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let field_path = container
            .and_then(|name| members::member(pod, name))
            .map(|member| match member.role {
                Role::Main => format!("spec.containers{{{}}}", member.name()),
                Role::Ephemeral => format!("spec.ephemeralContainers{{{}}}", member.name()),
                Role::Init | Role::Sidecar => format!("spec.initContainers{{{}}}", member.name()),
            });
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(members::namespace(pod).to_owned()),
            name: Some(members::name(pod).to_owned()),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        self.about(object, severity, reason, message);
    }
}

/// What is to be written for an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Write {
    Create { name: String },
    Count { name: String, count: i32 },
}

/// What makes an Event the same as an earlier one.
type Key = (String, String, Severity, String, String);

/// Remembers what was said.
#[derive(Debug, Default)]
struct Correlator {
    said: HashMap<Key, (String, i32, Timestamp)>,
    budgets: HashMap<String, (u32, Timestamp)>,
    serial: u64,
}

fn subject(object: &ObjectReference) -> String {
    format!(
        "{}/{}",
        object.kind.as_deref().unwrap_or_default(),
        object.uid.as_deref().unwrap_or_default()
    )
}

fn key(said: &Said) -> Key {
    let path = said.object.field_path.clone().unwrap_or_default();
    (
        subject(&said.object),
        path,
        said.severity,
        said.reason.clone(),
        said.message.clone(),
    )
}

impl Correlator {
    /// What to write, `None` when this object has said too much.
    fn correlate(&mut self, said: &Said) -> Option<Write> {
        if !self.afford(&subject(&said.object), said.at) {
            return None;
        }
        if self.said.len() >= MOST {
            self.said
                .retain(|_, (_, _, last)| said.at.duration_since(*last) < MEMORY);
        }
        if let Some((name, count, last)) = self.said.get_mut(&key(said))
            && said.at.duration_since(*last) < MEMORY
        {
            *count += 1;
            *last = said.at;
            return Some(Write::Count {
                name: name.clone(),
                count: *count,
            });
        }
        self.serial += 1;
        let object = said.object.name.as_deref().unwrap_or_default();
        let stamp = said.at.as_nanosecond() + i128::from(self.serial);
        let name = format!("{object}.{stamp:x}");
        self.said.insert(key(said), (name.clone(), 1, said.at));
        Some(Write::Create { name })
    }

    /// An Event that was not written is written anew the next time.
    fn forget(&mut self, said: &Said) {
        self.said.remove(&key(said));
    }

    fn afford(&mut self, subject: &str, now: Timestamp) -> bool {
        if self.budgets.len() >= MOST {
            self.budgets.retain(|_, (_, last)| {
                now.duration_since(*last) < REFILL * i32::try_from(BURST).unwrap_or(1)
            });
        }
        let (left, last) = self
            .budgets
            .entry(subject.to_owned())
            .or_insert((BURST, now));
        let refills = now.duration_since(*last).as_secs() / REFILL.as_secs();
        if let Ok(refills) = u32::try_from(refills)
            && refills > 0
        {
            *left = left.saturating_add(refills).min(BURST);
            *last = now;
        }
        let affordable = *left > 0;
        *left = left.saturating_sub(1);
        affordable
    }
}

async fn perform(
    client: &Client,
    node: &str,
    said: &Said,
    write: &Write,
) -> Result<(), kube::Error> {
    let namespace = said.object.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Write::Count { name, count } = write {
        let patch = json!({ "count": count, "lastTimestamp": Time(said.at) });
        events
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        return Ok(());
    }
    let Write::Create { name } = write else {
        return Ok(());
    };
    events
        .create(&PostParams::default(), &event(node, said, name, namespace))
        .await
        .map(drop)
}

fn event(node: &str, said: &Said, name: &str, namespace: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: said.object.clone(),
        reason: Some(said.reason.clone()),
        message: Some(said.message.clone()),
        source: Some(EventSource {
            component: Some(COMPONENT.into()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(node.to_owned()),
        type_: Some(
            if said.severity == Severity::Normal {
                "Normal"
            } else {
                "Warning"
            }
            .into(),
        ),
        count: Some(1),
        first_timestamp: Some(Time(said.at)),
        last_timestamp: Some(Time(said.at)),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, seconds: i64) -> Said {
        Said {
            object: ObjectReference {
                uid: Some("u".into()),
                name: Some("p".into()),
                ..ObjectReference::default()
            },
            severity: Severity::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            at: Timestamp::from_second(1_700_000_000 + seconds).unwrap(),
        }
    }

    #[test]
    fn repeats_are_counted_and_old_ones_begin_anew() {
        let mut correlator = Correlator::default();
        let Some(Write::Create { name }) = correlator.correlate(&said("a", 0)) else {
            panic!("not created")
        };
        assert_eq!(
            correlator.correlate(&said("a", 10)),
            Some(Write::Count {
                name: name.clone(),
                count: 2
            })
        );
        assert!(matches!(
            correlator.correlate(&said("b", 10)),
            Some(Write::Create { .. })
        ));
        assert!(
            matches!(correlator.correlate(&said("a", 900)), Some(Write::Create { name: other }) if other != name)
        );
        correlator.forget(&said("b", 0));
        assert!(matches!(
            correlator.correlate(&said("b", 901)),
            Some(Write::Create { .. })
        ));
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        let written = (0..100)
            .filter(|_| correlator.correlate(&said("a", 0)).is_some())
            .count();
        assert_eq!(written, 25);
        assert!(correlator.correlate(&said("a", 301)).is_some());
        assert!(correlator.correlate(&said("a", 302)).is_none());
    }
}
