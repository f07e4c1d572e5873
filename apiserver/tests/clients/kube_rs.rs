//! kube-rs over TLS: typed, dynamic, the runtime's watcher in both ways of listing, conditions, logs of a fight.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Discovery, ResourceExt as _};
use serde_json::json;

use crate::cluster::Cluster;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_misses_nothing_in_either_way_of_listing() {
    let cluster = Cluster::start().await;
    cluster.namespace("watching").await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "watching");
    api.create(&PostParams::default(), &config_map("first"))
        .await
        .unwrap();
    for (round, config) in [
        watcher::Config::default().page_size(1),
        watcher::Config::default().streaming_lists(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = watcher(api.clone(), config).applied_objects().boxed();
        assert_eq!(
            stream.try_next().await.unwrap().unwrap().name_any(),
            "first"
        );
        let name = format!("late-{round}");
        api.create(&PostParams::default(), &config_map(&name))
            .await
            .unwrap();
        let late = async {
            loop {
                if stream.try_next().await.unwrap().unwrap().name_any() == name {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), late)
            .await
            .unwrap();
        api.delete(&name, &Default::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_kinds_are_found_and_used_dynamically() {
    let cluster = Cluster::start().await;
    cluster.namespace("dynamic").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_json::from_value(json!({
        "metadata": {"name": "gadgets.rust.example.com"},
        "spec": {
            "group": "rust.example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    }));
    definitions
        .create(&PostParams::default(), &definition.unwrap())
        .await
        .unwrap();
    let name = "gadgets.rust.example.com";
    let established = await_condition(definitions.clone(), name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(10), established)
        .await
        .unwrap()
        .unwrap();

    let discovery = Discovery::new(cluster.client.clone())
        .run_aggregated()
        .await
        .unwrap();
    let kind = GroupVersionKind::gvk("rust.example.com", "v1", "Gadget");
    let (resource, _) = discovery.resolve_gvk(&kind).unwrap();
    assert_eq!(resource, ApiResource::from_gvk(&kind));
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), "dynamic", &resource);
    let gadget = DynamicObject::new("g", &resource).data(json!({"spec": {"size": 1}}));
    api.create(&PostParams::default(), &gadget).await.unwrap();
    let merged = Patch::Merge(json!({"spec": {"colour": "red"}}));
    let patched = api
        .patch("g", &PatchParams::default(), &merged)
        .await
        .unwrap();
    assert_eq!(patched.data["spec"], json!({"size": 1, "colour": "red"}));
    assert_eq!(
        api.list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let uid = definitions.get(name).await.unwrap().uid().unwrap();
    definitions.delete(name, &Default::default()).await.unwrap();
    let gone = await_condition(definitions, name, conditions::is_deleted(&uid));
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap()
        .unwrap();
}

/// Two appliers fight over a field: the conflict names both, force moves ownership, and a field goes away only
/// with its last owner.
#[tokio::test(flavor = "multi_thread")]
async fn appliers_fight_by_the_rules() {
    let cluster = Cluster::start().await;
    cluster.namespace("fight").await;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "fight");
    let apply = |manager: &str, force: bool, labels: serde_json::Value| {
        let patch = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "busybox"}]},
        });
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let api = api.clone();
        async move { api.patch("p", &params, &Patch::Apply(patch)).await }
    };
    apply("one", false, json!({"fought": "1", "shared": "x"}))
        .await
        .unwrap();
    let refused = apply("two", false, json!({"fought": "2", "shared": "x"}))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}");
    };
    assert_eq!(status.code, 409);
    let message = "Apply failed with 1 conflict: conflict with \"one\": .metadata.labels.fought";
    assert_eq!(status.message, message);
    let taken = apply("two", true, json!({"fought": "2", "shared": "x"}))
        .await
        .unwrap();
    assert_eq!(taken.labels()["fought"], "2");
    let left = apply("one", false, json!({})).await.unwrap();
    assert_eq!(
        left.labels().len(),
        2,
        "what another owns stays: {:?}",
        left.labels()
    );
    let gone = apply("two", false, json!({"fought": "2"})).await.unwrap();
    assert_eq!(gone.labels().get("shared"), None);
}
