//! `DefaultTolerationSeconds`: a pod stays five minutes on a node that is not ready or unreachable,
//! unless it says otherwise.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn mutate(&self, _request: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if tolerations.is_null() {
            *tolerations = json!([]);
        }
        let Some(tolerations) = tolerations.as_array_mut() else {
            return Ok(());
        };
        for taint in TAINTS {
            if !tolerations
                .iter()
                .any(|toleration| tolerates(toleration, taint))
            {
                tolerations.push(json!({
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}

/// Whether the toleration says anything about the `NoExecute` taint `key`.
fn tolerates(toleration: &Value, key: &str) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or_default();
    (text("key").is_empty() || text("key") == key) && matches!(text("effect"), "" | "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::create;

    #[tokio::test]
    async fn only_what_is_missing_is_added() {
        let default = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let own = json!({"key": TAINTS[0], "operator": "Exists", "tolerationSeconds": 5});
        let other = json!({"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"});
        let all = json!({"operator": "Exists"});
        let cases = [
            (json!([]), json!([default(TAINTS[0]), default(TAINTS[1])])),
            (Value::Null, json!([default(TAINTS[0]), default(TAINTS[1])])),
            (json!([own]), json!([own, default(TAINTS[1])])),
            (
                json!([other]),
                json!([other, default(TAINTS[0]), default(TAINTS[1])]),
            ),
            (json!([all]), json!([all])),
        ];
        for (given, expected) in cases {
            let pod = json!({"spec": {"tolerations": given}});
            let pod = create(&DefaultTolerationSeconds, "pods", pod)
                .await
                .unwrap();
            assert_eq!(pod["spec"]["tolerations"], expected);
        }
    }
}
