//! Quotas under concurrency, over all verbs that change usage.

use serde_json::{Value, json};

use super::{CONFIG_MAPS, PODS, Rig, config_map, pod};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota whose usage somebody has counted.
async fn quota(rig: &Rig, name: &str, hard: Value, used: Value) {
    let object = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
    let mut object = rig.make(QUOTAS, object).await;
    object["status"] = json!({"hard": object["spec"]["hard"], "used": used});
    rig.put(&format!("{QUOTAS}/{name}/status"), object)
        .await
        .ok();
}

async fn used(rig: &Rig, name: &str) -> Value {
    let quota = rig.get(&format!("{QUOTAS}/{name}")).await.ok();
    quota["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_creates_into_a_hundred_places_make_a_hundred() {
    let rig = Rig::new().await;
    quota(&rig, "q", json!({"pods": "100"}), json!({"pods": "0"})).await;
    let creates = (0..200).map(|n| {
        let server = rig.server.clone();
        let body = pod(&format!("p{n}")).to_string();
        tokio::spawn(async move { Rig::send_to(server, "POST", PODS, body).await })
    });
    let replies = futures::future::join_all(creates).await;
    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    let made = replies.iter().filter(|reply| reply.code == 201).count();
    let refused = replies.iter().filter(|reply| reply.code == 403);
    let message =
        "is forbidden: exceeded quota: q, requested: pods=1, used: pods=100, limited: pods=100";
    for reply in refused.clone() {
        let text = reply.body["message"].as_str().unwrap();
        assert!(text.ends_with(message), "{text}");
    }
    assert_eq!((made, refused.count()), (100, 100));
    let pods = rig.get(PODS).await.ok();
    assert_eq!(pods["items"].as_array().unwrap().len(), 100);
    assert_eq!(used(&rig, "q").await, json!({"pods": "100"}));
}

#[tokio::test]
async fn usage_follows_the_object_through_its_life() {
    let rig = Rig::new().await;
    let hard = json!({"pods": "1", "count/pods": "5", "requests.cpu": "1"});
    let zero = json!({"pods": "0", "count/pods": "0", "requests.cpu": "0"});
    quota(&rig, "q", hard, zero.clone()).await;
    let forbidden = "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c";
    rig.post(PODS, pod("a")).await.refused(403, forbidden);
    let asking = |name: &str, cpu: &str| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.into();
        pod
    };
    let message = "exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1";
    rig.post(PODS, asking("a", "2")).await.refused(403, message);
    rig.post(&format!("{PODS}?dryRun=All"), asking("a", "2"))
        .await
        .refused(403, message);
    rig.post(&format!("{PODS}?dryRun=All"), asking("a", "1"))
        .await
        .ok();
    assert_eq!(used(&rig, "q").await, zero);
    rig.make(PODS, asking("a", "1")).await;
    assert_eq!(
        used(&rig, "q").await,
        json!({"pods": "1", "count/pods": "1", "requests.cpu": "1"})
    );
    // A create that fails for another reason takes nothing.
    assert_eq!(rig.post(PODS, asking("a", "0")).await.code, 403);
    let phase = json!({"status": {"phase": "Failed"}});
    rig.patch(&format!("{PODS}/a/status"), "merge-patch+json", phase)
        .await
        .ok();
    assert_eq!(
        used(&rig, "q").await,
        json!({"pods": "0", "count/pods": "1", "requests.cpu": "0"})
    );
    assert_eq!(rig.post(PODS, asking("a", "1")).await.code, 409);
    assert_eq!(used(&rig, "q").await["pods"], "0");
    rig.delete(&format!("{PODS}/a?gracePeriodSeconds=0"))
        .await
        .ok();
    assert_eq!(used(&rig, "q").await, zero);
}

#[tokio::test]
async fn a_quota_not_counted_yet_sees_that_something_changed() {
    let rig = Rig::new().await;
    let spec = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "1"}}});
    let before = rig.make(QUOTAS, spec).await;
    rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    let mut stale = before.clone();
    stale["status"] = json!({"hard": {"configmaps": "1"}, "used": {"configmaps": "0"}});
    rig.put(&format!("{QUOTAS}/q/status"), stale)
        .await
        .refused(409, "the object has been modified");
    // Another kind does not bother it.
    let mut now = rig.get(&format!("{QUOTAS}/q")).await.ok();
    rig.make(PODS, pod("p")).await;
    now["status"] = json!({"hard": {"configmaps": "1"}, "used": {"configmaps": "1"}});
    rig.put(&format!("{QUOTAS}/q/status"), now).await.ok();
    rig.post(CONFIG_MAPS, config_map("b", "1")).await.refused(
        403,
        "exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1",
    );
    rig.delete(&format!("{QUOTAS}/q")).await.ok();
    rig.make(CONFIG_MAPS, config_map("b", "1")).await;
}

#[tokio::test]
async fn quotas_count_quotas() {
    let rig = Rig::new().await;
    let one = json!({"resourcequotas": "1"});
    quota(&rig, "a", one.clone(), one).await;
    let more = json!({"metadata": {"name": "b"}, "spec": {"hard": {"pods": "1"}}});
    rig.post(QUOTAS, more)
        .await
        .refused(403, "exceeded quota: a");
    rig.delete(&format!("{QUOTAS}/a")).await.ok();
}

#[tokio::test]
async fn generated_names_and_services_are_charged_once() {
    let rig = Rig::new().await;
    let hard = json!({"services.nodeports": "1", "services": "2", "count/configmaps": "1"});
    let zero = json!({"services.nodeports": "0", "services": "0", "count/configmaps": "0"});
    quota(&rig, "q", hard, zero).await;
    let mut service =
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/default/services";
    rig.make(services, service.clone()).await;
    service["metadata"] = json!({"generateName": "t-"});
    rig.post(services, service.clone())
        .await
        .refused(403, "exceeded quota: q, requested: services.nodeports=1");
    service["spec"]["type"] = "ClusterIP".into();
    let plain = rig.make(services, service).await;
    let name = plain["metadata"]["name"].as_str().unwrap();
    let upgrade = json!({"spec": {"type": "NodePort"}});
    rig.patch(&format!("{services}/{name}"), "merge-patch+json", upgrade)
        .await
        .refused(403, "exceeded quota: q, requested: services.nodeports=1");
    let expected = json!({"services.nodeports": "1", "services": "2", "count/configmaps": "0"});
    assert_eq!(used(&rig, "q").await, expected);
    let mut generated = config_map("", "x");
    generated["metadata"] = json!({"generateName": "g-"});
    rig.make(CONFIG_MAPS, generated.clone()).await;
    rig.post(CONFIG_MAPS, generated)
        .await
        .refused(403, "exceeded quota");
}
