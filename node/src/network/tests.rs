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
