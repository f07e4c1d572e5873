//! Services in a kernel: a node with pods behind a bridge, and a client outside (root only, as CI is).
#![allow(
    clippy::disallowed_methods,
    reason = "somebody else who changes rules is another program"
)]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use davit_plugins::capabilities::{NetworkActuator as _, ScopeContext};
use davit_plugins::plan::{Dev, Link, NetworkOp, Place, Route, ScopeId};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::super::conntrack::forget_stale;
use super::super::{Touched, Watch};
use super::*;
use crate::network::{Network, namespace};
use crate::proxy::{View, plan};

const TABLE: &str = "services-of-test";
const SERVICE: &str = "10.96.0.5";
/// The node towards the pods and towards the world.
const GATEWAY: &str = "10.9.0.1";
const NODE: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";
/// Long enough for a packet, and what a silent door costs.
const PATIENCE: Duration = Duration::from_millis(700);

/// A node, as the thread's own namespace, with three pods and a client outside.
struct Machine {
    /// Pods 10.9.0.2 to 10.9.0.4, and the client.
    spaces: Vec<PathBuf>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        for space in &self.spaces {
            namespace::remove(space).unwrap();
        }
    }
}

impl Machine {
    async fn new(folder: &Path) -> Self {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let network = Network::default();
        let node = scope(ScopeId::node("pods"), None);
        let bridge = NetworkOp::Bridge {
            link: link(Place::Host, "br0", None),
            vlan_filtering: false,
        };
        let plan = [
            bridge,
            address(Place::Host, "br0", &format!("{GATEWAY}/24")),
        ];
        network.ensure(&node, &plan).await.unwrap();
        let mut spaces = Vec::new();
        for number in 2..=5 {
            let space = folder.join(format!("space-{number}"));
            namespace::create(&space).await.unwrap();
            let outside = number == 5;
            let (own, gateway) = if outside {
                (format!("{CLIENT}/24"), NODE)
            } else {
                (format!("10.9.0.{number}/24"), GATEWAY)
            };
            let peer = format!("veth{number}");
            let mut plan = vec![
                NetworkOp::Veth {
                    link: link(Place::Pod, "eth0", None),
                    peer: hairpin(link(Place::Host, &peer, (!outside).then_some("br0"))),
                },
                address(Place::Pod, "eth0", &own),
            ];
            if outside {
                plan.push(address(Place::Host, &peer, &format!("{NODE}/24")));
                // The node has a way out, as for the addresses of Services.
                plan.push(route(Place::Host, &peer, CLIENT));
            }
            plan.push(route(Place::Pod, "eth0", gateway));
            let scope = scope(
                ScopeId::net(&number.to_string(), "eth0"),
                Some(space.clone()),
            );
            network.ensure(&scope, &plan).await.unwrap();
            spaces.push(space);
        }
        let machine = Self { spaces };
        for number in 2..=3 {
            machine.serve(number).await;
        }
        machine
    }

    fn space(&self, number: usize) -> PathBuf {
        self.spaces[number - 2].clone()
    }

    /// Pod `number` answers at port 80, over both transports, with its number and who asked.
    async fn serve(&self, number: usize) {
        let open = || {
            Ok((
                TcpListener::bind("0.0.0.0:80")?,
                UdpSocket::bind("0.0.0.0:80")?,
            ))
        };
        let space = self.space(number);
        let (tcp, udp) = namespace::inside(Some(&space), open).await.unwrap();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let peer = stream.peer_addr().unwrap().ip();
                // A client that hangs up gets no answer.
                let _ = write!(stream, "{number} {peer}");
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let text = format!("{number} {}", peer.ip());
                let _ = udp.send_to(text.as_bytes(), peer);
            }
        });
    }

    /// What is answered when somebody in space `from` connects.
    async fn ask(&self, from: usize, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(from, move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
        .await
    }

    async fn socket(&self, from: usize, to: &str) -> UdpSocket {
        let to: SocketAddr = to.parse().unwrap();
        let connect = move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        self.inside(from, connect).await.unwrap()
    }

    async fn inside<T: Send + 'static>(
        &self,
        number: usize,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let space = self.space(number);
        // What fails inside is what is looked at.
        namespace::inside(Some(&space), move || Ok(work()))
            .await
            .unwrap()
    }
}

