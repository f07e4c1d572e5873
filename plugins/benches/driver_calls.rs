//! Calls of the bundled drivers on a machine in memory: what a plan costs, with and without the
//! journal, and what loading a driver costs when its code is in the cache.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use davit_api::{Plugin, PluginSource, PluginSpec};
use davit_plugins::executor::{AttachPod, Host, HostConfig, HostParts, NetworkAttachment, NodeUp};
use davit_plugins::network::{Attachment, Network, Node, Pod};
use davit_plugins::testing::Machine;
use davit_plugins::{PluginHost, PluginHostConfig, bundled_plugins};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BRIDGE: &str = "bridge.davit.dev";

struct World {
    dir: TempDir,
    plugins: Arc<PluginHost>,
    host: Arc<Host>,
}

async fn world() -> World {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let config = PluginHostConfig {
        node: "node-1".into(),
        cache_dir: dir.path().join("plugins"),
        volumes_dir: dir.path().join("volumes"),
        compiler: None,
    };
    let plugins = PluginHost::start(config).await.unwrap();
    for object in bundled_plugins() {
        plugins.reconcile(&object, &BTreeMap::new()).await;
    }
    let machine = Arc::new(Machine::new());
    let config = HostConfig {
        node: "node-1".into(),
        state_dir: dir.path().join("state"),
        run_dir: dir.path().join("run"),
    };
    let parts = HostParts {
        registry: plugins.registry(),
        capabilities: machine.clone(),
        network: machine.clone(),
        storage: machine,
    };
    let host = Host::open(config, parts).unwrap();
    host.node_up(NodeUp {
        network: network(),
        node: node(),
        peers: vec![],
    })
    .await
    .unwrap();
    World { dir, plugins, host }
}

fn network() -> Network {
    Network {
        name: "default".into(),
        subnets: vec!["10.42.0.0/16".parse().unwrap()],
        driver: BRIDGE.into(),
        ..Network::default()
    }
}

fn node() -> Node {
    Node {
        slices: vec!["10.42.0.0/16".parse().unwrap()],
        ..Node::default()
    }
}

fn attachment(uid: &str) -> NetworkAttachment {
    let pod = Pod {
        namespace: "default".into(),
        name: uid.into(),
        uid: uid.into(),
        ..Pod::default()
    };
    let attachment = Attachment {
        pod,
        network: network(),
        ifname: "eth0".into(),
        default_route: true,
        ..Attachment::default()
    };
    NetworkAttachment {
        attachment,
        node: node(),
    }
}

fn calls(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(world());
    let one = attachment("uid");
    criterion.bench_function("driver call: plan of an attachment", |bench| {
        bench.iter(|| runtime.block_on(world.host.plan_attachment(&one)).unwrap());
    });
    let netns = world.dir.path().join("netns");
    std::fs::write(&netns, "").unwrap();
    let request = AttachPod {
        netns,
        attachments: vec![one],
    };
    criterion.bench_function(
        "attach and release: plan, journal, act in memory",
        |bench| {
            bench.iter(|| {
                runtime.block_on(async {
                    world.host.attach_pod(request.clone()).await.unwrap();
                    world.host.release_pod("uid").await.unwrap();
                });
            });
        },
    );
}

fn load(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(world());
    let file = world.dir.path().join("bridge.wasm");
    std::fs::write(
        &file,
        include_bytes!(concat!(env!("OUT_DIR"), "/bridge.wasm")),
    )
    .unwrap();
    let source = PluginSource {
        file: Some(file.to_str().unwrap().to_owned()),
        ..PluginSource::default()
    };
    let grants = bundled_plugins().remove(0).spec.grants;
    let spec = PluginSpec {
        source,
        grants,
        ..PluginSpec::default()
    };
    let plugin = Plugin::new("mine", spec);
    criterion.bench_function(
        "driver load: from a file to ready, code in the cache",
        |bench| {
            bench.iter(|| {
                runtime.block_on(async {
                    let status = world.plugins.reconcile(&plugin, &BTreeMap::new()).await;
                    assert!(status.nodes.first().unwrap().ready);
                    world.plugins.forget("mine").await;
                });
            });
        },
    );
}

criterion_group!(benches, calls, load);
criterion_main!(benches);
