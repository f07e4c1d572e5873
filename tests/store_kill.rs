//! `kill -9` of the server in the middle of 1,000 concurrent creates, 20 times on the same data.
#![allow(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is killed must be a process of its own"
)]
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};

const ROUNDS: u64 = 20;
const CREATES: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);
const LABEL: &str = "made-by=store-kill";

/// A running `davit server`, killed when dropped.
struct Server(Child);

impl Server {
    fn start(data_dir: &Path, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_davit"));
        command.arg("server").arg("--data-dir").arg(data_dir);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("davit server starts"))
    }
}

impl Drop for Server {
    /// SIGKILL, and not a moment's notice.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client of the server, once it is ready.
async fn connect(data_dir: &Path) -> Client {
    let started = Instant::now();
    loop {
        match try_connect(data_dir).await {
            Ok(client) => return client,
            Err(error) if started.elapsed() > PATIENCE => {
                panic!("it does not get ready: {error:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn try_connect(data_dir: &Path) -> Result<Client, Box<dyn std::error::Error>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_davit"));
    let printed = command
        .args(["kubeconfig", "--data-dir"])
        .arg(data_dir)
        .output()?;
    let kubeconfig = Kubeconfig::from_yaml(std::str::from_utf8(&printed.stdout)?)?;
    let options = KubeConfigOptions::default();
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &options).await?)?;
    client
        .request_text(http::Request::get("/readyz").body(Vec::new())?)
        .await?;
    Ok(client)
}

fn revision(object: &impl ResourceExt) -> u64 {
    let text = object
        .resource_version()
        .expect("an object has a resourceVersion");
    text.parse().expect("it is a number")
}

/// Creates many at once, kills the server when some of them were acknowledged, and answers all that were: name and revision.
async fn create_until_killed(client: Client, round: u64, server: Server) -> BTreeMap<String, u64> {
    let enough = 1 + (round as usize * 211) % (CREATES * 9 / 10);
    let creates = (0..CREATES).map(|n| {
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        tokio::spawn(async move {
            api.create(&PostParams::default(), &config_map(round, n))
                .await
        })
    });
    let mut creates: FuturesUnordered<_> = creates.collect();
    let mut server = Some(server);
    let mut acknowledged = BTreeMap::new();
    while let Some(create) = creates.next().await {
        if let Ok(made) = create.expect("a create does not panic") {
            acknowledged.insert(made.name_any(), revision(&made));
        }
        if acknowledged.len() >= enough {
            drop(server.take());
        }
    }
    acknowledged
}

fn config_map(round: u64, n: usize) -> ConfigMap {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": format!("r{round}-{n}"), "labels": { "made-by": "store-kill" } },
        "data": { "content": "x".repeat(n) },
    }))
    .expect("a config map")
}

/// What a watch says that is resumed at a revision, up to and with another one: each name with its revision.
async fn resume(api: &Api<ConfigMap>, after: u64, upto: u64) -> BTreeMap<String, u64> {
    let params = WatchParams::default().labels(LABEL).disable_bookmarks();
    let watch = api
        .watch(&params, &after.to_string())
        .await
        .expect("the watch is resumed");
    let mut watch = std::pin::pin!(watch);
    let mut seen = BTreeMap::new();
    let mut newest = after;
    while newest < upto {
        let event = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("the events come");
        match event.expect("the watch goes on").expect("it has no error") {
            WatchEvent::Added(made) => {
                assert!(revision(&made) > newest, "the watch goes back");
                newest = revision(&made);
                assert!(
                    seen.insert(made.name_any(), newest).is_none(),
                    "a duplicate"
                );
            }
            other => panic!("an event that cannot be: {other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_object_is_lost_and_watches_go_on() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its number").port();
    drop(listener);
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_seen = None;
    let mut acknowledged = 0;
    // One round more, to look at what the last kill left.
    for round in 0..=ROUNDS {
        let server = Server::start(dir.path(), port);
        let client = connect(dir.path()).await;
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let list = api
            .list(&ListParams::default().labels(LABEL))
            .await
            .expect("the list");
        let listed: BTreeMap<_, _> = list
            .items
            .iter()
            .map(|item| (item.name_any(), revision(item)))
            .collect();
        for (name, revision) in &known {
            assert_eq!(
                listed.get(name),
                Some(revision),
                "{name} was acknowledged in {round}"
            );
        }
        let newest = list
            .metadata
            .resource_version
            .and_then(|text| text.parse().ok());
        let newest: u64 = newest.expect("a list has a resourceVersion");
        assert!(
            listed.values().all(|&revision| revision <= newest),
            "revisions go back"
        );
        if let Some(last_seen) = last_seen {
            let since: BTreeMap<_, _> = listed
                .iter()
                .filter(|(_, at)| **at > last_seen)
                .map(own)
                .collect();
            let upto = since.values().copied().max().unwrap_or(last_seen);
            assert_eq!(resume(&api, last_seen, upto).await, since, "round {round}");
        }
        known = listed;
        last_seen = Some(newest);
        let made = create_until_killed(client, round, server).await;
        acknowledged += made.len();
        assert!(
            made.values().all(|&revision| revision > newest),
            "revisions go back"
        );
        known.extend(made);
    }
    assert!(
        acknowledged > 5_000,
        "only {acknowledged} creates were acknowledged"
    );
}

fn own((name, revision): (&String, &u64)) -> (String, u64) {
    (name.clone(), *revision)
}
