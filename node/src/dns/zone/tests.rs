//! Questions about a cluster, as tables.
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::super::wire::{Data, kind};
use super::*;

fn service(name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn slice(service: &str, family: &str, ports: Value, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "default", "name": format!("{service}-{family}"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    }))
    .unwrap()
}

fn cluster() -> Zone {
    let web = service(
        "web",
        json!({
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        }),
    );
    let db = service(
        "db",
        json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
    );
    let empty = service("empty", json!({"clusterIP": "None"}));
    let pending = service("pending", json!({"type": "ClusterIP"}));
    let docs = service(
        "docs",
        json!({"type": "ExternalName", "externalName": "Docs.Example.com."}),
    );
    let box_ = service(
        "box",
        json!({"type": "ExternalName", "externalName": "192.0.2.7"}),
    );
    let mut dns = service("kube-dns", json!({"clusterIP": "10.96.0.10"}));
    dns.metadata.namespace = Some("kube-system".into());
    let sql = json!([{"name": "sql", "port": 15432, "protocol": "TCP"}]);
    let slices = [
        slice(
            "db",
            "IPv4",
            sql.clone(),
            json!([
                {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.6"]},
                {"addresses": ["10.42.0.7"], "hostname": "db-2", "conditions": {"ready": false}},
            ]),
        ),
        slice(
            "db",
            "IPv6",
            sql,
            json!([{"addresses": ["fd00:42::5"], "hostname": "db-0"}]),
        ),
        slice(
            "web",
            "IPv4",
            json!([]),
            json!([{"addresses": ["10.42.0.8"]}]),
        ),
    ];
    let services = [web, db, empty, pending, docs, box_, dns];
    Zone::new(&View {
        domain: "cluster.local",
        services: &services.iter().collect::<Vec<_>>(),
        slices: &slices.iter().collect::<Vec<_>>(),
        namespaces: &["default".into(), "kube-system".into(), "bare".into()],
        serial: 3,
    })
}

fn line(record: &Record) -> String {
    let data = match &record.data {
        Data::A(ip) => format!("A {ip}"),
        Data::Aaaa(ip) => format!("AAAA {ip}"),
        Data::Cname(name) => format!("CNAME {name}"),
        Data::Ns(name) => format!("NS {name}"),
        Data::Ptr(name) => format!("PTR {name}"),
        Data::Txt(text) => format!("TXT {text}"),
        Data::Srv {
            weight,
            port,
            target,
        } => format!("SRV {weight} {port} {target}"),
        Data::Soa { server, serial, .. } => format!("SOA {server} {serial}"),
    };
    format!("{data} ({})", record.ttl)
}

fn told(zone: &Zone, name: &str, kind: u16) -> String {
    match zone.meaning(name, kind) {
        Meaning::Records(records, more) => {
            let lines =
                |records: &[Record]| records.iter().map(line).collect::<Vec<_>>().join(", ");
            match lines(&more).as_str() {
                "" => lines(&records),
                more => format!("{} + {more}", lines(&records)),
            }
        }
        Meaning::Nothing => "nothing".into(),
        Meaning::NoName => "no name".into(),
        Meaning::Alias(record, target) => format!("{} -> {target}", line(&record)),
        Meaning::Foreign => "foreign".into(),
    }
}

#[test]
fn services_have_the_names_of_the_specification() {
    let zone = cluster();
    let cases = [
        ("web.default.svc", kind::A, "A 10.96.0.9 (30)"),
        ("web.default.svc", kind::AAAA, "AAAA fd00::9 (30)"),
        ("web.default.svc", kind::TXT, "nothing"),
        (
            "db.default.svc",
            kind::A,
            "A 10.42.0.5 (5), A 10.42.0.6 (5)",
        ),
        ("db.default.svc", kind::AAAA, "AAAA fd00:42::5 (5)"),
        ("db-0.db.default.svc", kind::A, "A 10.42.0.5 (5)"),
        ("db-0.db.default.svc", kind::AAAA, "AAAA fd00:42::5 (5)"),
        ("10-42-0-6.db.default.svc", kind::A, "A 10.42.0.6 (5)"),
        ("10-42-0-8.web.default.svc", kind::A, "A 10.42.0.8 (5)"),
        ("db-2.db.default.svc", kind::A, "no name"),
        ("empty.default.svc", kind::A, "nothing"),
        ("pending.default.svc", kind::A, "no name"),
        ("none.default.svc", kind::A, "no name"),
        ("web.other.svc", kind::A, "no name"),
        (
            "docs.default.svc",
            kind::A,
            "CNAME docs.example.com (30) -> docs.example.com",
        ),
        (
            "docs.default.svc",
            kind::CNAME,
            "CNAME docs.example.com (30)",
        ),
        ("x.docs.default.svc", kind::A, "no name"),
        ("box.default.svc", kind::A, "A 192.0.2.7 (30)"),
        ("box.default.svc", kind::AAAA, "nothing"),
        ("1-2-3-4.default.pod", kind::A, "A 1.2.3.4 (30)"),
        ("1-2-3-4.default.pod", kind::AAAA, "nothing"),
        ("fd00--5.default.pod", kind::AAAA, "AAAA fd00::5 (30)"),
        ("web.default.pod", kind::A, "no name"),
        ("default.svc", kind::A, "nothing"),
        ("bare.svc", kind::A, "nothing"),
        ("bare.pod", kind::A, "nothing"),
        ("gone.svc", kind::A, "no name"),
        ("svc", kind::A, "nothing"),
        ("dns", kind::A, "nothing"),
        ("ns.dns", kind::A, "A 10.96.0.10 (30)"),
        ("dns-version", kind::TXT, "TXT 1.1.0 (30)"),
        ("dns-version", kind::A, "nothing"),
        ("a.b.c.d.default.svc", kind::A, "no name"),
        ("web.default", kind::A, "no name"),
    ];
    for (name, kind, expected) in cases {
        let name = format!("{name}.cluster.local");
        assert_eq!(told(&zone, &name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn ports_are_found_by_name() {
    let zone = cluster();
    let end = "web.default.svc.cluster.local";
    let http = format!("SRV 100 80 {end} (30) + A 10.96.0.9 (30), AAAA fd00::9 (30)");
    let all =
        format!("SRV 50 53 {end} (30), SRV 50 80 {end} (30) + A 10.96.0.9 (30), AAAA fd00::9 (30)");
    let db = "db.default.svc.cluster.local";
    let sql = format!(
        "SRV 50 15432 10-42-0-6.{db} (5), SRV 50 15432 db-0.{db} (5) + \
         A 10.42.0.5 (5), A 10.42.0.6 (5), AAAA fd00:42::5 (5)"
    );
    let cases = [
        ("_http._tcp.web.default.svc", kind::SRV, http.as_str()),
        ("_http._tcp.web.default.svc", kind::A, "nothing"),
        ("_http._udp.web.default.svc", kind::SRV, "no name"),
        ("_none._tcp.web.default.svc", kind::SRV, "no name"),
        ("http._tcp.web.default.svc", kind::SRV, "no name"),
        ("_._tcp.web.default.svc", kind::SRV, "no name"),
        ("web.default.svc", kind::SRV, &all),
        ("_udp.web.default.svc", kind::A, "nothing"),
        ("_sctp.web.default.svc", kind::A, "no name"),
        ("_sql._tcp.db.default.svc", kind::SRV, &sql),
        ("_tcp.db.default.svc", kind::SRV, "nothing"),
        ("_x._tcp.docs.default.svc", kind::SRV, "no name"),
    ];
    for (name, kind, expected) in cases {
        let name = format!("{name}.cluster.local");
        assert_eq!(told(&zone, &name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn addresses_lead_back_to_names() {
    let zone = cluster();
    let end = "default.svc.cluster.local";
    let (web, db0) = (
        format!("PTR web.{end} (30)"),
        format!("PTR db-0.db.{end} (5)"),
    );
    let dashed = format!("PTR 10-42-0-6.db.{end} (5)");
    let cases = [
        ("9.0.96.10.in-addr.arpa", kind::PTR, web.as_str()),
        ("9.0.96.10.in-addr.arpa", kind::A, "nothing"),
        ("5.0.42.10.in-addr.arpa", kind::PTR, &db0),
        ("6.0.42.10.in-addr.arpa", kind::PTR, &dashed),
        ("8.0.42.10.in-addr.arpa", kind::PTR, "foreign"),
        ("1.1.1.1.in-addr.arpa", kind::PTR, "foreign"),
        ("96.10.in-addr.arpa", kind::PTR, "foreign"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(told(&zone, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn the_zone_speaks_for_its_own_names_only() {
    let zone = cluster();
    let ns = "NS ns.dns.cluster.local (30) + A 10.96.0.10 (30)";
    let cases = [
        ("cluster.local", kind::SOA, "SOA ns.dns.cluster.local 3 (5)"),
        ("cluster.local", kind::NS, ns),
        ("cluster.local", kind::A, "nothing"),
        ("example.com", kind::A, "foreign"),
        ("supercluster.local", kind::A, "foreign"),
        ("local", kind::A, "foreign"),
        ("", kind::NS, "foreign"),
        (
            "web.default.svc.cluster.local.example.com",
            kind::A,
            "foreign",
        ),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(told(&zone, name, kind), expected, "{name} {kind}");
    }
}
