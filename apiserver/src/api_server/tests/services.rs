//! Addresses and ports of Services.

use serde_json::json;

use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": spec});
    object["spec"]["ports"] = json!([{"port": 80}]);
    object
}

#[tokio::test]
async fn addresses_are_taken_and_given_back() {
    let rig = Rig::new().await;
    let made = rig.make(SERVICES, service("a", json!({}))).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96."), "{made}");
    assert_eq!(made["spec"]["clusterIPs"], json!([address]));
    let object = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    assert_eq!(
        rig.get(&object).await.ok()["spec"]["parentRef"]["name"],
        "a"
    );
    let same = service("b", json!({"clusterIP": address}));
    rig.post(SERVICES, same.clone())
        .await
        .refused(422, "provided IP is already allocated");
    let outside = service("c", json!({"clusterIP": "10.1.1.1"}));
    rig.post(SERVICES, outside)
        .await
        .refused(422, "not in the valid range");
    let mut update = made.clone();
    update["spec"]["clusterIP"] = Value::Null;
    update["spec"]["clusterIPs"] = Value::Null;
    let kept = rig.put(&format!("{SERVICES}/a"), update).await.ok();
    assert_eq!(kept["spec"]["clusterIP"], address.as_str());
    rig.delete(&format!("{SERVICES}/a")).await.ok();
    assert_eq!(rig.get(&object).await.code, 404);
    rig.make(SERVICES, same).await;
    let headless = rig
        .make(SERVICES, service("h", json!({"clusterIP": "None"})))
        .await;
    assert_eq!(headless["spec"]["clusterIP"], "None");
}

#[tokio::test]
async fn node_ports_follow_the_type() {
    let rig = Rig::new().await;
    let made = rig
        .make(SERVICES, service("a", json!({"type": "NodePort"})))
        .await;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    let mut taken = service("b", json!({"type": "NodePort"}));
    taken["spec"]["ports"][0]["nodePort"] = port.into();
    rig.post(SERVICES, taken.clone())
        .await
        .refused(422, "provided port is already allocated");
    let mut low = taken.clone();
    low["spec"]["ports"][0]["nodePort"] = 80.into();
    rig.post(SERVICES, low).await.refused(422, "30000-32767");
    let back = json!({"spec": {"type": "ClusterIP"}});
    let plain = rig
        .patch(&format!("{SERVICES}/a"), "merge-patch+json", back)
        .await
        .ok();
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
    rig.make(SERVICES, taken).await;
}

#[tokio::test]
async fn the_api_server_has_the_first_address() {
    let rig = Rig::new().await;
    let service = rig.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn many_at_once_get_different_addresses() {
    let rig = Rig::new().await;
    let makes = (0..40).map(|index| {
        let (rig, name) = (&rig, format!("s{index}"));
        async move {
            rig.make(SERVICES, service(&name, json!({"type": "NodePort"})))
                .await
        }
    });
    let made = futures::future::join_all(makes).await;
    let addresses: std::collections::HashSet<_> = made
        .iter()
        .map(|s| s["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    assert_eq!(addresses.len(), 40);
}

/// Waits until `done` says so, looking again whenever an object of a kind changed.
#[track_caller]
fn until(rig: &Rig, prefix: &str, done: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let kind = rig.server.cache.kind(prefix);
    let looked = async move {
        loop {
            let changed = kind.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done().await {
                return;
            }
            changed.await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    async move {
        let looked = tokio::time::timeout(patience, looked).await;
        assert!(looked.is_ok(), "never came: {place}");
    }
}

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

#[tokio::test]
async fn the_address_of_a_living_service_comes_back() {
    let rig = Rig::new().await;
    let made = rig.make(SERVICES, service("a", json!({}))).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let path = format!("{NETWORKING}/ipaddresses/{address}");
    let before = rig.get(&path).await.ok();
    rig.delete(&path).await.ok();
    let kind = "/registry/networking.k8s.io/ipaddresses/";
    until(&rig, kind, async || rig.get(&path).await.code == 200).await;
    let after = rig.get(&path).await.ok();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    until(&rig, "/registry/core/events/", async || {
        let events = rig.get("/api/v1/namespaces/default/events").await.ok();
        events.to_string().contains("is not allocated; repairing")
    })
    .await;
    // One that claims to be a Service's and is not goes.
    let mut stray = before;
    stray["metadata"] = json!({
        "name": "10.96.200.200", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
    });
    rig.make(&format!("{NETWORKING}/ipaddresses"), stray).await;
    let stray = format!("{NETWORKING}/ipaddresses/10.96.200.200");
    until(&rig, kind, async || rig.get(&stray).await.code == 404).await;
}

#[tokio::test]
async fn what_services_hold_is_repaired_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:6443".parse().unwrap());
        config.store = StoreKind::Sled;
        config
    };
    let server = ApiServer::open_with(config(), Registry::builtin())
        .await
        .unwrap();
    let body = service("a", json!({"type": "NodePort"})).to_string();
    let made = Rig::send_to(server.clone(), "POST", SERVICES, body)
        .await
        .ok();
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let key = format!("/registry/davit.dev/~nodeports/{port}");
    let stray = "/registry/davit.dev/~nodeports/30999";
    let ops = vec![
        crate::storage::Op::Delete {
            key: key.as_str().into(),
        },
        crate::storage::Op::Put {
            key: stray.into(),
            value: crate::object::encode(&json!({})),
        },
    ];
    let txn = crate::storage::Txn {
        compares: Vec::new(),
        deletion: false,
        ops,
    };
    server.store.txn(txn).await.unwrap();
    server.stop_streams();
    drop(server);
    let server = loop {
        // The tasks of the first server let go of the store when they have ended.
        match ApiServer::open_with(config(), Registry::builtin()).await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let rig = Rig { server, _dir: dir };
    until(&rig, "/registry/davit.dev/~nodeports/", async || {
        let ports = rig
            .server
            .cache
            .kind("/registry/davit.dev/~nodeports/")
            .keys();
        ports.iter().any(|have| **have == *key) && !ports.iter().any(|have| &**have == stray)
    })
    .await;
}

#[tokio::test]
async fn a_range_goes_after_its_last_address() {
    let rig = Rig::new().await;
    let ranges = format!("{NETWORKING}/servicecidrs");
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.99.0.0/28"]}});
    let made = rig.make(&ranges, range).await;
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["networking.k8s.io/service-cidr-finalizer"])
    );
    assert_eq!(made["status"]["conditions"][0]["status"], "True");
    let far = service("far", json!({"clusterIP": "10.99.0.5"}));
    rig.make(SERVICES, far).await;
    let path = format!("{ranges}/more");
    let going = rig.delete(&path).await.ok();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let kind = "/registry/networking.k8s.io/servicecidrs/";
    until(&rig, kind, async || {
        let ready = &rig.get(&path).await.ok()["status"]["conditions"][0];
        ready["status"] == "False" && ready["reason"] == "Terminating"
    })
    .await;
    let late = service("late", json!({"clusterIP": "10.99.0.6"}));
    rig.post(SERVICES, late)
        .await
        .refused(422, "not in the valid range");
    rig.delete(&format!("{SERVICES}/far")).await.ok();
    until(&rig, kind, async || rig.get(&path).await.code == 404).await;
}
