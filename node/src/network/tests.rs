//! Plans carried out in namespaces made for the test (root only, as CI is).

use std::path::PathBuf;

use davit_plugins::plan::{Dev, Forward, Protocol, Route, ScopeId};

use super::*;

/// A "host" and a pod namespace; the host one is entered by the whole test's runtime thread, so
/// that "the node's own" means it.
struct Machine {
    pod: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        namespace::remove(&self.pod).unwrap();
    }
}

/// Runs a test on a thread whose own namespace is a fresh one.
fn on_a_machine<F: Future<Output = ()>>(
    name: &str,
    test: impl FnOnce(Machine) -> F + Send + 'static,
) {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join(format!("{name}-pod"));
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            namespace::create(&pod).await.unwrap();
            test(Machine { pod }).await;
        });
        // Threads of the blocking pool share the namespace; it ends with them.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    });
    thread.join().unwrap();
}

fn node_scope() -> ScopeContext {
    ScopeContext {
        scope: ScopeId::node("pods"),
        driver: "bridge.davit.dev".into(),
        netns: None,
    }
}

fn pod_scope(machine: &Machine) -> ScopeContext {
    ScopeContext {
        scope: ScopeId::net("pod-uid", "eth0"),
        driver: "bridge.davit.dev".into(),
        netns: Some(machine.pod.clone()),
    }
}

fn link(place: Place, name: &str) -> Link {
    Link {
        key: name.into(),
        place,
        name: name.into(),
        mtu: None,
        mac: None,
        master: None,
        options: Default::default(),
    }
}

fn node_plan() -> Vec<NetworkOp> {
    vec![
        NetworkOp::Bridge {
            link: link(Place::Host, "br0"),
            vlan_filtering: false,
        },
        NetworkOp::Address {
            dev: Dev {
                place: Place::Host,
                name: "br0".into(),
            },
            cidr: "10.9.0.1/24".parse().unwrap(),
            options: Default::default(),
        },
        NetworkOp::Masquerade {
            src: "10.9.0.0/24".parse().unwrap(),
            except: vec!["10.9.0.0/24".parse().unwrap()],
        },
    ]
}

fn pod_plan() -> Vec<NetworkOp> {
    let mut outer = link(Place::Host, "veth0");
    outer.master = Some("br0".into());
    outer.options.insert("hairpin".into(), "true".into());
    vec![
        NetworkOp::Veth {
            link: link(Place::Pod, "eth0"),
            peer: outer,
        },
        NetworkOp::Address {
            dev: Dev {
                place: Place::Pod,
                name: "eth0".into(),
            },
            cidr: "10.9.0.2/24".parse().unwrap(),
            options: Default::default(),
        },
        NetworkOp::Route(Route {
            place: Place::Pod,
            dst: "0.0.0.0/0".parse().unwrap(),
            via: Some("10.9.0.1".parse().unwrap()),
            dev: Some("eth0".into()),
            src: None,
            table: 0,
            metric: 0,
            onlink: false,
        }),
        NetworkOp::Sysctl {
            place: Place::Pod,
            key: "net.ipv4.ip_default_ttl".into(),
            value: "65".into(),
            former: None,
        },
        NetworkOp::Forward(Forward {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: 8080,
            to_ip: "10.9.0.2".parse().unwrap(),
            to_port: 80,
        }),
    ]
}

#[test]
fn a_pod_on_a_bridge_answers_and_leaves_nothing_behind() {
    on_a_machine("bridge", |machine| async move {
        let network = Network::default();
        let (node, pod) = (node_scope(), pod_scope(&machine));
        network.ensure(&node, &node_plan()).await.unwrap();
        network.ensure(&pod, &pod_plan()).await.unwrap();
        assert_eq!(network.read_back(&node, &node_plan()).await.unwrap(), []);
        assert_eq!(network.read_back(&pod, &pod_plan()).await.unwrap(), []);
        // Again: nothing changes, nothing fails.
        network.ensure(&pod, &pod_plan()).await.unwrap();
        assert!(network.mac(&pod, "eth0").await.unwrap().is_some());

        let listener = namespace::inside(pod.netns.as_deref(), || {
            std::net::TcpListener::bind("10.9.0.2:80")
        })
        .await
        .unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().1);
        let client = namespace_client("10.9.0.2:80").await;
        assert_eq!(client.peer_addr().unwrap().port(), 80);
        assert_eq!(server.join().unwrap().ip().to_string(), "10.9.0.1");

        assert!(network.undo(&pod, &pod_plan()).await.is_empty());
        assert!(network.undo(&node, &node_plan()).await.is_empty());
        let names: Vec<String> = network
            .links("*")
            .await
            .unwrap()
            .into_iter()
            .map(|link| link.name)
            .collect();
        assert_eq!(names, ["lo"]);
        assert!(!nft::has_table("davit-bridge-davit-dev").await);
    });
}

