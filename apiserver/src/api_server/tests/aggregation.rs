//! API services: local ones follow what is served, others are checked, shown and called.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::callout::testing::Server;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

impl Rig {
    /// Waits until the condition of an API service has this reason.
    async fn available(&self, name: &str, reason: &str) -> Value {
        let kind = self
            .server
            .cache
            .kind("/registry/apiregistration.k8s.io/apiservices/");
        let found = async {
            loop {
                let changed = kind.changed();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let service = self.get(&format!("{SERVICES}/{name}")).await.body;
                let condition = &service["status"]["conditions"][0];
                if condition["reason"] == reason {
                    return condition.clone();
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(20), found).await;
        found.unwrap_or_else(|_| panic!("{name} does not become {reason}"))
    }
}

fn service() -> Value {
    json!({"metadata": {"name": "v1beta1.flunders.example"}, "spec": {
        "group": "flunders.example", "version": "v1beta1", "groupPriorityMinimum": 2000, "versionPriority": 15,
        "service": {"namespace": "default", "name": "sample", "port": 443}}})
}

#[tokio::test]
async fn everything_served_has_a_local_api_service() {
    let rig = Rig::new().await;
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1alpha1.davit.dev"] {
        let condition = rig.available(name, "Local").await;
        assert_eq!(
            condition["message"],
            "Local APIServices are always available"
        );
        assert_eq!(condition["status"], "True");
    }
    let definition = json!({"metadata": {"name": "toys.shop.example"}, "spec": {"group": "shop.example", "scope": "Cluster",
        "names": {"plural": "toys", "kind": "Toy"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    rig.make(definitions, definition).await;
    rig.available("v1.shop.example", "Local").await;
}

#[tokio::test]
async fn an_extension_server_is_checked_shown_and_called_in_the_users_name() {
    let rig = Rig::new().await;
    let healthy = Arc::new(AtomicBool::new(true));
    let answers = healthy.clone();
    let server = Server::start(&["sample.default.svc"], move |asked| {
        if !answers.load(Ordering::Relaxed) {
            return (500, Vec::new(), String::new());
        }
        let body = match asked.path.as_str() {
            "/apis/flunders.example/v1beta1" => json!({"kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": "flunders.example/v1beta1", "resources": [
                    {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list", "create"]},
                    {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}]}),
            "/openapi/v2" => json!({"swagger": "2.0",
                "paths": {"/apis/flunders.example/v1beta1/flunders": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Flunder"}}}}}, "/other": {}},
                "definitions": {"Flunder": {"type": "object", "description": "One of those."}, "Other": {}}}),
            _ => json!({"echo": asked.path}),
        };
        (200, vec![("x-from", "extension".to_owned())], body.to_string())
    })
    .await;
    let mut registered = service();
    registered["spec"]["caBundle"] = server.bundle().into();
    rig.make(SERVICES, registered).await;
    let name = "v1beta1.flunders.example";
    let condition = rig.available(name, "ServiceNotFound").await;
    assert_eq!(
        condition["message"],
        "service/sample in \"default\" is not present"
    );
    let flunders = "/apis/flunders.example/v1beta1/namespaces/default/flunders";
    rig.get(flunders).await.refused(503, "service unavailable");
    let sample = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"port": 443, "targetPort": 1}]}});
    rig.make("/api/v1/namespaces/default/services", sample)
        .await;
    rig.available(name, "MissingEndpoints").await;
    let slice = json!({"metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": server.address.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
    // Kubernetes refuses loopback addresses of endpoints, so the store is written to itself.
    let key = "/registry/discovery.k8s.io/endpointslices/default/sample-1";
    let put = crate::storage::Op::Put {
        key: key.into(),
        value: crate::object::encode(&slice),
    };
    let txn = crate::storage::Txn {
        ops: vec![put],
        ..Default::default()
    };
    rig.server.store.txn(txn).await.unwrap();
    rig.available(name, "Passed").await;
    // OpenAPI: its part of the one document.
    let merged = rig.get("/openapi/v2").await.ok();
    assert!(merged["paths"]["/apis/flunders.example/v1beta1/flunders"].is_object());
    assert!(merged["paths"]["/api/v1/pods"].is_object() && merged["paths"]["/other"].is_null());
    assert_eq!(
        merged["definitions"]["Flunder"]["description"],
        "One of those."
    );
    assert!(merged["definitions"]["Other"].is_null());
    // Discovery in both forms.
    let group = rig.get("/apis/flunders.example").await.ok();
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "flunders.example/v1beta1"
    );
    let aggregated = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let list = rig
        .send("GET", "/apis", &aggregated, Body::empty())
        .await
        .ok();
    let items = list["items"].as_array().unwrap();
    let found = items
        .iter()
        .find(|i| i["metadata"]["name"] == "flunders.example")
        .unwrap();
    let resource = &found["versions"][0]["resources"][0];
    assert_eq!(
        (
            &resource["resource"],
            &resource["subresources"][0]["subresource"]
        ),
        (&json!("flunders"), &json!("status"))
    );
    assert!(items.iter().any(|i| i["metadata"]["name"] == "apps"));
    // A request goes on in the user's name, and nobody else's.
    let forged = [
        ("x-remote-user", "root"),
        ("authorization", "Bearer x"),
        ("accept", "application/json"),
    ];
    let user = UserInfo::new("tester", [groups::MASTERS]);
    let reply = rig
        .send_as(
            Some(user),
            "GET",
            &format!("{flunders}?limit=5"),
            &forged,
            Body::empty(),
        )
        .await;
    assert_eq!(reply.headers["x-from"], "extension");
    assert_eq!(reply.ok()["echo"], format!("{flunders}?limit=5"));
    let asked = server.asked().pop().unwrap();
    let users: Vec<_> = asked.headers.get_all("x-remote-user").iter().collect();
    assert_eq!(users, ["tester"]);
    assert!(asked.headers.get("authorization").is_none());
    // Who has no right here is not even handed on.
    let before = server.asked().len();
    let stranger = Some(UserInfo::new("eve", ["people"]));
    rig.send_as(stranger, "GET", flunders, &[], Body::empty())
        .await
        .refused(403, "cannot list");
    assert_eq!(server.asked().len(), before);
    healthy.store(false, Ordering::Relaxed);
    rig.patch(
        &format!("{SERVICES}/{name}"),
        "merge-patch+json",
        json!({"metadata": {"labels": {"look": "again"}}}),
    )
    .await
    .ok();
    let condition = rig.available(name, "FailedDiscoveryCheck").await;
    assert!(
        condition["message"]
            .as_str()
            .unwrap()
            .starts_with("failing or missing response from https://sample.default.svc:443/")
    );
    let without = rig.get("/openapi/v2").await.ok();
    assert!(without["definitions"]["Flunder"].is_null());
    rig.delete(&format!("{SERVICES}/{name}")).await.ok();
}
