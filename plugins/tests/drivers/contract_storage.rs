//! What any storage driver has to do, on the bundled one.

use crate::world::{LOCAL_PATH, World, create, publish, use_mode, volume};
use davit_plugins::Code;
use davit_plugins::storage::AccessMode;
use std::collections::BTreeMap;
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_lives_and_dies() {
    let world = World::new().await;
    let made = world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 5))
        .await
        .unwrap();
    assert_eq!(made.id, "pvc-1");
    assert_eq!(made.capacity_bytes, 5 << 30);
    assert_eq!(made.topology[0]["kubernetes.io/hostname"], "node-1");
    let exposed = world
        .host
        .publish_volume(LOCAL_PATH, publish("pvc-1", "uid-1"))
        .await
        .unwrap();
    assert_eq!(exposed.path, Path::new("/var/lib/davit/volumes/pvc-1"));
    assert!(!exposed.read_only && !exposed.block);
    let error = world
        .host
        .delete_volume(LOCAL_PATH, volume("pvc-1", 5))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains("publish/pvc-1/uid-1"), "{error}");
    world.host.unpublish_volume("pvc-1", "uid-1").await.unwrap();
    world.host.unpublish_volume("pvc-1", "uid-1").await.unwrap();
    world
        .host
        .delete_volume(LOCAL_PATH, volume("pvc-1", 5))
        .await
        .unwrap();
    world
        .host
        .delete_volume(LOCAL_PATH, volume("pvc-1", 5))
        .await
        .unwrap();
    assert_eq!(world.machine.present(), [""; 0]);
    assert_eq!(world.host.scopes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_name_means_the_same_volume() {
    let world = World::new().await;
    let first = world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 5))
        .await
        .unwrap();
    let mut elsewhere = create("pvc-1", 5);
    elsewhere.preferred = vec![BTreeMap::from([("zone".into(), "b".into())])];
    assert_eq!(
        world
            .host
            .create_volume(LOCAL_PATH, elsewhere)
            .await
            .unwrap(),
        first
    );
    let error = world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 6))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_requests_are_refused() {
    let world = World::new().await;
    let long = "x".repeat(129);
    for name in ["", "../etc", "a/b", ".hidden", long.as_str()] {
        let error = world
            .host
            .create_volume(LOCAL_PATH, create(name, 1))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{name}");
    }
    let error = world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 500))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    let error = world
        .host
        .publish_volume(LOCAL_PATH, publish("pvc-9", "uid-1"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    let error = world
        .host
        .create_volume("bridge.davit.dev", create("pvc-1", 1))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(world.machine.present(), [""; 0]);
    assert_eq!(world.host.scopes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_grow_and_keep_their_data() {
    let world = World::new().await;
    world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 5))
        .await
        .unwrap();
    world.machine.take_done();
    let grow = |gib: u64| {
        world
            .host
            .expand_volume(LOCAL_PATH, volume("pvc-1", 5), gib << 30, None, use_mode())
    };
    assert_eq!(grow(8).await.unwrap().capacity_bytes, 8 << 30);
    assert_eq!(grow(8).await.unwrap().capacity_bytes, 8 << 30);
    assert_eq!(
        grow(6).await.unwrap().capacity_bytes,
        8 << 30,
        "never smaller"
    );
    assert_eq!(
        world.machine.take_done(),
        [""; 0],
        "a directory has no size to change"
    );
    let error = grow(500).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pod_only_where_the_claim_says_so() {
    let world = World::new().await;
    world
        .host
        .create_volume(LOCAL_PATH, create("pvc-1", 1))
        .await
        .unwrap();
    let mut single = publish("pvc-1", "uid-1");
    single.use_as.access = vec![AccessMode::ReadWriteOncePod];
    world
        .host
        .publish_volume(LOCAL_PATH, single.clone())
        .await
        .unwrap();
    world
        .host
        .publish_volume(LOCAL_PATH, single.clone())
        .await
        .unwrap();
    let mut second = single;
    second.pod.uid = "uid-2".into();
    let error = world
        .host
        .publish_volume(LOCAL_PATH, second)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    let released = world.host.retain_pods(&Default::default()).await;
    assert_eq!(released, ["uid-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_and_node_are_told() {
    let world = World::new().await;
    world.machine.available(7 << 30);
    let here = world
        .host
        .capacity(LOCAL_PATH, &BTreeMap::new(), &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(here, 7 << 30);
    let info = world.host.node_info(LOCAL_PATH).await.unwrap();
    assert_eq!(info.node_id, "node-1");
    world.host.probe(LOCAL_PATH).await.unwrap();
    let drivers = world.plugins.registry().drivers();
    let local = drivers
        .iter()
        .find(|driver| driver.driver == LOCAL_PATH)
        .unwrap();
    assert!(local.storage && local.node_placement && !local.network);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_granted_beneath_a_root_holds() {
    let world = World::new().await;
    let mut object = davit_plugins::bundled_plugins()
        .into_iter()
        .find(|plugin| plugin.metadata.name.as_deref() == Some("local-path"))
        .unwrap();
    object.spec.grants.host_paths[0].max_bytes = Some("4Gi".parse().unwrap());
    let status = world.reconcile(&object).await;
    assert!(status.nodes[0].ready, "{status:?}");
    let make = |name: &str, gib| world.host.create_volume(LOCAL_PATH, create(name, gib));
    make("pvc-1", 3).await.unwrap();
    let error = make("pvc-2", 2).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    // What is really there counts as well, whatever was promised.
    world.machine.used(4 << 30);
    let error = make("pvc-2", 1).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    let any = BTreeMap::new();
    let here = world.host.capacity(LOCAL_PATH, &any, &any);
    assert_eq!(here.await.unwrap(), 0);
    world.machine.used(0);
    make("pvc-2", 1).await.unwrap();
    let grow = world
        .host
        .expand_volume(LOCAL_PATH, volume("pvc-1", 3), 4 << 30, None, use_mode());
    assert_eq!(grow.await.unwrap_err().code, Code::ResourceExhausted);
}
