//! Priority levels seen by clients: headers, refusals, metrics, the schemas' own condition.

use serde_json::json;

use super::*;

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

fn bob() -> Option<UserInfo> {
    Some(UserInfo::new("bob", Vec::<String>::new()))
}

fn header<'r>(reply: &'r Reply, name: &str) -> &'r str {
    reply
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn answers_name_the_schema_and_level_and_refusals_say_when_to_come_back() {
    let rig = Rig::new().await;
    let uid = async |path: String| {
        let reply = rig.send("GET", &path, &[], "").await;
        assert_eq!(reply.code, 200, "{path}");
        reply.body["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    rig.server.fairness.refresh(&*rig.server.cache);
    let reply = rig.peer_send(bob(), "GET", PODS, &[], "").await;
    assert_eq!(reply.code, 403);
    let schema = uid(format!("{SCHEMAS}/global-default")).await;
    let level = uid(format!("{LEVELS}/global-default")).await;
    assert_eq!(header(&reply, "x-kubernetes-pf-flowschema-uid"), schema);
    assert_eq!(header(&reply, "x-kubernetes-pf-prioritylevel-uid"), level);

    // A level of one seat that is taken by a request which does not end.
    let level = json!({ "metadata": { "name": "narrow" }, "spec": { "type": "Limited", "limited": {
        "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": { "type": "Reject" },
    }}});
    rig.make(LEVELS, level).await;
    let rule = json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] });
    let schema = json!({ "metadata": { "name": "bob" }, "spec": {
        "matchingPrecedence": 10, "priorityLevelConfiguration": { "name": "narrow" },
        "rules": [{ "subjects": [{ "kind": "User", "user": { "name": "bob" } }], "resourceRules": [rule] }],
    }});
    rig.make(SCHEMAS, schema).await;
    rig.server.fairness.refresh(&*rig.server.cache);
    let reply = rig.peer_send(bob(), "GET", PODS, &[], "").await;
    assert_eq!((reply.code, header(&reply, "retry-after")), (429, "1"));
    assert_eq!(reply.body["reason"], "TooManyRequests");
    let masters = Some(UserInfo::new("bob", [groups::MASTERS]));
    let reply = rig.peer_send(masters, "GET", PODS, &[], "").await;
    assert_eq!(reply.code, 200);
    let mut metrics = String::new();
    rig.server.fairness.render(&mut metrics);
    let refused = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"bob\",\
                   priority_level=\"narrow\",reason=\"concurrency-limit\"} 1";
    assert!(metrics.contains(refused), "{metrics}");
}

#[tokio::test]
async fn a_schema_says_whether_its_level_exists() {
    let rig = Rig::new().await;
    let schema = json!({ "metadata": { "name": "s" }, "spec": {
        "priorityLevelConfiguration": { "name": "later" },
    }});
    rig.make(SCHEMAS, schema).await;
    let dangling = async |wanted: &str| loop {
        let seen = rig.server.cache.version(crate::fairness::FLOW_SCHEMAS);
        let reply = rig.send("GET", &format!("{SCHEMAS}/s"), &[], "").await;
        let condition = &reply.body["status"]["conditions"][0];
        if condition["type"] == "Dangling" && condition["status"] == wanted {
            return condition["reason"].as_str().unwrap().to_owned();
        }
        rig.server
            .cache
            .changed(crate::fairness::FLOW_SCHEMAS, seen)
            .await;
    };
    assert_eq!(dangling("True").await, "NotFound");
    rig.make(
        LEVELS,
        json!({ "metadata": { "name": "later" }, "spec": { "type": "Limited" } }),
    )
    .await;
    assert_eq!(dangling("False").await, "Found");
}
