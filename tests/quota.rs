//! Quotas end to end, in one process: the API server charges, the controller counts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use davit_apiserver::auth::{UserInfo, groups};
use davit_apiserver::{ApiServer, Config, StoreKind};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, ServiceAccount};
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// Makes an object from JSON.
async fn make<K>(api: &Api<K>, object: Value) -> Result<K, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// Waits until the quota's usage is this.
async fn until(quotas: &Api<ResourceQuota>, name: &str, expected: Value) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let watch = async {
        let mut events = quotas.watch(&params, "0").await.unwrap().boxed();
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(quota) | WatchEvent::Modified(quota) = event.unwrap()
                && quota
                    .status
                    .is_some_and(|status| json!(status.used) == expected)
            {
                return;
            }
        }
    };
    let seen = tokio::time::timeout(PATIENCE, watch).await;
    seen.unwrap_or_else(|_| panic!("{name} never had {expected}"));
}

async fn scenario(client: Client) {
    let quotas: Api<ResourceQuota> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let account = json!({"metadata": {"name": "default"}});
    drop(make(&accounts, account).await);
    make(&maps, config_map("before")).await.unwrap();
    // The controllers' own is to be among those that are there already.
    let published = |found: Option<&ConfigMap>| found.is_some();
    let waiting = await_condition(maps.clone(), "kube-root-ca.crt", published);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
    let present = maps.list(&Default::default()).await.unwrap().items.len();
    let quota = |hard: Value| json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    let hard = json!({"count/configmaps": (present + 100).to_string(), "pods": "1", "count/nothing.example.com": "1"});
    make(&quotas, quota(hard)).await.unwrap();
    until(
        &quotas,
        "q",
        json!({"count/configmaps": present.to_string(), "pods": "0"}),
    )
    .await;
    let creates = (0..200).map(|n| {
        let maps = maps.clone();
        tokio::spawn(async move { make(&maps, config_map(&format!("m{n}"))).await })
    });
    let made = futures::future::join_all(creates).await;
    let made = made.into_iter().map(Result::unwrap);
    assert_eq!(made.filter(Result::is_ok).count(), 100);
    make(&pods, pod("a")).await.unwrap();
    let refused = make(&pods, pod("b")).await.unwrap_err().to_string();
    let message = "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert!(refused.contains(message), "{refused}");
    let now = DeleteParams::default().grace_period(0);
    pods.delete("a", &now).await.unwrap();
    make(&pods, pod("b")).await.unwrap();
    // Wider bounds are in force as soon as they are counted.
    let wider = json!({"spec": {"hard": {"secrets": "5"}}});
    let patch = kube::api::Patch::Merge(&wider);
    quotas
        .patch("q", &Default::default(), &patch)
        .await
        .unwrap();
    let full = (present + 100).to_string();
    until(
        &quotas,
        "q",
        json!({"count/configmaps": full, "pods": "1", "secrets": "0"}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_server_charges_what_the_controller_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:6443".parse().unwrap());
    config.store = StoreKind::Memory;
    let server = ApiServer::open(config).await.unwrap();
    let client = server.client(UserInfo::new("tester", [groups::MASTERS]));
    let shutdown = CancellationToken::new();
    let controllers = davit_controller::Config {
        identity: "test".to_owned(),
        leader_elect: false,
        root_ca: String::new(),
        pulse: davit_controller::Pulse::default(),
    };
    let running = davit_controller::run(client.clone(), controllers, shutdown.clone());
    let running = tokio::spawn(running);
    scenario(client).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    server.stop_streams();
}
