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
