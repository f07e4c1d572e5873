//! Creating, reading, replacing and patching.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_object_lives_through_its_verbs() {
    let rig = Rig::new().await;
    let made = rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    assert_eq!(made["metadata"]["namespace"], "default");
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "managedFields",
    ] {
        assert!(!made["metadata"][field].is_null(), "{field}: {made}");
    }
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(rig.get(&path).await.ok(), made);
    rig.post(CONFIG_MAPS, config_map("a", "1"))
        .await
        .refused(409, "configmaps \"a\" already exists");

    let mut changed = made.clone();
    changed["data"]["key"] = "2".into();
    let put = rig.put(&path, changed.clone()).await.ok();
    assert_eq!(put["data"]["key"], "2");
    assert_ne!(
        put["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    assert_eq!(put["metadata"]["uid"], made["metadata"]["uid"]);
    rig.put(&path, changed)
        .await
        .refused(409, "the object has been modified");

    let again = rig.put(&path, put.clone()).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        put["metadata"]["resourceVersion"]
    );

    let status = rig.delete(&path).await.ok();
    assert_eq!(
        (&status["status"], &status["details"]["uid"]),
        (&json!("Success"), &made["metadata"]["uid"])
    );
    rig.get(&path)
        .await
        .refused(404, "configmaps \"a\" not found");
}

#[tokio::test]
async fn the_four_patches_do_what_they_say() {
    let rig = Rig::new().await;
    rig.make(PODS, pod("p")).await;
    let path = format!("{PODS}/p");
    let json = json!([{"op": "add", "path": "/metadata/labels/x", "value": "1"}]);
    assert_eq!(
        rig.patch(&path, "json-patch+json", json).await.ok()["metadata"]["labels"]["x"],
        "1"
    );
    let merge = json!({"metadata": {"labels": {"x": null, "y": "2"}}});
    let merged = rig.patch(&path, "merge-patch+json", merge).await.ok();
    assert_eq!(
        merged["metadata"]["labels"],
        json!({"app": "web", "y": "2"})
    );
    let strategic = json!({"spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let patched = rig
        .patch(&path, "strategic-merge-patch+json", strategic)
        .await
        .ok();
    assert_eq!(patched["spec"]["containers"][0]["image"], "nginx");
    assert_eq!(patched["spec"]["containers"].as_array().unwrap().len(), 1);
    let apply =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"z": "3"}}});
    let apply_path = format!("{path}?fieldManager=me");
    let applied = rig
        .patch(&apply_path, "apply-patch+yaml", apply.clone())
        .await
        .ok();
    assert_eq!(applied["metadata"]["labels"]["z"], "3");
    rig.patch(&path, "apply-patch+yaml", apply)
        .await
        .refused(422, "is required for apply patch");
    rig.patch(&path, "octet-stream", json!({}))
        .await
        .refused(415, "application/merge-patch+json");
    rig.patch(
        &path,
        "json-patch+json",
        json!([{"op": "test", "path": "/kind", "value": "x"}]),
    )
    .await
    .refused(422, "");
}

