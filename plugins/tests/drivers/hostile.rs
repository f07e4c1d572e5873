//! Drivers that plan what they must not: refused before anything is recorded, or taken back whole.

use crate::world::{World, attachment, network, node_up, plugin};
use davit_api::{Interface, Plugin};
use davit_plugins::executor::{AttachPod, Phase};
use davit_plugins::network::Network;
use davit_plugins::{Code, samples};
use serde_json::{Value, json};

pub(crate) const SCRIPT: &str = "script.samples.davit.dev";

/// The driver that does what its networks say, with far too many rights.
pub(crate) async fn scripted(world: &World) -> Plugin {
    let mut object = plugin("script", world.file("script.wasm", samples::SCRIPT));
    object.spec.grants = serde_json::from_value(json!({
        "links": {"create": ["*"], "kinds": ["bridge", "veth", "dummy", "macvlan", "host-device"], "parents": ["*"]},
        "addresses": ["10.0.0.0/8"],
        "routes": {"host": ["0.0.0.0/0"], "pod": ["any"]},
        "nft": {"masquerade": ["0.0.0.0/0"], "filter": true},
        "sysctls": {"pod": ["net.*"], "host": ["net.ipv4.ip_forward"]},
    }))
    .unwrap();
    object.spec.grants.interfaces = vec![Interface::NetworkIpam, Interface::State];
    let status = world.reconcile(&object).await;
    assert!(status.nodes[0].ready, "{status:?}");
    object
}