fn said(socket: &UdpSocket) -> io::Result<String> {
    socket.send(b"hello")?;
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

fn scope(scope: ScopeId, netns: Option<PathBuf>) -> ScopeContext {
    ScopeContext {
        scope,
        driver: "bridge.davit.dev".into(),
        netns,
    }
}

fn link(place: Place, name: &str, master: Option<&str>) -> Link {
    Link {
        key: name.into(),
        place,
        name: name.into(),
        mtu: None,
        mac: None,
        master: master.map(Into::into),
        options: Default::default(),
    }
}

/// As the driver of bridges has it: where bridged packets pass the rules, a pod that reaches itself does so on the bridge.
fn hairpin(mut link: Link) -> Link {
    if link.master.is_some() {
        link.options.insert("hairpin".into(), "true".into());
    }
    link
}

fn address(place: Place, name: &str, cidr: &str) -> NetworkOp {
    NetworkOp::Address {
        dev: Dev {
            place,
            name: name.into(),
        },
        cidr: cidr.parse().unwrap(),
        options: Default::default(),
    }
}

fn route(place: Place, name: &str, via: &str) -> NetworkOp {
    NetworkOp::Route(Route {
        place,
        dst: "0.0.0.0/0".parse().unwrap(),
        via: Some(via.parse().unwrap()),
        dev: Some(name.into()),
        src: None,
        table: 0,
        metric: 0,
        onlink: false,
    })
}

/// The doors of a Service with TCP and UDP at port 80 and these endpoints: pods, and the nodes they are on.
fn doors(more: Value, pods: &[(usize, &str)]) -> Vec<Door> {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": SERVICE, "clusterIPs": [SERVICE], "ipFamilies": ["IPv4"],
        "ports": [
            {"name": "tcp", "port": 80, "nodePort": 30080},
            {"name": "udp", "port": 80, "nodePort": 30080, "protocol": "UDP"},
        ],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let service = json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec});
    let service: Service = serde_json::from_value(service).unwrap();
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(number, node)| json!({"addresses": [format!("10.9.0.{number}")], "nodeName": node}))
        .collect();
    let slice = json!({
        "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "tcp", "port": 80}, {"name": "udp", "port": 80, "protocol": "UDP"}],
    });
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    plan(&View {
        node: "here",
        services: &[&service],
        slices: &[&slice],
        pods: &["10.9.0.0/24".parse().unwrap()],
        nodes: &[],
        open: &[],
        bridges_are_seen: false,
        relays: &[],
    })
}

/// Runs a test on a thread whose own namespace is a fresh one.
fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce(Machine) -> F + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { test(Machine::new(folder.path()).await).await });
        runtime.shutdown_timeout(Duration::from_secs(5));
    });
    thread.join().unwrap();
}

/// Runs `nft`, as an administrator does.
fn nft(words: &str) {
    let status = Command::new("nft").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "nft {words}");
}

#[test]
fn clients_inside_and_outside_reach_every_endpoint() {
    on_a_machine(|machine| async move {
        let inside = format!("{SERVICE}:80");
        let outside = format!("{NODE}:30080");
        replace(TABLE, doors(json!({}), &[(2, "here"), (3, "there")]))
            .await
            .unwrap();
        for (from, to) in [(4, &inside), (5, &outside)] {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..40 {
                let text = machine.ask(from, to).await.unwrap();
                seen.insert(text);
            }
            // Their answers have to come back this way.
            let expected = [format!("2 {GATEWAY}"), format!("3 {GATEWAY}")];
            assert_eq!(seen, expected.into(), "{to}");
        }
        for (from, to) in [(4, &inside), (5, &outside)] {
            let text = said(&machine.socket(from, to).await).unwrap();
            assert!(text.ends_with(GATEWAY), "{to}: {text}");
        }
        // An endpoint that reaches itself.
        replace(TABLE, doors(json!({}), &[(2, "here")]))
            .await
            .unwrap();
        assert_eq!(
            machine.ask(2, &inside).await.unwrap(),
            format!("2 {GATEWAY}")
        );
        // Nobody is behind it.
        replace(TABLE, doors(json!({}), &[])).await.unwrap();
        for (from, to) in [(4, &inside), (5, &outside)] {
            let refused = machine.ask(from, to).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{to}");
            let refused = said(&machine.socket(from, to).await).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{to}");
        }
    });
}

