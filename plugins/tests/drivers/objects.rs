//! `Plugin` objects: what is loaded, what is refused, and what the status says.

use crate::world::{BRIDGE, World, network, node_up, plugin};
use davit_api::{Plugin, PluginStatus};
use davit_plugins::{bundled_plugins, samples};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The bundled bridge as a file.
fn bridge() -> Vec<u8> {
    std::fs::read(concat!(env!("OUT_DIR"), "/bridge.wasm")).unwrap()
}

fn ready(status: &PluginStatus) -> (&str, &str, &str) {
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    (&ready.status, &ready.reason, &ready.message)
}

fn granted(name: &str, file: String) -> Plugin {
    let mut object = plugin(name, file);
    object.spec.grants = bundled("bridge").spec.grants;
    object
}

fn bundled(name: &str) -> Plugin {
    let mut all = bundled_plugins().into_iter();
    all.find(|plugin| plugin.metadata.name.as_deref() == Some(name))
        .unwrap()
}

/// The `Plugin` that provides the bridge.
fn provider(world: &World) -> Option<String> {
    let mut drivers = world.plugins.registry().drivers().into_iter();
    drivers
        .find(|driver| driver.driver == BRIDGE)
        .map(|driver| driver.plugin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_loaded_and_described() {
    let world = World::new().await;
    let bytes = bridge();
    let object = granted("mine", world.file("bridge.wasm", &bytes));
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status), ("True", "Ready", "ready on 1 node(s)"));
    assert_eq!(status.driver.as_deref(), Some(BRIDGE));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        status.resolved_digest,
        Some(format!("sha256:{}", hex::encode(Sha256::digest(&bytes))))
    );
    // In alphabetical order, whichever compiler built the guest.
    assert_eq!(
        status.exports,
        ["davit:network/driver@0.1.0", "davit:plugin/lifecycle@0.1.0"]
    );
    assert_eq!(serde_json::to_value(status.risk).unwrap(), "scoped");
    assert_eq!(
        provider(&world).as_deref(),
        Some("mine"),
        "it goes before the bundled one"
    );
    let status = world.reconcile(&bundled("bridge")).await;
    assert_eq!(ready(&status).1, "DriverTaken");
    assert!(ready(&status).2.contains("Plugin mine"), "{status:?}");
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    world.plugins.forget("mine").await;
    assert_eq!(provider(&world), None);
    assert_eq!(ready(&world.reconcile(&bundled("bridge")).await).0, "True");
    assert_eq!(provider(&world).as_deref(), Some("bridge"));
    world.host.node_down("default").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundled_drivers_obey_their_objects() {
    let world = World::new().await;
    let mut changes = world.plugins.registry().changes();
    let mut object = bundled("bridge");
    object.spec.grants.nft.masquerade = vec!["192.168.0.0/16".into()];
    assert_eq!(ready(&world.reconcile(&object).await).0, "True");
    assert!(changes.has_changed().unwrap());
    let error = world.host.node_up(node_up(network(BRIDGE))).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("spec.grants.nft.masquerade"), "{error}");

    object.spec.node_selector = BTreeMap::from([("never".into(), "here".into())]);
    assert_eq!(ready(&world.reconcile(&object).await).1, "NoNodes");
    changes.mark_unchanged();
    world.reconcile(&object).await;
    assert!(!changes.has_changed().unwrap(), "nothing was withdrawn");
    let error = world.host.node_up(node_up(network(BRIDGE))).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no Plugin that is Ready here provides it"),
        "{error}"
    );

    let mut unknown = bundled("bridge");
    unknown.spec.source.bundled = Some("vpn".into());
    let status = world.reconcile(&unknown).await;
    assert_eq!(ready(&status).1, "InvalidSource");
    assert!(ready(&status).2.contains("only bridge, local-path"));
    unknown.spec.source.file = Some("/x.wasm".into());
    let status = world.reconcile(&unknown).await;
    assert!(ready(&status).2.contains("exactly one of"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_files_fail_with_a_clear_condition() {
    let world = World::new().await;
    let bytes = bridge();
    let cut = &bytes[..bytes.len() / 2];
    let empty = b"\0asm\x01\0\0\0";
    let cases: [(&str, &[u8], &str, &str); 5] = [
        ("text", b"#!/bin/sh", "InvalidComponent", "not WebAssembly"),
        ("nothing", b"", "InvalidComponent", "not WebAssembly"),
        ("cut", cut, "InvalidComponent", ""),
        (
            "empty",
            empty,
            "InvalidComponent",
            "build it with the davit-plugin crate",
        ),
        ("preview", WASI, "UnknownImport", "davit offers no WASI"),
    ];
    for (name, bytes, reason, text) in cases {
        let status = world
            .reconcile(&plugin(name, world.file(name, bytes)))
            .await;
        let (is_ready, why, message) = ready(&status);
        assert_eq!((is_ready, why), ("False", reason), "{name}: {message}");
        assert!(message.contains(text), "{name}: {message}");
        assert!(!status.nodes[0].ready);
    }
    let status = world
        .reconcile(&plugin("gone", "/nowhere/x.wasm".into()))
        .await;
    assert_eq!(ready(&status).1, "FileUnreadable");
    let status = world.reconcile(&plugin("relative", "x.wasm".into())).await;
    assert!(ready(&status).2.contains("absolute path"), "{status:?}");
    let status = world.reconcile(&plugin("device", "/dev/zero".into())).await;
    assert!(
        ready(&status).2.contains("not a regular file"),
        "{status:?}"
    );
    let mut wrong = plugin("digest", world.file("digest.wasm", &bytes));
    wrong.spec.source.digest = Some(format!("sha256:{}", "0".repeat(64)));
    assert_eq!(ready(&world.reconcile(&wrong).await).1, "DigestMismatch");
}

/// `(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))`
const WASI: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x7f\0\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\0\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_grants_come_with_the_text_to_paste() {
    let world = World::new().await;
    let file = world.file("bridge.wasm", &bridge());
    let status = world.reconcile(&plugin("mine", file.clone())).await;
    assert_eq!(ready(&status).1, "GrantsMissing");
    let condition = status
        .conditions
        .iter()
        .find(|c| c.type_ == "GrantsMissing")
        .unwrap();
    assert_eq!(condition.status, "True");
    assert!(
        condition.message.contains(r#""kinds":["bridge","veth"]"#),
        "{}",
        condition.message
    );
    let mut object = granted("mine", file);
    object.status = Some(status);
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).0, "True");
    let condition = status
        .conditions
        .iter()
        .find(|c| c.type_ == "GrantsMissing")
        .unwrap();
    assert_eq!(condition.status, "False");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_new_version_leaves_the_old_one_serving() {
    let world = World::new().await;
    let mut object = granted("mine", world.file("bridge.wasm", &bridge()));
    object.status = Some(world.reconcile(&object).await);
    object.spec.source.file = Some(world.file("new.wasm", b"\0asm\x01\0\0\0"));
    let status = world.reconcile(&object).await;
    let (is_ready, _, message) = ready(&status);
    assert_eq!(is_ready, "False");
    assert!(message.contains("version 0.1.0 keeps serving"), "{message}");
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    object.spec.config = Some(serde_json::Map::from_iter([("x".into(), 1.into())]));
    object.spec.source.file = Some(world.file("bridge.wasm", &bridge()));
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).1, "InvalidConfig");
    assert!(ready(&status).2.contains("unknown field `x`"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_driver_has_one_plugin() {
    let world = World::new().await;
    let file = world.file("spin.wasm", samples::SPIN);
    let first = plugin("first", file.clone());
    assert_eq!(ready(&world.reconcile(&first).await).0, "True");
    let second = plugin("second", file);
    let status = world.reconcile(&second).await;
    assert_eq!(ready(&status).1, "DriverTaken");
    assert!(ready(&status).2.contains("Plugin first"), "{status:?}");
    world.plugins.forget("first").await;
    assert_eq!(ready(&world.reconcile(&second).await).0, "True");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_selected_nodes_load_it() {
    let world = World::new().await;
    let mut object = plugin("spin", world.file("spin.wasm", samples::SPIN));
    object.spec.node_selector = BTreeMap::from([("gpu".into(), "yes".into())]);
    let labels = BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]);
    object.status = Some(world.plugins.reconcile(&object, &labels).await);
    assert_eq!(ready(object.status.as_ref().unwrap()).0, "True");
    let status = world.plugins.reconcile(&object, &BTreeMap::new()).await;
    assert_eq!(ready(&status).1, "NoNodes");
    assert!(
        world
            .plugins
            .registry()
            .drivers()
            .iter()
            .all(|d| d.plugin != "spin")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_cannot_be_read_are_named() {
    let world = World::new().await;
    let mut object = granted("mine", world.file("bridge.wasm", &bridge()));
    object.spec.grants.addresses = vec!["10.0.0.0/33".into()];
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).1, "InvalidGrants");
    assert!(
        ready(&status)
            .2
            .contains("spec.grants.addresses: \"10.0.0.0/33\""),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_harm_nobody() {
    let world = World::new().await;
    let whole = bridge();
    let mut files: Vec<Vec<u8>> = (0..20)
        .map(|n| whole[..whole.len() * n / 20].to_vec())
        .collect();
    // A package that depends on itself makes the reader of interfaces recurse for ever.
    let mut cycle = whole.clone();
    let name = b"davit:plugin/log@0.1.0";
    for at in 0..cycle.len() - name.len() {
        if cycle[at..].starts_with(name) {
            cycle[at + name.len() - 3] = b'9';
        }
    }
    files.push(cycle);
    for n in 0..20 {
        let mut flipped = whole.clone();
        let at = whole.len() * n / 20 + 11;
        flipped[at] ^= 0x55;
        files.push(flipped);
    }
    files.push(vec![0; (16 << 20) + 1]);
    for (n, bytes) in files.into_iter().enumerate() {
        let status = world
            .reconcile(&granted("broken", world.file("broken.wasm", &bytes)))
            .await;
        let (is_ready, reason, message) = ready(&status);
        // A flipped byte in a name or a constant may leave a driver that loads.
        assert!(is_ready == "True" || !message.is_empty(), "{n}: {reason}");
        if n <= 20 {
            assert_eq!(is_ready, "False", "{n}");
        }
        world.plugins.forget("broken").await;
    }
    // One that loads goes before the bundled one; afterwards that one is looked at again.
    assert_eq!(ready(&world.reconcile(&bundled("bridge")).await).0, "True");
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_takes_no_driver_away() {
    let world = World::new().await;
    let file = world.file("spin.wasm", samples::SPIN);
    let object = plugin("lost", file.clone());
    assert_eq!(ready(&world.reconcile(&object).await).0, "True");
    assert!(!world.plugins.is_stale(&object));
    std::fs::remove_file(&file).unwrap();
    assert!(world.plugins.is_stale(&object));
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).0, "True", "{status:?}");
    assert!(ready(&status).2.contains("cannot read"), "{status:?}");
    // The next agent has what was compiled, and nothing else.
    let again = World::new().await;
    let status = again.reconcile(&object).await;
    assert_eq!(ready(&status).0, "True", "{status:?}");
    assert!(
        ready(&status).2.contains("compiled copy serves"),
        "{status:?}"
    );
    // Another file that is not there was never compiled.
    let mut other = object.clone();
    other.spec.source.file = Some("/nowhere/other.wasm".into());
    let status = again.reconcile(&other).await;
    assert_eq!(ready(&status).1, "FileUnreadable", "{status:?}");
    again.plugins.forget("lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_serve_is_not_ready() {
    let world = World::new().await;
    let mut object = crate::hostile::scripted(&world).await;
    let unready = serde_json::json!({"unready": "no licence"});
    object.spec.config = unready.as_object().cloned();
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).1, "ProbeFailed", "{status:?}");
    assert!(ready(&status).2.contains("no licence"), "{status:?}");
    assert!(ready(&status).2.contains("keeps serving"), "{status:?}");
    object.spec.config = None;
    assert_eq!(ready(&world.reconcile(&object).await).0, "True");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_written_over_is_another_version() {
    let world = World::new().await;
    let file = world.file("mine.wasm", &bridge());
    let object = granted("mine", file.clone());
    assert_eq!(ready(&world.reconcile(&object).await).0, "True");
    std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    assert!(world.plugins.is_stale(&object));
    let status = world.reconcile(&object).await;
    assert_eq!(ready(&status).0, "False", "{status:?}");
    assert!(ready(&status).2.contains("version 0.1.0 keeps serving"));
    assert!(!world.plugins.is_stale(&object), "looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_planned_anew_by_another_version() {
    let world = World::new().await;
    let mut object = granted("mine", world.file("bridge.wasm", &bridge()));
    world.reconcile(&object).await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let before = world.plugins.registry().revision(BRIDGE);
    object.spec.grants.nft.masquerade.clear();
    world.reconcile(&object).await;
    assert_ne!(world.plugins.registry().revision(BRIDGE), before);
    let error = world.host.node_up(node_up(network(BRIDGE))).await;
    assert!(error.unwrap_err().message.contains("nft.masquerade"));
    // A driver that is not there at all cannot be asked, and what it made stays.
    world.plugins.forget("mine").await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
}
