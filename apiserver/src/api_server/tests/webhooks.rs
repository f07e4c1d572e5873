//! Admission webhooks: real TLS servers on loopback, real handlers.

use serde_json::json;

use super::*;
use crate::callout::testing::{Answered, Asked, Server};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// The answer to a review with these fields in the response.
fn answer(asked: &Asked, mut response: Value) -> Answered {
    response["uid"] = asked.body["request"]["uid"].clone();
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response,
    });
    (200, Vec::new(), review.to_string())
}

fn patch(asked: &Asked, patch: &Value) -> Answered {
    use base64::Engine as _;
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    answer(
        asked,
        json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}),
    )
}

fn hook(server: &Server, name: &str, path: &str, more: Value) -> Value {
    let mut hook = json!({
        "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        "clientConfig": {"url": server.url(path), "caBundle": server.bundle()},
        "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"]}],
    });
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

async fn configure(rig: &Rig, kind: &str, name: &str, hooks: Vec<Value>) {
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "webhooks": hooks,
    });
    rig.make(&format!("{ADMISSION}/{plural}"), object).await;
}

const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

#[tokio::test]
async fn a_validating_webhook_refuses_with_its_own_words() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| {
        let bad = asked.body["request"]["object"]["data"]["key"] == "bad";
        let mut response = json!({
            "allowed": !bad, "warnings": ["careful"], "auditAnnotations": {"seen": "yes"},
        });
        if bad {
            response["status"] =
                json!({"message": "no bad things", "code": 403, "reason": "Forbidden"});
        }
        answer(asked, response)
    })
    .await;
    configure(
        &rig,
        VALIDATING,
        "v",
        vec![hook(&server, "v.example.com", "/check", json!({}))],
    )
    .await;
    let made = rig.post(CONFIG_MAPS, config_map("good", "fine")).await;
    assert_eq!(made.headers["warning"], "299 - \"careful\"");
    made.ok();
    let refused = rig.post(CONFIG_MAPS, config_map("x", "bad")).await;
    assert_eq!(refused.headers["warning"], "299 - \"careful\"");
    let message = "admission webhook \"v.example.com\" denied the request: no bad things";
    let status = refused.refused(403, message);
    assert_eq!(
        (&status["reason"], &status["kind"]),
        (&json!("Forbidden"), &json!("Status"))
    );
    assert_eq!(rig.get(&format!("{CONFIG_MAPS}/x")).await.code, 404);
    let asked = server.asked();
    assert_eq!(asked[0].path, "/check?timeout=5s");
    let request = &asked[0].body["request"];
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(request["resource"]["resource"], "configmaps");
    assert_eq!(
        (&request["operation"], &request["name"]),
        (&json!("CREATE"), &json!("good"))
    );
    assert_eq!(
        (&request["namespace"], &request["dryRun"]),
        (&json!("default"), &json!(false))
    );
    assert_eq!(request["userInfo"]["username"], "tester");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert_eq!(
        (&request["object"]["data"]["key"], &request["oldObject"]),
        (&json!("fine"), &Value::Null)
    );
}

#[tokio::test]
async fn mutating_webhooks_run_in_order_and_again_if_they_ask() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| {
        let step = asked
            .path
            .split('?')
            .next()
            .unwrap()
            .trim_start_matches('/')
            .to_owned();
        let data = &asked.body["request"]["object"]["data"];
        match data.get(&step) {
            Some(_) => answer(asked, json!({"allowed": true})),
            None => {
                let seen = data.as_object().map_or(0, serde_json::Map::len);
                let path = format!("/data/{step}");
                patch(
                    asked,
                    &json!([{"op": "add", "path": path, "value": seen.to_string()}]),
                )
            }
        }
    })
    .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    // By name of the configuration first, then by place.
    configure(
        &rig,
        MUTATING,
        "b",
        vec![hook(&server, "third.example.com", "/third", json!({}))],
    )
    .await;
    let first = hook(&server, "first.example.com", "/first", again);
    let second = hook(&server, "second.example.com", "/second", json!({}));
    configure(&rig, MUTATING, "a", vec![first, second]).await;
    let made = rig.make(CONFIG_MAPS, config_map("x", "v")).await;
    let expected = json!({"first": "1", "key": "v", "second": "2", "third": "3"});
    assert_eq!(made["data"], expected);
    let order: Vec<String> = server.asked().iter().map(|a| a.path.clone()).collect();
    let expected = [
        "/first?timeout=5s",
        "/second?timeout=5s",
        "/third?timeout=5s",
        "/first?timeout=5s",
    ];
    assert_eq!(order, expected);
    // Nothing changes any more, so there is no second round.
    rig.put(&format!("{CONFIG_MAPS}/x"), made).await.ok();
    assert_eq!(server.asked().len(), 7);
}

