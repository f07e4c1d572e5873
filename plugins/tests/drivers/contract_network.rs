//! What any network driver has to do, on the bundled one.

use crate::world::{BRIDGE, World, attachment, me, network, node_up};
use davit_plugins::Code;
use davit_plugins::executor::{AttachPod, NodeUp, Phase};
use davit_plugins::network::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_attached_and_detached_without_a_trace() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let node_only = world.machine.present();
    assert_eq!(
        node_only,
        [
            "davit:bridge.davit.dev:node/default address/host/davit-default/10.42.3.1/24",
            "davit:bridge.davit.dev:node/default link/br",
            "davit:bridge.davit.dev:node/default masquerade/10.42.3.0/24",
            "davit:bridge.davit.dev:node/default sysctl/host/net.ipv4.ip_forward",
        ]
    );
    let attached = world
        .host
        .attach_pod(world.attach("uid-1", network(BRIDGE)))
        .await
        .unwrap();
    assert_eq!(attached.len(), 1);
    assert_eq!(attached[0].addresses, ["10.42.3.2/24".parse().unwrap()]);
    assert_eq!(attached[0].ifname, "eth0");
    assert!(attached[0].default_route && attached[0].mac.is_some());
    let present = world.machine.present();
    for key in [
        "address/pod/eth0/10.42.3.2/24",
        "link/eth",
        "route/pod/254/0/0.0.0.0/0",
    ] {
        let line = format!("davit:bridge.davit.dev:net/uid-1/eth0 {key}");
        assert!(present.contains(&line), "{line} not in {present:#?}");
    }
    world.host.release_pod("uid-1").await.unwrap();
    world.host.release_pod("uid-1").await.unwrap();
    assert_eq!(world.machine.present(), node_only);
    world.host.node_down("default").await.unwrap();
    assert_eq!(world.machine.present(), [""; 0]);
    assert_eq!(world.host.scopes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_gives_the_same_answer_and_changes_nothing() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let request = world.attach("uid-1", network(BRIDGE));
    let first = world.host.attach_pod(request.clone()).await.unwrap();
    world.machine.take_done();
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    assert_eq!(world.host.attach_pod(request).await.unwrap(), first);
    assert_eq!(world.machine.take_done(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_got_lost_is_mended() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let whole = world.machine.present();
    world.machine.lose("masquerade");
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    assert_eq!(world.machine.present(), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_network_changes_only_what_differs() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    world.machine.take_done();
    let mut changed = node_up(network(BRIDGE));
    changed.node.slices.push("10.42.4.0/24".parse().unwrap());
    changed
        .network
        .config
        .insert("masquerade".into(), false.into());
    world.host.node_up(changed).await.unwrap();
    assert_eq!(
        world.machine.take_done(),
        [
            "undo node/default masquerade/10.42.3.0/24",
            "make node/default address/host/davit-default/10.42.4.1/24",
        ]
    );
    let peers = vec![Node {
        name: "node-2".into(),
        ..me()
    }];
    let mut joined = node_up(network(BRIDGE));
    joined.node.slices.push("10.42.4.0/24".parse().unwrap());
    joined
        .network
        .config
        .insert("masquerade".into(), false.into());
    world
        .host
        .node_up(NodeUp { peers, ..joined })
        .await
        .unwrap();
    assert_eq!(
        world.machine.take_done(),
        [""; 0],
        "the bridge has nothing to do with peers"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_run_out_and_come_back() {
    let world = World::new().await;
    let mut small = me();
    small.slices = vec!["10.42.3.0/29".parse().unwrap()];
    let request = NodeUp {
        network: network(BRIDGE),
        node: small.clone(),
        peers: vec![],
    };
    world.host.node_up(request).await.unwrap();
    let attach = |uid: &str| {
        let mut one = attachment(uid, "eth0", network(BRIDGE));
        one.node = small.clone();
        AttachPod {
            netns: world.netns(uid),
            attachments: vec![one],
        }
    };
    for n in 0..5 {
        world
            .host
            .attach_pod(attach(&format!("uid-{n}")))
            .await
            .unwrap();
    }
    let error = world.host.attach_pod(attach("uid-5")).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    world.host.release_pod("uid-3").await.unwrap();
    let attached = world.host.attach_pod(attach("uid-5")).await.unwrap();
    assert_eq!(attached[0].addresses, ["10.42.3.5/29".parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_pods_at_once_get_different_addresses() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let calls = (0..100).map(|n| {
        let request = world.attach(&format!("uid-{n}"), network(BRIDGE));
        let host = world.host.clone();
        tokio::spawn(async move { host.attach_pod(request).await })
    });
    let mut seen = std::collections::HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        let attached = call.await.unwrap().unwrap();
        assert!(seen.insert(attached[0].addresses[0]));
    }
    let released = world.host.retain_pods(&["uid-7".to_owned()].into()).await;
    assert_eq!(released.len(), 99);
    assert_eq!(world.host.scopes().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_networks_or_none() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let mut second = network(BRIDGE);
    second.name = "second".into();
    let request = AttachPod {
        netns: world.netns("uid-1"),
        attachments: vec![
            attachment("uid-1", "eth0", network(BRIDGE)),
            attachment("uid-1", "eth1", second.clone()),
        ],
    };
    let before = world.machine.present();
    let error = world.host.attach_pod(request.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(
        error
            .message
            .contains("network second is not up on this node"),
        "{error}"
    );
    assert_eq!(world.machine.present(), before);
    let mut up = node_up(second);
    up.node.slices = vec!["10.43.0.0/24".parse().unwrap()];
    world.host.node_up(up).await.unwrap();
    let attached = world.host.attach_pod(request).await.unwrap();
    assert_eq!(attached.len(), 2);
    assert!(!attached[1].default_route);
    let error = world.host.node_down("second").await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_step_leaves_nothing_and_can_be_tried_again() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let before = world.machine.present();
    world.machine.refuse(Some("route/pod"));
    let error = world
        .host
        .attach_pod(world.attach("uid-1", network(BRIDGE)))
        .await
        .unwrap_err();
    assert!(
        error.message.contains("route/pod/254/0/0.0.0.0/0"),
        "{error}"
    );
    assert_eq!(world.machine.present(), before);
    assert_eq!(world.host.scopes().len(), 1);
    world.machine.refuse(None);
    world
        .host
        .attach_pod(world.attach("uid-1", network(BRIDGE)))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_undone_is_kept_in_mind() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    world.machine.refuse(Some("route/pod"));
    world.machine.keep(Some("link/eth"));
    let request = world.attach("uid-1", network(BRIDGE));
    world.host.attach_pod(request.clone()).await.unwrap_err();
    let stuck = world
        .host
        .scopes()
        .into_iter()
        .find(|scope| scope.phase == Phase::Stuck)
        .unwrap();
    assert_eq!(stuck.leases.len(), 1, "its address is not given to another");
    assert!(stuck.error.unwrap().contains("device or resource busy"));
    world.machine.refuse(None);
    assert!(world.host.attach_pod(request.clone()).await.is_err());
    world.machine.keep(None);
    world.host.attach_pod(request).await.unwrap();
    world.machine.keep(Some("link/eth"));
    assert!(world.host.release_pod("uid-1").await.is_err());
    world.machine.keep(None);
    world.host.release_pod("uid-1").await.unwrap();
    assert_eq!(world.host.scopes().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_configuration_names_the_place() {
    let world = World::new().await;
    let mut wrong = network(BRIDGE);
    wrong.config.insert("hairpin".into(), "sure".into());
    let error = world.host.node_up(node_up(wrong)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(
        error
            .message
            .starts_with("Network default spec.config: invalid type"),
        "{error}"
    );
    let error = world
        .host
        .node_up(node_up(network("nobody.example.com")))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_networks_cannot_have_one_bridge() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let mut second = network(BRIDGE);
    second.name = "second".into();
    second
        .config
        .insert("bridge".into(), "davit-default".into());
    let error = world.host.node_up(node_up(second)).await.unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    assert!(
        error
            .message
            .contains("link/davit-default is already held by node/default"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_outside_the_grants_is_refused() {
    let world = World::new().await;
    let mut eth = network(BRIDGE);
    eth.config.insert("bridge".into(), "eth0".into());
    let error = world.host.node_up(node_up(eth)).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    assert!(
        error.message.contains("spec.grants.links.create"),
        "{error}"
    );
    assert_eq!(world.machine.present(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_can_be_looked_at() {
    let world = World::new().await;
    world.host.node_up(node_up(network(BRIDGE))).await.unwrap();
    let before = world.machine.present();
    let one = attachment("uid-1", "eth0", network(BRIDGE));
    let plan = world.host.plan_attachment(&one).await.unwrap();
    assert_eq!(plan.ops.len(), 3);
    assert_eq!(world.host.plan_attachment(&one).await.unwrap().ops.len(), 3);
    assert_eq!(world.machine.present(), before);
    assert_eq!(world.host.scopes()[0].leases, []);
}