async fn namespace_client(to: &'static str) -> std::net::TcpStream {
    let limit = std::time::Duration::from_secs(5);
    let connect = move || std::net::TcpStream::connect_timeout(&to.parse().unwrap(), limit);
    tokio::task::spawn_blocking(connect).await.unwrap().unwrap()
}

#[test]
fn rules_follow_the_plan_and_lost_things_are_noticed() {
    on_a_machine("drift", |_machine| async move {
        let network = Network::default();
        let node = node_scope();
        network.ensure(&node, &node_plan()).await.unwrap();
        let mut changed = node_plan();
        changed[2] = NetworkOp::Masquerade {
            src: "10.9.0.0/24".parse().unwrap(),
            except: vec![],
        };
        let drift = network.read_back(&node, &changed).await.unwrap();
        assert_eq!(
            drift.iter().map(|drift| drift.index).collect::<Vec<_>>(),
            [2]
        );
        network.ensure(&node, &changed).await.unwrap();
        assert_eq!(network.read_back(&node, &changed).await.unwrap(), []);
        let old = network.read_back(&node, &node_plan()).await.unwrap();
        assert_eq!(old.len(), 1, "the old rule is gone");

        let host = Netlink::open(None).await.unwrap();
        host.delete(host.index("br0").await.unwrap(), "br0")
            .await
            .unwrap();
        let drift = network.read_back(&node, &changed).await.unwrap();
        assert_eq!(drift[0].what, "link br0 is missing");
    });
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    on_a_machine("foreign", |_machine| async move {
        let network = Network::default();
        let foreign = ScopeContext {
            scope: ScopeId::node("other"),
            ..node_scope()
        };
        let bridge = vec![node_plan().remove(0)];
        network.ensure(&foreign, &bridge).await.unwrap();
        let refused = network
            .ensure(&node_scope(), &node_plan())
            .await
            .unwrap_err();
        assert_eq!(
            (refused.index, refused.error.kind),
            (0, ActErrorKind::Occupied)
        );
        assert!(
            refused
                .error
                .message
                .contains("davit:bridge.davit.dev:node/other")
        );
        assert!(network.undo(&node_scope(), &bridge).await.is_empty());
        assert_eq!(network.links("br*").await.unwrap().len(), 1);
    });
}

#[test]
fn collection_takes_what_no_scope_knows() {
    on_a_machine("collect", |_machine| async move {
        let network = Network::default();
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        assert!(network.collect(&|_| true).await.unwrap().is_empty());
        let removed = network.collect(&|_| false).await.unwrap();
        assert_eq!(removed, ["davit:bridge.davit.dev:node/pods"]);
        assert!(network.links("br*").await.unwrap().is_empty());
        assert!(!nft::has_table("davit-bridge-davit-dev").await);
    });
}

#[test]
fn a_pod_that_is_gone_takes_its_side_along() {
    on_a_machine("gone", |machine| async move {
        let network = Network::default();
        let pod = pod_scope(&machine);
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        network.ensure(&pod, &pod_plan()).await.unwrap();
        namespace::remove(&machine.pod).unwrap();
        assert!(network.undo(&pod, &pod_plan()).await.is_empty());
        assert!(network.links("veth*").await.unwrap().is_empty());
    });
}

