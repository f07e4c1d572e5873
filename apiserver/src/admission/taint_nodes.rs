//! `TaintNodesByCondition`: a new node takes no pods until somebody saw that it is ready.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("", "nodes")
    }

    async fn mutate(&self, _request: &Request<'_>, node: &mut Value) -> Result<(), Error> {
        if !node["spec"].is_object() {
            node["spec"] = json!({});
        }
        let taints = &mut node["spec"]["taints"];
        if taints.is_null() {
            *taints = json!([]);
        }
        if let Some(taints) = taints.as_array_mut() {
            let has = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == EFFECT;
            if !taints.iter().any(has) {
                taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;

    #[tokio::test]
    async fn a_new_node_is_not_ready() {
        let taint = json!({"key": NOT_READY, "effect": EFFECT});
        let own = json!({"key": "k", "effect": "NoExecute"});
        let cases = [
            (json!({}), json!([taint])),
            (json!({"spec": {"taints": null}}), json!([taint])),
            (json!({"spec": {"taints": [own]}}), json!([own, taint])),
            (json!({"spec": {"taints": [taint]}}), json!([taint])),
        ];
        for (node, expected) in cases {
            let node = create(&TaintNodesByCondition, "nodes", node).await.unwrap();
            assert_eq!(node["spec"]["taints"], expected);
        }
    }
}