#[test]
fn local_traffic_stays_on_the_node_and_keeps_its_client() {
    on_a_machine(|machine| async move {
        let (inside, outside) = (format!("{SERVICE}:80"), format!("{NODE}:30080"));
        let local = json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"});
        replace(TABLE, doors(local.clone(), &[(2, "there"), (3, "here")]))
            .await
            .unwrap();
        for _ in 0..8 {
            let text = machine.ask(5, &outside).await.unwrap();
            assert_eq!(text, format!("3 {CLIENT}"));
            let text = machine.ask(4, &inside).await.unwrap();
            assert_eq!(text, format!("3 {GATEWAY}"));
        }
        // Another node has an endpoint, and whoever balances between nodes is not told anything.
        replace(TABLE, doors(local.clone(), &[(2, "there")]))
            .await
            .unwrap();
        for (from, to) in [(4, &inside), (5, &outside)] {
            let silent = machine.ask(from, to).await.unwrap_err();
            assert_eq!(silent.kind(), io::ErrorKind::TimedOut, "{to}");
        }
        replace(TABLE, doors(local, &[])).await.unwrap();
        let refused = machine.ask(5, &outside).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_client_with_affinity_stays_until_it_stays_away() {
    on_a_machine(|machine| async move {
        let sticky = |seconds: u32| {
            let config = json!({"clientIP": {"timeoutSeconds": seconds}});
            let more = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
            doors(more, &[(2, "here"), (3, "here")])
        };
        let inside = format!("{SERVICE}:80");
        replace(TABLE, sticky(100)).await.unwrap();
        let first = machine.ask(4, &inside).await.unwrap();
        for _ in 0..8 {
            assert_eq!(machine.ask(4, &inside).await.unwrap(), first);
        }
        // Rules that are replaced forget nobody, as often as it is tried.
        for number in 0..8 {
            let mut doors = sticky(100);
            doors.truncate(doors.len() - number % 2);
            replace(TABLE, doors.clone()).await.unwrap();
            assert!(is_intact(TABLE, doors).await.unwrap());
            assert_eq!(machine.ask(4, &inside).await.unwrap(), first);
        }
        assert!(clients().contains("10.9.0.4"), "{}", clients());
        replace(TABLE, sticky(1)).await.unwrap();
        assert!(!clients().contains("10.9.0.4"), "a set of another time");
        machine.ask(4, &inside).await.unwrap();
        assert!(clients().contains("10.9.0.4"));
        // The kernel has to forget by itself, so there is nothing to wait for but time.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!clients().contains("10.9.0.4"), "{}", clients());
        replace(TABLE, doors(json!({}), &[(2, "here")]))
            .await
            .unwrap();
        assert!(!clients().contains("set clients"), "{}", clients());
    });
}

/// All packet rules and sets, as an administrator sees them.
fn clients() -> String {
    let output = Command::new("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_udp_client_finds_another_endpoint_when_its_own_is_gone() {
    on_a_machine(|machine| async move {
        for to in [format!("{SERVICE}:80"), format!("{NODE}:30080")] {
            let before = doors(json!({}), &[(2, "here")]);
            replace(TABLE, before.clone()).await.unwrap();
            let from = if to.starts_with(NODE) { 5 } else { 4 };
            let socket = machine.socket(from, &to).await;
            assert!(said(&socket).unwrap().starts_with('2'), "{to}");
            let after = doors(json!({}), &[(3, "here")]);
            replace(TABLE, after.clone()).await.unwrap();
            assert!(
                said(&socket).unwrap().starts_with('2'),
                "{to}: the kernel remembers"
            );
            assert_eq!(
                forget_stale(before, after.clone()).await.unwrap(),
                1,
                "{to}"
            );
            assert!(said(&socket).unwrap().starts_with('3'), "{to}");
            assert_eq!(forget_stale(after.clone(), after).await.unwrap(), 0, "{to}");
        }
    });
}

#[test]
fn what_somebody_else_does_to_the_rules_is_noticed() {
    on_a_machine(|machine| async move {
        let doors = doors(json!({}), &[(2, "here")]);
        let mut watch = Watch::open().unwrap();
        replace(TABLE, doors.clone()).await.unwrap();
        assert!(is_intact(TABLE, doors.clone()).await.unwrap());
        let chain = format!("flush chain inet {TABLE} doors");
        let table = format!("delete table inet {TABLE}");
        let rule = format!("add rule inet {TABLE} doors drop");
        for damage in ["flush ruleset", &table, &chain, &rule] {
            nft(damage);
            let heard = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
            // What this process did before is not among it.
            let tables = Touched::Tables([TABLE.to_owned()].into());
            assert_eq!(heard.expect(damage).unwrap(), tables, "{damage}");
            assert!(!is_intact(TABLE, doors.clone()).await.unwrap(), "{damage}");
            replace(TABLE, doors.clone()).await.unwrap();
            assert!(is_intact(TABLE, doors.clone()).await.unwrap(), "{damage}");
            machine.ask(4, &format!("{SERVICE}:80")).await.unwrap();
        }
    });
}
