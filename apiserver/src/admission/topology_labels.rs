//! `PodTopologyLabels`: a pod that gets its node learns the zone and the region of it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};

const LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) struct PodTopologyLabels {
    source: Arc<dyn ObjectSource>,
}

impl PodTopologyLabels {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create
            && request.group.is_empty()
            && request.resource == "pods"
            && matches!(request.subresource, "" | "binding")
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let node = match request.subresource {
            "binding" => &object["target"]["name"],
            _ => &object["spec"]["nodeName"],
        };
        let Some(node) = node.as_str().filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let stored = self.source.get(Kind::NODES, "", node);
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(node) = stored.filter(|_| object["metadata"].is_object()) else {
            return Ok(());
        };
        for label in LABELS {
            if let Some(value) = node["metadata"]["labels"].get(label) {
                let labels = &mut object["metadata"]["labels"];
                if labels.is_null() {
                    *labels = json!({});
                }
                labels[label] = value.clone();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Notes;
    use crate::admission::testing::request;
    use crate::auth::UserInfo;
    use crate::auth::memory::Memory;

    #[tokio::test]
    async fn pods_and_bindings_get_the_labels_of_the_node() {
        let zone = json!({LABELS[0]: "z", "other": "x"});
        let plugin = PodTopologyLabels::new(Memory::with([
            (
                Kind::NODES,
                json!({"metadata": {"name": "n", "labels": zone}}),
            ),
            (Kind::NODES, json!({"metadata": {"name": "bare"}})),
        ]));
        let (user, notes) = (UserInfo::anonymous(), Notes::default());
        let cases = [
            (
                "",
                json!({"metadata": {}, "spec": {"nodeName": "n"}}),
                json!({LABELS[0]: "z"}),
            ),
            ("", json!({"metadata": {}, "spec": {}}), Value::Null),
            (
                "binding",
                json!({"metadata": {"labels": {"a": "b"}}, "target": {"name": "n"}}),
                json!({"a": "b", LABELS[0]: "z"}),
            ),
            (
                "binding",
                json!({"metadata": {}, "target": {"name": "bare"}}),
                Value::Null,
            ),
            (
                "binding",
                json!({"metadata": {}, "target": {"name": "gone"}}),
                Value::Null,
            ),
        ];
        for (subresource, mut object, expected) in cases {
            let request = Request {
                subresource,
                ..request(&user, &notes, Operation::Create, "pods", "a")
            };
            assert!(plugin.handles(&request));
            plugin.mutate(&request, &mut object).await.unwrap();
            assert_eq!(object["metadata"]["labels"], expected);
        }
    }
}