pub(crate) fn script(name: &str, config: Value) -> Network {
    let Value::Object(config) = config else {
        panic!("a script is an object");
    };
    Network {
        name: name.into(),
        config,
        ..network(SCRIPT)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_network_places_in_a_pod_lands_nowhere() {
    let world = World::new().await;
    scripted(&world).await;
    let steps = [
        json!({"sysctl": {"key": "net.ipv4.ip_default_ttl", "value": "1", "pod": true}}),
        json!({"dummy": {"name": "x0", "pod": true}}),
        json!({"veth": {"link": "a0", "peer": "b0"}}),
        json!({"veth": {"link": "a0", "peer": "b0", "turned": true}}),
        json!({"route": {"dst": "0.0.0.0/0", "pod": true, "via": "10.0.0.1"}}),
        json!({"rule": {"priority": 7, "src": "0.0.0.0/0", "pod": true}}),
        json!({"macvlan": {"name": "m0", "parent": "eth0"}}),
        json!({"device": {"name": "m0", "device": "eth0"}}),
    ];
    for step in steps {
        let up = node_up(script("lab", json!({"nodeUp": [step]})));
        let error = world.host.node_up(up).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{step}: {error}");
        assert!(error.message.contains("placed in a pod"), "{step}: {error}");
        assert_eq!(world.machine.present(), [""; 0], "{step}");
        assert_eq!(world.host.scopes(), [], "{step}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_networks_with_a_default_route_leave_nothing_behind() {
    let world = World::new().await;
    scripted(&world).await;
    let steps = |link: &str| {
        json!({
            "nodeUp": [{"bridge": ["br", format!("br-{link}")]}],
            "attach": [
                {"veth": {"link": link, "peer": format!("h-{link}")}},
                {"lease": "veth"},
                {"route": {"dst": "0.0.0.0/0", "pod": true, "dev": "veth"}},
            ],
        })
    };
    let (one, two) = (script("one", steps("eth0")), script("two", steps("eth1")));
    for network in [&one, &two] {
        world.host.node_up(node_up(network.clone())).await.unwrap();
    }
    let before = (world.machine.present(), world.host.scopes());
    let request = AttachPod {
        netns: world.netns("uid"),
        attachments: vec![
            attachment("uid", "eth0", one.clone()),
            attachment("uid", "eth1", two),
        ],
    };
    let error = world.host.attach_pod(request).await.unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists, "{error}");
    assert!(error.message.contains("net/uid/eth0"), "{error}");
    assert_eq!((world.machine.present(), world.host.scopes()), before);
    // Alone each of them works, and comes down again.
    let request = AttachPod {
        netns: world.netns("uid"),
        attachments: vec![attachment("uid", "eth0", one)],
    };
    world.host.attach_pod(request).await.unwrap();
    assert_eq!(world.host.release_all().await, []);
    assert_eq!(world.machine.present(), [""; 0]);
    assert_eq!(world.host.scopes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_cannot_be_are_refused_before_they_are_recorded() {
    let world = World::new().await;
    scripted(&world).await;
    for (steps, code, words) in [
        (
            json!([{"dummy": {"name": "same"}}, {"bridge": ["other", "same"]}]),
            Code::InvalidArgument,
            "two steps of the plan of node/lab take link/same",
        ),
        (
            json!([{"dummy": {"name": "dv%d"}}]),
            Code::InvalidArgument,
            "no name for a link",
        ),
        (
            json!([{"bridge": ["br", "br0"]}, {"neighbor": ["br", "192.0.2.1", "02:00:00:00:00:01"]}]),
            Code::PermissionDenied,
            "spec.grants.addresses",
        ),
        (
            json!([{"bridge": ["br", "br0"]}, {"fdb": ["br", "02:00:00:00:00:01", "192.0.2.1"]}]),
            Code::PermissionDenied,
            "spec.grants.addresses",
        ),
        (
            json!([{"route": {"dst": "0.0.0.0/0", "via": "fd00::1"}}]),
            Code::InvalidArgument,
            "of the other family",
        ),
        (
            json!([{"sysctl": {"key": "net.ipv6.conf.all.forwarding", "value": "1"}}]),
            Code::PermissionDenied,
            "spec.grants.sysctls.host",
        ),
    ] {
        let up = node_up(script("lab", json!({"nodeUp": steps})));
        let error = world.host.node_up(up).await.unwrap_err();
        assert_eq!(error.code, code, "{steps}: {error}");
        assert!(error.message.contains(words), "{steps}: {error}");
        assert_eq!(world.machine.present(), [""; 0], "{steps}");
        assert_eq!(world.host.scopes(), [], "{steps}");
    }
    let network = script(
        "lab",
        json!({"attach": [{"macvlan": {"name": "m0", "parent": "uplink"}}]}),
    );
    world.host.node_up(node_up(network.clone())).await.unwrap();
    let request = |netns| AttachPod {
        netns,
        attachments: vec![attachment("uid", "eth0", network.clone())],
    };
    let gone = world.dir.path().join("no-such-namespace");
    for (request, words) in [
        (request(world.netns("uid")), "no link \"uplink\""),
        (request(gone), "is gone"),
    ] {
        let error = world.host.attach_pod(request).await.unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert_eq!(world.host.scopes().len(), 1);
    }
    world.machine.plug_in("uplink");
    let request = request(world.netns("uid"));
    world.host.attach_pod(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_host_come_back_with_the_last_who_set_them() {
    const KEY: &str = "net.ipv4.ip_forward";
    let mut world = World::new().await;
    scripted(&world).await;
    world.machine.set(KEY, "0");
    let setting = json!({"nodeUp": [{"sysctl": {"key": KEY, "value": "1"}}]});
    for name in ["one", "two"] {
        let up = node_up(script(name, setting.clone()));
        world.host.node_up(up).await.unwrap();
        assert_eq!(world.machine.get(KEY).as_deref(), Some("1"));
    }
    world.crash();
    world.host.node_down("one").await.unwrap();
    assert_eq!(world.machine.get(KEY).as_deref(), Some("1"), "two needs it");
    // The same network without the setting is a change like its end.
    let up = node_up(script("two", json!({"nodeUp": []})));
    world.host.node_up(up).await.unwrap();
    assert_eq!(world.machine.get(KEY).as_deref(), Some("0"));
    world
        .host
        .node_up(node_up(script("two", setting)))
        .await
        .unwrap();
    assert_eq!(world.host.release_all().await, []);
    assert_eq!(world.machine.get(KEY).as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_taken_away_end_at_once() {
    let world = World::new().await;
    let mut object = scripted(&world).await;
    let filter = |name: &str| node_up(script(name, json!({"nodeUp": [{"filter": name}]})));
    world.host.node_up(filter("one")).await.unwrap();
    // The rest of the object is wrong as well, so that the new version cannot be taken in.
    object.spec.grants.nft.filter = false;
    object.spec.source.file = Some("/nowhere/script.wasm".into());
    let status = world.reconcile(&object).await;
    assert!(!status.nodes[0].ready, "{status:?}");
    assert!(
        status.nodes[0].message.contains("keeps serving"),
        "{status:?}"
    );
    for name in ["one", "two"] {
        let error = world.host.node_up(filter(name)).await.unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{name}: {error}");
    }
    // What cannot be read grants nothing, and neither does what leaves out an interface that the code needs.
    object.spec.grants.addresses = vec!["10.0.0.0/33".into()];
    world.reconcile(&object).await;
    let plain = || node_up(script("three", json!({})));
    assert_eq!(
        world.host.node_up(plain()).await.unwrap_err().code,
        Code::Unavailable
    );
    let mut object = scripted(&world).await;
    world.host.node_up(plain()).await.unwrap();
    object.spec.grants.interfaces.clear();
    let status = world.reconcile(&object).await;
    assert_eq!(status.nodes[0].reason, "GrantsMissing", "{status:?}");
    assert!(world.plugins.registry().revision(SCRIPT).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_a_driver_keeps_at_the_end_are_kept() {
    let world = World::new().await;
    scripted(&world).await;
    let showing = script(
        "lab",
        json!({"nodeUp": [{"event": "up"}], "attach": [{"show": "released/"}]}),
    );
    world.host.node_up(node_up(showing.clone())).await.unwrap();
    let attach = |uid: &str| AttachPod {
        netns: world.netns(uid),
        attachments: vec![attachment(uid, "eth0", showing.clone())],
    };
    world.host.attach_pod(attach("first")).await.unwrap();
    world.host.release_pod("first").await.unwrap();
    // The driver is told in the background.
    let mut keys = String::new();
    for n in 0..200 {
        let uid = format!("later-{n}");
        let attached = world.host.attach_pod(attach(&uid)).await.unwrap();
        keys = attached[0].published["keys"].clone();
        if keys.contains("released/net/first/eth0") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(keys.contains("released/net/first/eth0"), "{keys:?}");
    let events = world.machine.events();
    let said = |reason: &str| events.iter().find(|event| event.reason == reason).unwrap();
    let up = said("Scripted");
    assert_eq!(up.subject.as_ref().unwrap().kind, "Network");
    assert_eq!(said("Released").message, "net/first/eth0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_deleted_does_not_come_back() {
    let world = World::new().await;
    scripted(&world).await;
    let bridge = script("lab", json!({"nodeUp": [{"bridge": ["br", "br0"]}]}));
    for _ in 0..20 {
        world.host.node_up(node_up(bridge.clone())).await.unwrap();
        world.machine.lose("link/br");
        let (host, other) = (world.host.clone(), world.host.clone());
        let mend = tokio::spawn(async move { host.replay().await });
        let down = tokio::spawn(async move { other.node_down("lab").await });
        let report = mend.await.unwrap();
        down.await.unwrap().unwrap();
        assert_eq!(report.failed, []);
        assert_eq!(world.machine.present(), [""; 0]);
        assert_eq!(world.host.scopes(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_in_the_middle_takes_the_rest_back() {
    let world = World::new().await;
    scripted(&world).await;
    world.machine.refuse(Some("masquerade"));
    world.machine.keep(Some("link/br"));
    let steps =
        json!([{"bridge": ["br", "br0"]}, {"dummy": {"name": "d0"}}, {"masquerade": "10.0.0.0/8"}]);
    let up = node_up(script("lab", json!({"nodeUp": steps})));
    world.host.node_up(up).await.unwrap_err();
    let scopes = world.host.scopes();
    assert_eq!((scopes.len(), scopes[0].phase), (1, Phase::Stuck));
    assert_eq!(world.host.release_all().await.len(), 1, "it is said");
    world.machine.keep(None);
    assert_eq!(world.host.release_all().await, []);
    assert_eq!(world.machine.present(), [""; 0]);
}
