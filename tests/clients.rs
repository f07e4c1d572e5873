//! kube-rs against davit: typed and dynamic objects, watches, every kind of patch, CRDs, conflicts.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use harness::{Cluster, on_a_machine};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

/// Runs a test with a client of a fresh cluster.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F + Send + 'static) {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .unwrap();
            test(Client::try_from(config).unwrap()).await;
        });
        cluster.down();
    });
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

#[test]
fn typed_objects_patches_and_conflicts() {
    with_client(|client| async move {
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let created = api
            .create(&PostParams::default(), &config_map("m"))
            .await
            .unwrap();
        assert!(created.uid().is_some() && created.creation_timestamp().is_some());
        let twice = api
            .create(&PostParams::default(), &config_map("m"))
            .await
            .unwrap_err();
        assert!(matches!(twice, kube::Error::Api(status) if status.is_already_exists()));

        let merge = Patch::Merge(json!({"data": {"b": "2"}}));
        let merged = api
            .patch("m", &PatchParams::default(), &merge)
            .await
            .unwrap();
        assert_eq!(merged.data.unwrap().len(), 2);
        let stale = api
            .replace("m", &PostParams::default(), &created)
            .await
            .unwrap_err();
        assert!(matches!(stale, kube::Error::Api(status) if status.is_conflict()));

        let apply = |value: &str| {
            Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "m"}, "data": {"c": value}}))
        };
        api.patch("m", &PatchParams::apply("one"), &apply("x"))
            .await
            .unwrap();
        let fight = api
            .patch("m", &PatchParams::apply("two"), &apply("y"))
            .await
            .unwrap_err();
        let kube::Error::Api(status) = fight else {
            panic!("{fight}")
        };
        assert!(
            status.is_conflict() && status.message.contains("\"one\""),
            "{}",
            status.message
        );
        assert!(status.message.contains(".data.c"), "{}", status.message);
        let forced = api
            .patch("m", &PatchParams::apply("two").force(), &apply("y"))
            .await
            .unwrap();
        assert_eq!(forced.data.unwrap()["c"], "y");

        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        api.create(&dry, &config_map("never")).await.unwrap();
        assert!(api.get_opt("never").await.unwrap().is_none());
        api.delete("m", &DeleteParams::default()).await.unwrap();
        assert!(api.get_opt("m").await.unwrap().is_none());
    });
}

#[test]
fn a_watcher_sees_every_change_and_lists_are_paged() {
    with_client(|client| async move {
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let config = watcher::Config::default().labels("watched=yes");
        let events = watcher(api.clone(), config).applied_objects().boxed();
        let writer = async {
            for number in 0..30 {
                let mut map = config_map(&format!("m-{number}"));
                map.labels_mut().insert("watched".into(), "yes".into());
                api.create(&PostParams::default(), &map).await.unwrap();
            }
        };
        let seen = events
            .take(30)
            .map_ok(|map| map.name_any())
            .try_collect::<Vec<_>>();
        let seen = tokio::time::timeout(Duration::from_secs(30), seen);
        let (seen, ()) = tokio::join!(seen, writer);
        let mut seen = seen.unwrap().unwrap();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 30);

        let mut params = ListParams::default().labels("watched=yes").limit(7);
        let (mut names, mut versions) = (Vec::new(), Vec::new());
        loop {
            let page = api.list(&params).await.unwrap();
            assert!(page.items.len() <= 7);
            names.extend(page.items.iter().map(ResourceExt::name_any));
            versions.push(page.metadata.resource_version.clone());
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        assert_eq!(names.len(), 30);
        versions.dedup();
        assert_eq!(versions.len(), 1, "all pages are of one revision");
    });
}

#[test]
fn a_custom_resource_is_served_validated_and_gone_with_its_definition() {
    with_client(|client| async move {
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let crd = serde_json::from_value(json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "required": ["size"], "properties": {
                            "size": {"type": "integer", "minimum": 1},
                            "color": {"type": "string", "default": "grey"}}},
                        "status": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
                    }}},
                }],
            },
        }));
        crds.create(&PostParams::default(), &crd.unwrap())
            .await
            .unwrap();
        let established = kube::runtime::conditions::is_crd_established();
        let established =
            kube::runtime::wait::await_condition(crds.clone(), "widgets.example.com", established);
        tokio::time::timeout(Duration::from_secs(10), established)
            .await
            .unwrap()
            .unwrap();

        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
        let api: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
        let widget = |size: i32| {
            DynamicObject::new("w", &kind)
                .data(json!({"spec": {"size": size, "unknown": 1}, "status": {"ok": true}}))
        };
        let bad = api
            .create(&PostParams::default(), &widget(0))
            .await
            .unwrap_err();
        let kube::Error::Api(status) = bad else {
            panic!("{bad}")
        };
        assert!(
            status.is_invalid() && status.message.contains("spec.size"),
            "{}",
            status.message
        );
        let made = api
            .create(&PostParams::default(), &widget(3))
            .await
            .unwrap();
        assert_eq!(
            made.data["spec"],
            json!({"size": 3, "color": "grey"}),
            "pruned and defaulted"
        );
        assert!(
            made.data.get("status").is_none(),
            "status has its own subresource"
        );
        let status = Patch::Merge(json!({"status": {"ok": true}, "spec": {"size": 9}}));
        let written = api
            .patch_status("w", &PatchParams::default(), &status)
            .await
            .unwrap();
        assert_eq!(written.data["status"], json!({"ok": true}));
        assert_eq!(written.data["spec"]["size"], json!(3));

        crds.delete("widgets.example.com", &DeleteParams::default())
            .await
            .unwrap();
        let uid = made.uid().unwrap();
        let gone = kube::runtime::wait::await_condition(
            crds,
            "widgets.example.com",
            kube::runtime::conditions::is_deleted(&uid),
        );
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .unwrap()
            .unwrap();
        // The path goes as soon as the server has seen its definition go.
        let unserved = async { while api.list(&ListParams::default()).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(20), unserved)
            .await
            .unwrap();
    });
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    with_client(|client| async move {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "brief"}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client, "brief");
        maps.create(&PostParams::default(), &config_map("m"))
            .await
            .unwrap();
        let uid = namespaces.get("brief").await.unwrap().uid().unwrap();
        namespaces
            .delete("brief", &DeleteParams::default())
            .await
            .unwrap();
        let late = maps
            .create(&PostParams::default(), &config_map("late"))
            .await
            .unwrap_err();
        assert!(matches!(late, kube::Error::Api(status) if status.is_forbidden()));
        let gone = kube::runtime::conditions::is_deleted(&uid);
        let gone = kube::runtime::wait::await_condition(namespaces, "brief", gone);
        tokio::time::timeout(Duration::from_secs(30), gone)
            .await
            .unwrap()
            .unwrap();
    });
}