/// Runs `ip` on the test's host.
async fn ip(words: &str) -> String {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let run = move || {
        #[allow(clippy::disallowed_methods, reason = "as an administrator would")]
        let output = std::process::Command::new("ip").args(&words).output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[test]
fn a_bridge_keeps_its_address_when_ports_come_and_go() {
    on_a_machine("mac", |_machine| async move {
        let network = Network::default();
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        let address = || async { network.links("br0").await.unwrap()[0].mac };
        let first = address().await;
        for mac in ["02:00:00:00:00:01", "06:ff:ff:ff:ff:ff"] {
            ip(&format!("link add p0 address {mac} type veth peer name p1")).await;
            ip("link set p0 master br0 up").await;
            assert_eq!(address().await, first);
            ip("link del p0").await;
            assert_eq!(address().await, first);
        }
        // Who had learnt it finds it again.
        ip("link del br0").await;
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        assert_eq!(address().await, first);
    });
}

fn setting(place: Place, key: &str, value: &str, former: Option<String>) -> Vec<NetworkOp> {
    vec![NetworkOp::Sysctl {
        place,
        key: key.into(),
        value: value.into(),
        former,
    }]
}

#[test]
fn a_setting_of_the_host_comes_back_and_no_pods_lands_there() {
    on_a_machine("sysctl", |_machine| async move {
        const KEY: &str = "net.ipv4.ip_default_ttl";
        let network = Network::default();
        let now = || async { network.setting(KEY).await.unwrap().unwrap() };
        let before = now().await;
        // A network has no pod: its step must not become the host's.
        let pods = setting(Place::Pod, KEY, "77", None);
        assert!(network.ensure(&node_scope(), &pods).await.is_err());
        assert!(network.read_back(&node_scope(), &pods).await.is_err());
        assert!(network.undo(&node_scope(), &pods).await.is_empty());
        assert_eq!(now().await, before);
        let own = setting(Place::Host, KEY, "77", Some(before.clone()));
        network.ensure(&node_scope(), &own).await.unwrap();
        assert_eq!(now().await, "77");
        assert!(network.undo(&node_scope(), &own).await.is_empty());
        assert_eq!(now().await, before);
        // What somebody else has set since is theirs.
        network.ensure(&node_scope(), &own).await.unwrap();
        sysctl::write(None, KEY, "88").await.unwrap();
        assert!(network.undo(&node_scope(), &own).await.is_empty());
        assert_eq!(now().await, "88");
        assert_eq!(network.setting("net.ipv4.no_such").await.unwrap(), None);
        assert!(network.setting("kernel.panic").await.is_err());
    });
}

#[test]
fn routes_and_rules_of_the_host_stay_and_ours_go() {
    on_a_machine("routes", |_machine| async move {
        let network = Network::default();
        ip("link add up0 type bridge").await;
        ip("addr add 192.0.2.2/24 dev up0").await;
        ip("link set up0 up").await;
        ip("route add default via 192.0.2.1").await;
        let route = |dst: &str, metric| {
            NetworkOp::Route(Route {
                place: Place::Host,
                dst: dst.parse().unwrap(),
                via: Some("192.0.2.9".parse().unwrap()),
                dev: None,
                src: None,
                table: 0,
                metric,
                onlink: false,
            })
        };
        let before = ip("route").await;
        let taken = [route("0.0.0.0/0", 0)];
        let refused = network.ensure(&node_scope(), &taken).await.unwrap_err();
        assert_eq!(refused.error.kind, ActErrorKind::Occupied);
        assert!(network.undo(&node_scope(), &taken).await.is_empty());
        assert_eq!(ip("route").await, before);
        let rule = NetworkOp::Rule(davit_plugins::plan::PolicyRule {
            place: Place::Host,
            family: 4,
            priority: 4242,
            src: Some("198.51.100.0/24".parse().unwrap()),
            dst: None,
            fwmark: 0,
            iif: None,
            table: 254,
        });
        let rules = ip("rule").await;
        let own = [route("0.0.0.0/0", 50), route("198.51.100.0/24", 0), rule];
        for undo in [true, false] {
            network.ensure(&node_scope(), &own).await.unwrap();
            network.ensure(&node_scope(), &own).await.unwrap();
            assert_eq!(network.read_back(&node_scope(), &own).await.unwrap(), []);
            if undo {
                assert!(network.undo(&node_scope(), &own).await.is_empty());
            } else {
                // As when every list is lost.
                assert_eq!(network.sweep().await.unwrap().len(), 3);
            }
            assert_eq!(ip("route").await, before);
            assert_eq!(ip("rule").await, rules);
        }
        assert!(network.undo(&node_scope(), &own).await.is_empty());
    });
}

#[test]
fn what_was_cut_short_is_ours_to_finish_or_remove() {
    on_a_machine("half", |_machine| async move {
        let network = Network::default();
        // As a davit that died before it had set the alias left it.
        let half = format!("link add br0 group {GROUP} type bridge");
        ip(&half).await;
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        assert!(network.undo(&node_scope(), &node_plan()).await.is_empty());
        ip(&half).await;
        assert!(network.undo(&node_scope(), &node_plan()).await.is_empty());
        assert!(network.links("br0").await.unwrap().is_empty());
        ip(&half).await;
        assert_eq!(network.sweep().await.unwrap(), ["link br0"]);
        // A step that the kernel refuses half way leaves nothing that cannot be undone.
        let mut plan = node_plan();
        let mut bad = link(Place::Host, "d0");
        bad.master = Some("nowhere".into());
        plan.push(NetworkOp::Bridge {
            link: bad,
            vlan_filtering: false,
        });
        let refused = network.ensure(&node_scope(), &plan).await.unwrap_err();
        assert_eq!(refused.index, 3);
        assert!(network.undo(&node_scope(), &plan).await.is_empty());
        let left = network.links("*").await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        // What was only borrowed is given back, not deleted.
        ip("link add nic0 type bridge").await;
        ip("link set nic0 alias davit:other:net/gone/eth1").await;
        network.collect(&|_| false).await.unwrap();
        assert_eq!(network.links("nic0").await.unwrap().len(), 1);
        assert!(!ip("link show nic0").await.contains("alias"));
    });
}

#[test]
fn neighbours_are_looked_for_and_pairs_may_be_turned_round() {
    on_a_machine("neighbours", |machine| async move {
        let network = Network::default();
        let pod = pod_scope(&machine);
        let dev = |place, name: &str| Dev {
            place,
            name: name.into(),
        };
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        let mut outer = link(Place::Host, "out0");
        outer.master = Some("br0".into());
        let plan = [
            NetworkOp::Veth {
                link: outer,
                peer: link(Place::Pod, "eth0"),
            },
            NetworkOp::Neighbor {
                dev: dev(Place::Pod, "eth0"),
                ip: "10.9.0.9".parse().unwrap(),
                mac,
            },
            NetworkOp::Fdb {
                dev: dev(Place::Host, "out0"),
                mac,
                dst: None,
            },
        ];
        network.ensure(&pod, &plan).await.unwrap();
        assert_eq!(network.read_back(&pod, &plan).await.unwrap(), []);
        assert!(network.mac(&pod, "eth0").await.unwrap().is_some());
        assert_eq!(network.undo(&pod, &plan[1..]).await, []);
        let drift = network.read_back(&pod, &plan).await.unwrap();
        let lost: Vec<usize> = drift.iter().map(|drift| drift.index).collect();
        assert_eq!(lost, [1, 2]);
        // A pair that loses one end is made again.
        ip("link del out0").await;
        assert_eq!(network.read_back(&pod, &plan[..1]).await.unwrap().len(), 1);
        network.ensure(&pod, &plan).await.unwrap();
        assert_eq!(network.read_back(&pod, &plan).await.unwrap(), []);
        assert!(network.undo(&pod, &plan).await.is_empty());
    });
}

#[test]
fn links_that_vanish_are_told() {
    on_a_machine("vanish", |_machine| async move {
        let network = Network::default();
        let mut watch = LinkWatch::open().unwrap();
        network.ensure(&node_scope(), &node_plan()).await.unwrap();
        ip("link add other0 type bridge").await;
        ip("link del other0").await;
        ip("link del br0").await;
        let marks = vec![node_scope().mark()];
        assert_eq!(watch.next().await.unwrap(), Gone::Marks(marks));
    });
}
