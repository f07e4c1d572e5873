//! The agent dies at some moment; what is found when it starts again.

use crate::world::{BRIDGE, LOCAL_PATH, World, create, network, node_up, publish, volume};
use davit_plugins::executor::Phase;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_adopted_and_nothing_done_again() {
    let mut world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let request = world.attach("uid-1", network(BRIDGE));
    let attached = world.host.attach_pod(request.clone()).await.unwrap();
    world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 1))
        .await
        .unwrap();
    world
        .host
        .publish_volume(LOCAL_PATH, publish("pvc-1", "uid-1"))
        .await
        .unwrap();
    let keep = world.dir.path().to_owned();
    let kept = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    std::fs::create_dir_all(world.dir.path().join("state")).unwrap();
    std::fs::create_dir_all(world.dir.path().join("run")).unwrap();
    for part in ["state/node.db", "run/boot.db"] {
        std::fs::copy(keep.join(part), world.dir.path().join(part)).unwrap();
    }
    world.crash();
    world.machine.take_done();
    let report = world.host.replay().await;
    assert_eq!(report, Default::default());
    assert_eq!(world.host.attach_pod(request).await.unwrap(), attached);
    assert_eq!(world.machine.take_done(), [""; 0]);
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_mended_and_strangers_are_removed() {
    let mut world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    world.crash();
    world.machine.lose("link/br");
    world
        .machine
        .leave_behind("davit:bridge.davit.dev:net/old/eth0", "link/host");
    let report = world.host.replay().await;
    assert_eq!(report.mended.len(), 1);
    assert_eq!(report.mended[0].1, "link/br: is missing");
    assert_eq!(report.collected, ["davit:bridge.davit.dev:net/old/eth0"]);
    assert_eq!(world.machine.present().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_made_attachment_is_finished_or_removed() {
    for namespace_lives in [true, false] {
        let mut world = World::new().await;
        world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
        // The journal as it is between planning and acting: the plan is recorded, and acting fails.
        world.machine.refuse(Some("address/pod"));
        world.machine.keep(Some("link/eth"));
        let request = world.attach("uid-1", network(BRIDGE));
        world.host.attach_pod(request.clone()).await.unwrap_err();
        world.machine.refuse(None);
        world.machine.keep(None);
        if !namespace_lives {
            std::fs::remove_file(&request.netns).unwrap();
        }
        let old = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
        for part in ["state", "run"] {
            std::fs::create_dir_all(world.dir.path().join(part)).unwrap();
        }
        for part in ["state/node.db", "run/boot.db"] {
            std::fs::copy(old.path().join(part), world.dir.path().join(part)).unwrap();
        }
        world.crash();
        let report = world.host.replay().await;
        assert_eq!(report.failed, [], "{namespace_lives}");
        let left = world.host.scopes();
        assert!(
            left.iter().all(|scope| scope.phase == Phase::Applied),
            "{left:?}"
        );
        assert_eq!(left.len(), 1);
        assert_eq!(world.machine.present().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_needs_no_plugin() {
    let mut world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    world
        .host
        .attach_pod(world.attach("uid-1", network(BRIDGE)))
        .await
        .unwrap();
    world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 1))
        .await
        .unwrap();
    world
        .host
        .publish_volume(LOCAL_PATH, publish("pvc-1", "uid-1"))
        .await
        .unwrap();
    // An agent whose plugins are not loaded yet.
    let config = davit_plugins::PluginHostConfig {
        cache_dir: world.dir.path().join("empty"),
        ..Default::default()
    };
    world.plugins = davit_plugins::PluginHost::start(config).await.unwrap();
    world.crash();
    world.host.release_pod("uid-1").await.unwrap();
    world.host.unpublish_volume("pvc-1", "uid-1").await.unwrap();
    world.host.node_down("default").await.unwrap();
    assert_eq!(
        world.machine.present(),
        ["davit:local-path.davit.dev:volume/pvc-1 storage/data"],
        "data stays"
    );
    assert_eq!(world.host.release_all().await, []);
    assert_eq!(world.host.scopes().len(), 1);
    let _ = volume("pvc-1", 1);
}