#[tokio::test]
async fn what_a_patch_adds_is_checked_like_anything_else() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| match asked.path.as_str() {
        "/unknown?timeout=5s" => patch(
            asked,
            &json!([{"op": "add", "path": "/nonsense", "value": 1}]),
        ),
        "/wrong?timeout=5s" => patch(
            asked,
            &json!([{"op": "add", "path": "/data/a b", "value": "x"}]),
        ),
        _ => patch(asked, &json!([{"op": "remove", "path": "/nowhere"}])),
    })
    .await;
    let one = |name: &str, path: &str| {
        let only = json!({"matchConditions": [{"name": "own", "expression": format!("object.metadata.name == '{name}'")}]});
        hook(&server, &format!("{name}.example.com"), path, only)
    };
    let hooks = vec![
        one("unknown", "/unknown"),
        one("wrong", "/wrong"),
        one("lost", "/lost"),
    ];
    configure(&rig, MUTATING, "m", hooks).await;
    let made = rig.make(CONFIG_MAPS, config_map("unknown", "v")).await;
    assert_eq!(made.get("nonsense"), None);
    rig.post(CONFIG_MAPS, config_map("wrong", "v"))
        .await
        .refused(422, "data[a b]");
    rig.post(CONFIG_MAPS, config_map("lost", "v"))
        .await
        .refused(500, "Internal error occurred");
    rig.make(CONFIG_MAPS, config_map("nobody", "v")).await;
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn failures_open_or_close_as_the_policy_says() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| match asked.path.split('?').next() {
        Some("/slow") => (0, Vec::new(), String::new()),
        Some("/broken") => (500, Vec::new(), "broken".to_owned()),
        _ => (200, Vec::new(), "{}".to_owned()),
    })
    .await;
    let only = |name: &str, policy: &str| {
        let expression = format!("object.metadata.name.startsWith('{name}')");
        json!({"failurePolicy": policy, "timeoutSeconds": 1, "matchConditions": [{"name": "own", "expression": expression}]})
    };
    let mut hooks = Vec::new();
    for (name, path) in [
        ("slow", "/slow"),
        ("broken", "/broken"),
        ("empty", "/empty"),
    ] {
        hooks.push(hook(
            &server,
            &format!("{name}.fail.com"),
            path,
            only(&format!("fail-{name}"), "Fail"),
        ));
        hooks.push(hook(
            &server,
            &format!("{name}.open.com"),
            path,
            only(&format!("open-{name}"), "Ignore"),
        ));
    }
    configure(&rig, VALIDATING, "v", hooks).await;
    let url = |path: &str| server.url(path);
    let table = [
        ("slow", format!("failed to call webhook: Post \"{}?timeout=1s\": context deadline exceeded", url("/slow"))),
        (
            "broken",
            "failed to call webhook: an error on the server (\"broken\") has prevented the request from succeeding"
                .to_owned(),
        ),
        ("empty", "received invalid webhook response: webhook response was absent".to_owned()),
    ];
    for (name, why) in table {
        let message =
            format!("Internal error occurred: failed calling webhook \"{name}.fail.com\": {why}");
        rig.post(CONFIG_MAPS, config_map(&format!("fail-{name}"), "v"))
            .await
            .refused(500, &message);
        rig.make(CONFIG_MAPS, config_map(&format!("open-{name}"), "v"))
            .await;
    }
}