#[tokio::test]
async fn applying_what_is_not_there_makes_it() {
    let rig = Rig::new().await;
    let path = format!("{CONFIG_MAPS}/new?fieldManager=me");
    let reply = rig
        .patch(&path, "apply-patch+yaml", config_map("new", "1"))
        .await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    assert_eq!(
        reply.body["metadata"]["managedFields"][0]["operation"],
        "Apply"
    );
    let again = rig
        .patch(&path, "apply-patch+yaml", config_map("new", "1"))
        .await;
    assert_eq!(again.code, 200);
    assert_eq!(
        again.body["metadata"]["resourceVersion"],
        reply.body["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn names_are_generated_and_checked() {
    let rig = Rig::new().await;
    let mut object = config_map("x", "1");
    object["metadata"] = json!({"generateName": "web-"});
    let made = rig.make(CONFIG_MAPS, object.clone()).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9);
    object["metadata"] = json!({});
    let refused = rig.post(CONFIG_MAPS, object).await;
    let status = refused.refused(422, "name or generateName is required");
    assert_eq!(
        status["details"]["causes"][0]["reason"],
        "FieldValueRequired"
    );
    rig.post(CONFIG_MAPS, config_map("Not_A_Name", "1"))
        .await
        .refused(422, "metadata.name");
    let mut other = config_map("x", "1");
    other["metadata"]["namespace"] = "kube-system".into();
    rig.post(CONFIG_MAPS, other)
        .await
        .refused(400, "does not match the namespace");
    // What belongs to the cluster has none, also when a chart gives it one.
    let role = json!({"metadata": {"name": "r", "namespace": "kube-system"}, "rules": []});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let made = rig.make(roles, role.clone()).await;
    assert_eq!(made["metadata"].get("namespace"), None);
    rig.put(&format!("{roles}/r"), role).await.ok();
    rig.put(&format!("{CONFIG_MAPS}/y"), config_map("x", "1"))
        .await
        .refused(400, "does not match");
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let rig = Rig::new().await;
    let revision = rig.server.store.revision();
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let reply = rig.post(&path, config_map("a", "1")).await;
    assert_eq!((reply.code, &reply.body["data"]["key"]), (201, &json!("1")));
    assert_eq!(rig.server.store.revision(), revision);
    rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    rig.post(&path, config_map("a", "1"))
        .await
        .refused(409, "already exists");
    let path = format!("{CONFIG_MAPS}/a?dryRun=All");
    let patched = rig
        .patch(&path, "merge-patch+json", json!({"data": {"key": "2"}}))
        .await
        .ok();
    assert_eq!(patched["data"]["key"], "2");
    rig.delete(&path).await.ok();
    assert_eq!(
        rig.get(&format!("{CONFIG_MAPS}/a")).await.ok()["data"]["key"],
        "1"
    );
}

#[tokio::test]
async fn bodies_are_checked() {
    let rig = Rig::new().await;
    let mut typo = pod("p");
    typo["spec"]["containerz"] = json!([]);
    let reply = rig
        .post(&format!("{PODS}?fieldValidation=Strict"), typo.clone())
        .await;
    reply.refused(400, "unknown field \"spec.containerz\"");
    let warned = rig.post(PODS, typo).await;
    assert_eq!(warned.code, 201, "{}", warned.body);
    let warning = warned.headers["warning"].to_str().unwrap();
    assert!(warning.starts_with("299 - \"unknown field"), "{warning}");
    let yaml = "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: text\ndata:\n  a: b\n";
    let made = rig
        .send(
            "POST",
            CONFIG_MAPS,
            &[("content-type", "application/yaml")],
            yaml,
        )
        .await
        .ok();
    assert_eq!(made["data"]["a"], "b");
    let text = [("content-type", "text/plain")];
    rig.send("POST", CONFIG_MAPS, &text, "x")
        .await
        .refused(415, "accepted media types");
    rig.send("POST", CONFIG_MAPS, &[], "{")
        .await
        .refused(400, "");
    rig.post(CONFIG_MAPS, pod("p"))
        .await
        .refused(400, "does not match the expected Kind");
    let large = vec![b' '; 4 << 20];
    rig.send("POST", CONFIG_MAPS, &[], large)
        .await
        .refused(413, "limit is 3145728");
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let rig = Rig::new().await;
    let mut with_status = pod("p");
    with_status["status"] = json!({"phase": "Running"});
    let made = rig.make(PODS, with_status).await;
    assert_eq!(made["status"]["phase"], "Pending");
    let path = format!("{PODS}/p/status");
    let patch = json!({"status": {"phase": "Running"}, "metadata": {"labels": {"app": "other"}}});
    let patched = rig.patch(&path, "merge-patch+json", patch).await.ok();
    assert_eq!(patched["status"]["phase"], "Running");
    let mut put = patched.clone();
    put["status"]["phase"] = "Failed".into();
    put["metadata"]["labels"]["x"] = "y".into();
    let kept = rig.put(&format!("{PODS}/p"), put).await.ok();
    assert_eq!(
        (&kept["status"]["phase"], &kept["metadata"]["labels"]["x"]),
        (&json!("Running"), &json!("y"))
    );
}

#[tokio::test]
async fn a_kube_client_needs_no_socket() {
    let rig = Rig::new().await;
    let client = rig
        .server
        .client(UserInfo::new("tester", [groups::MASTERS]));
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let object: ConfigMap = serde_json::from_value(config_map("a", "1")).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    let list = api
        .list(&ListParams::default().fields("metadata.name=a"))
        .await
        .unwrap();
    assert_eq!(list.items.len(), 1);
    let patch = Patch::Apply(config_map("a", "2"));
    let params = PatchParams::apply("me").force();
    let applied = api.patch("a", &params, &patch).await.unwrap();
    assert_eq!(applied.data.unwrap()["key"], "2");
    let error = api.get("none").await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 404));
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let rig = Rig::new().await;
    let nobody = rig.send_as(None, "GET", PODS, &[], Body::empty()).await;
    nobody.refused(401, "Unauthorized");
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(
            rig.send_as(None, "GET", path, &[], Body::empty())
                .await
                .code,
            200,
            "{path}"
        );
    }
    let bob = || Some(UserInfo::new("bob", Vec::<String>::new()));
    let reply = rig.send_as(bob(), "GET", PODS, &[], Body::empty()).await;
    reply.refused(403, "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"");
    rig.send_as(bob(), "GET", "/metrics", &[], Body::empty())
        .await
        .refused(403, "forbidden");
    assert_eq!(
        rig.send_as(bob(), "GET", "/api", &[], Body::empty())
            .await
            .code,
        200
    );
}

#[tokio::test]
async fn one_stored_object_is_served_in_two_versions() {
    let rig = Rig::new().await;
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "action": "Start", "note": "text", "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/agent", "reportingInstance": "agent-1",
    });
    rig.make("/apis/events.k8s.io/v1/namespaces/default/events", event)
        .await;
    let core = rig.get("/api/v1/namespaces/default/events/e").await.ok();
    assert_eq!(
        (&core["involvedObject"]["name"], &core["message"]),
        (&json!("p"), &json!("text"))
    );
    let selected = "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp";
    let list = rig.get(selected).await.ok();
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");

    let autoscalers = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let spec =
        json!({"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 70});
    rig.make(
        autoscalers,
        json!({"metadata": {"name": "h"}, "spec": spec}),
    )
    .await;
    let newer = rig
        .get(&format!("{}/h", autoscalers.replace("/v1/", "/v2/")))
        .await
        .ok();
    let metric = &newer["spec"]["metrics"][0]["resource"];
    assert_eq!(metric["target"]["averageUtilization"], 70);
    let older = rig.get(&format!("{autoscalers}/h")).await.ok();
    assert_eq!(older["spec"]["targetCPUUtilizationPercentage"], 70);
}
