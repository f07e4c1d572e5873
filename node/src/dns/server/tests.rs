//! Questions over real sockets, with a name server of another world behind.
use std::net::SocketAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::net::{TcpStream, UdpSocket};

use super::super::upstream::Upstream;
use super::super::wire::{self, Code, Data, Query, Record, Response, kind};
use super::super::zone::{View, Zone};
use super::*;

fn zone() -> Zone {
    let service = |name: &str, spec: serde_json::Value| -> Service {
        let metadata = json!({"namespace": "default", "name": name});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    };
    let services = [
        service("web", json!({"clusterIP": "10.96.0.9"})),
        service(
            "near",
            json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        ),
        service(
            "far",
            json!({"type": "ExternalName", "externalName": "far.example"}),
        ),
        service(
            "lost",
            json!({"type": "ExternalName", "externalName": "none.example"}),
        ),
        service(
            "ring",
            json!({"type": "ExternalName", "externalName": "ring.default.svc.cluster.local"}),
        ),
    ];
    Zone::new(&View {
        domain: "cluster.local",
        services: &services.iter().collect::<Vec<_>>(),
        slices: &[],
        namespaces: &["default".into()],
        serial: 1,
    })
}

/// A server on loopback that knows `far.example`.
async fn world() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            let query = Query::read(&buffer[..count]).unwrap();
            let mut response = Response::empty(Code::NoName);
            if query.name == "far.example" {
                let data = Data::A([192, 0, 2, 1].into());
                let name = query.name.clone();
                response = Response::empty(Code::NoError);
                response.answers.push(Record {
                    name,
                    ttl: 60,
                    data,
                });
            }
            // Somebody who guesses comes first, with another number.
            let mut guess = query.reply(&response, 512);
            guess[0] ^= 1;
            socket.send_to(&guess, peer).await.unwrap();
            socket
                .send_to(&query.reply(&response, 512), peer)
                .await
                .unwrap();
        }
    });
    port
}

async fn serve(file: &Path, port: u16, near: bool) -> (u16, CancellationToken) {
    let resolver = Resolver::new(Upstream::on_port(file.to_owned(), port));
    resolver.put(zone());
    let server = NameServer::open(resolver, Arc::new(move |_, _| near), None)
        .await
        .unwrap();
    let (own, shutdown) = (server.port().unwrap(), CancellationToken::new());
    tokio::spawn(server.run(shutdown.clone()));
    (own, shutdown)
}

async fn over_udp(port: u16, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server: SocketAddr = ([127, 0, 0, 1], port).into();
    socket.connect(server).await.unwrap();
    socket.send(packet).await.unwrap();
    let mut buffer = vec![0; 4096];
    let count = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(count);
    assert!(wire::is_answer(&buffer, packet));
    buffer
}

/// The code and the answers in words.
fn told(answer: &[u8]) -> (u8, Vec<String>) {
    let records = wire::answers_of(answer).unwrap().records;
    let lines = records.iter().map(|record| match &record.data {
        Data::A(ip) => format!("{} A {ip}", record.name),
        Data::Cname(name) => format!("{} CNAME {name}", record.name),
        other => format!("{other:?}"),
    });
    (answer[3] & 0xf, lines.collect())
}

#[tokio::test]
async fn names_of_the_cluster_and_of_the_world_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let (port, shutdown) = serve(&file, world().await, true).await;
    let web = "web.default.svc.cluster.local A 10.96.0.9";
    let far = "far.default.svc.cluster.local CNAME far.example";
    let near = format!("near.default.svc.cluster.local CNAME {}", &web[..29]);
    let lost = "lost.default.svc.cluster.local CNAME none.example";
    let cases: [(&str, u8, &[&str]); 8] = [
        ("web.default.svc.cluster.local", 0, &[web]),
        ("none.default.svc.cluster.local", 3, &[]),
        ("default.svc.cluster.local", 0, &[]),
        ("near.default.svc.cluster.local", 0, &[&near, web]),
        (
            "far.default.svc.cluster.local",
            0,
            &[far, "far.example A 192.0.2.1"],
        ),
        ("lost.default.svc.cluster.local", 3, &[lost]),
        ("far.example", 0, &["far.example A 192.0.2.1"]),
        ("none.example", 3, &[]),
    ];
    for (name, code, lines) in cases {
        let packet = wire::question(7, name, kind::A).unwrap();
        let answer = told(&over_udp(port, &packet).await);
        assert_eq!(
            (answer.0, answer.1.as_slice()),
            (
                code,
                &lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()[..]
            ),
            "{name}"
        );
    }
    let ring = wire::question(7, "ring.default.svc.cluster.local", kind::A).unwrap();
    assert_eq!(told(&over_udp(port, &ring).await).0, 2);
    let whole = wire::question(7, "cluster.local", kind::AXFR).unwrap();
    assert_eq!(told(&over_udp(port, &whole).await).0, 5);

    // Two questions over one connection.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for name in ["web.default.svc.cluster.local", "far.example"] {
        let packet = wire::question(9, name, kind::A).unwrap();
        stream.write_u16(packet.len() as u16).await.unwrap();
        stream.write_all(&packet).await.unwrap();
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(told(&answer).1.len(), 1, "{name}");
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_machine_without_name_servers_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (port, shutdown) = serve(&dir.path().join("none"), 53, true).await;
    let packet = wire::question(7, "example.com", kind::A).unwrap();
    assert_eq!(told(&over_udp(port, &packet).await), (2, vec![]));
    let own = wire::question(7, "web.default.svc.cluster.local", kind::A).unwrap();
    assert_eq!(told(&over_udp(port, &own).await).0, 0);
    shutdown.cancel();
}

#[tokio::test]
async fn strangers_hear_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (port, shutdown) = serve(&dir.path().join("none"), 53, false).await;
    let packet = wire::question(7, "web.default.svc.cluster.local", kind::A).unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), over_udp(port, &packet));
    assert!(asked.await.is_err());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Closed at once.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    shutdown.cancel();
}

#[tokio::test]
async fn the_port_of_last_time_is_taken_if_it_is_free() {
    let open = async |last| {
        let resolver = Resolver::new(Upstream::new("none".into()));
        NameServer::open(resolver, Arc::new(|_, _| true), last)
            .await
            .unwrap()
    };
    let first = open(None).await;
    let port = first.port().unwrap();
    assert_ne!(open(Some(port)).await.port().unwrap(), port);
    drop(first);
    assert_eq!(open(Some(port)).await.port().unwrap(), port);
}