#[tokio::test]
async fn dry_runs_subresources_and_deletions_are_seen() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| {
        let request = &asked.body["request"];
        let deletes = request["operation"] == "DELETE";
        answer(
            asked,
            json!({"allowed": !deletes, "status": {"message": "keep it"}}),
        )
    })
    .await;
    let effects = json!({"sideEffects": "NoneOnDryRun", "rules": [
        {"operations": ["CREATE", "DELETE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]},
        {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments/scale"]},
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods/attach"]},
    ]});
    configure(
        &rig,
        VALIDATING,
        "v",
        vec![hook(&server, "v.example.com", "/", effects)],
    )
    .await;
    rig.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("x", "v"))
        .await
        .ok();
    let request = server.asked().pop().unwrap().body["request"].clone();
    assert_eq!(
        (&request["dryRun"], &request["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
    rig.make(CONFIG_MAPS, config_map("x", "v")).await;
    rig.delete(&format!("{CONFIG_MAPS}/x"))
        .await
        .refused(400, "denied the request: keep it");
    let deletion = server.asked().pop().unwrap().body;
    assert_eq!(
        (
            &deletion["request"]["object"],
            &deletion["request"]["oldObject"]["data"]["key"]
        ),
        (&Value::Null, &json!("v"))
    );
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    rig.make(deployments, deployment).await;
    let scale = json!({"spec": {"replicas": 3}});
    rig.patch(&format!("{deployments}/d/scale"), "merge-patch+json", scale)
        .await
        .ok();
    let request = server.asked().pop().unwrap().body["request"].clone();
    assert_eq!(
        request["kind"],
        json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
    );
    assert_eq!(
        (
            &request["subResource"],
            &request["object"]["spec"]["replicas"]
        ),
        (&json!("scale"), &json!(3))
    );
    rig.make(PODS, pod("p")).await;
    rig.send(
        "POST",
        &format!("{PODS}/p/attach?stdin=true"),
        &[],
        Body::empty(),
    )
    .await;
    let request = server.asked().pop().unwrap().body["request"].clone();
    assert_eq!(
        (&request["operation"], &request["object"]["kind"]),
        (&json!("CONNECT"), &json!("PodAttachOptions"))
    );
}

#[tokio::test]
async fn configurations_are_exempt_and_versions_equivalent() {
    let rig = Rig::new().await;
    let server = Server::start(&["localhost"], |asked| {
        answer(asked, json!({"allowed": false}))
    })
    .await;
    let all = json!({"rules": [
        {"operations": ["*"], "apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"], "resources": ["*"]},
        {"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]},
    ]});
    configure(
        &rig,
        VALIDATING,
        "v",
        vec![hook(&server, "v.example.com", "/", all)],
    )
    .await;
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    rig.post(
        "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
        scaler,
    )
    .await
    .refused(
        400,
        "admission webhook \"v.example.com\" denied the request without explanation",
    );
    let request = server.asked().pop().unwrap().body["request"].clone();
    assert_eq!(
        (
            &request["kind"]["version"],
            &request["requestKind"]["version"]
        ),
        (&json!("v2"), &json!("v1"))
    );
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(request["object"]["spec"]["metrics"][0]["type"], "Resource");
    let wrong = json!({"matchConditions": [{"name": "own", "expression": "params.x"}]});
    let wrong = json!({"metadata": {"name": "w"}, "webhooks": [hook(&server, "w.example.com", "/", wrong)]});
    rig.post(
        &format!("{ADMISSION}/validatingwebhookconfigurations"),
        wrong,
    )
    .await
    .refused(422, "compilation failed: undeclared reference to 'params'");
    rig.delete(&format!("{ADMISSION}/validatingwebhookconfigurations/v"))
        .await
        .ok();
    assert_eq!(server.asked().len(), 1);
}
