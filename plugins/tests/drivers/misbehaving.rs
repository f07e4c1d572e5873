//! Drivers that loop, or want what they were not given: one call fails, the rest goes on.

use crate::world::{BRIDGE, World, attachment, create, network, node_up, plugin};
use davit_api::{Access, HostPath};
use davit_plugins::executor::AttachPod;
use davit_plugins::{Code, samples};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_loops_fails_its_call_while_others_work() {
    let world = World::new().await;
    let file = world.file("spin.wasm", samples::SPIN);
    let status = world.reconcile(&plugin("spin", file)).await;
    assert_eq!(
        status.driver.as_deref(),
        Some("spin.samples.davit.dev"),
        "{status:?}"
    );
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let mut spin = network("spin.samples.davit.dev");
    spin.name = "spin".into();
    world.host.node_up(node_up(spin.clone())).await.unwrap();
    let request = AttachPod {
        netns: world.netns("uid-1"),
        attachments: vec![attachment("uid-1", "eth0", spin)],
    };
    let started = Instant::now();
    let host = world.host.clone();
    let looping = tokio::spawn(async move { host.attach_pod(request).await });
    for n in 0..20 {
        let request = world.attach(&format!("other-{n}"), network(BRIDGE));
        world.host.attach_pod(request).await.unwrap();
    }
    let error = looping.await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert_eq!(
        error.message,
        "driver spin.samples.davit.dev: attach used more than 1s of processor time \
         (spec.grants.limits.cpu)"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_failures_it_is_left_alone() {
    let world = World::new().await;
    let file = world.file("spin.wasm", samples::SPIN);
    let mut object = plugin("spin", file);
    object.spec.grants.limits.cpu = Some("50ms".parse().unwrap());
    object.status = Some(world.reconcile(&object).await);
    let mut changes = world.plugins.registry().changes();
    let mut spin = network("spin.samples.davit.dev");
    spin.name = "spin".into();
    world.host.node_up(node_up(spin.clone())).await.unwrap();
    changes.mark_unchanged();
    let attach = || AttachPod {
        netns: world.netns("uid-1"),
        attachments: vec![attachment("uid-1", "eth0", spin.clone())],
    };
    for _ in 0..5 {
        let error = world.host.attach_pod(attach()).await.unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded, "{error}");
    }
    let error = world.host.attach_pod(attach()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.retry_after.is_some());
    assert!(
        changes.has_changed().unwrap(),
        "the agent is told to look again"
    );
    let status = world.reconcile(&object).await;
    assert_eq!(status.nodes[0].reason, "Degraded");
    assert_eq!(status.conditions[0].status, "False");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_over_etc_is_refused_by_name() {
    let world = World::new().await;
    let file = world.file("etc.wasm", samples::ETC);
    let status = world.reconcile(&plugin("etc", file.clone())).await;
    assert_eq!(status.conditions[0].reason, "Ready", "{status:?}");
    let driver = "etc.samples.davit.dev";
    let error = world
        .host
        .create_volume(driver, create("pvc-1", 1))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    assert_eq!(
        error.message,
        "root \"/etc\" is not granted: add name: /etc to spec.grants.hostPaths of the Plugin"
    );
    // Even with a root of that name, the whole of it is not a volume's.
    let mut granted = plugin("etc", file);
    granted.spec.grants.host_paths = vec![HostPath {
        name: "/etc".into(),
        path: "/etc".into(),
        access: Access::ReadWrite,
        max_bytes: None,
    }];
    let status = world.reconcile(&granted).await;
    assert_eq!(
        serde_json::to_value(status.risk).unwrap(),
        "host-equivalent"
    );
    let error = world
        .host
        .create_volume(driver, create("pvc-1", 1))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("no path beneath a root"), "{error}");
    assert_eq!(world.machine.present(), [""; 0]);
    assert_eq!(world.host.scopes(), []);
}
