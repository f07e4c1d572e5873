//! Doors as readable lines.
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{Relay, View, closed_host_ports, host_port_doors, plan, refused};
use crate::network::nft::services::{Door, Masquerade, Target};

fn line(door: &Door) -> String {
    let address = door.address.map_or_else(
        || if door.is_v4 { "node4" } else { "node6" }.to_owned(),
        |ip| ip.to_string(),
    );
    let target = match &door.target {
        Target::Endpoints(all) if all.is_empty() => "refused".to_owned(),
        Target::Endpoints(all) => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join(",")
        }
        Target::Here(port) => format!("here:{port}"),
        Target::Silence => "silence".to_owned(),
    };
    let masquerade = match &door.masquerade {
        Masquerade::Everybody => "all",
        Masquerade::OthersThan(_) => "others",
        Masquerade::Only(_) => "own",
        Masquerade::Nobody => "none",
    };
    let sticky = door
        .sticky
        .map_or_else(String::new, |seconds| format!(" sticky {seconds}"));
    format!(
        "{} {address} {}/{} -> {target} masq {masquerade}{sticky}",
        door.label, door.port, door.protocol
    )
}

fn lines(spec: Value, slices: &[Value]) -> Vec<String> {
    lines_of("web", spec, slices, true, &[])
}

fn lines_of(
    name: &str,
    spec: Value,
    slices: &[Value],
    bridges_are_seen: bool,
    relays: &[Relay],
) -> Vec<String> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let service = json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec });
    let service: Service = serde_json::from_value(service).unwrap();
    let slices: Vec<EndpointSlice> = slices
        .iter()
        .map(|slice| serde_json::from_value(slice.clone()).unwrap())
        .collect();
    let (pods, open) = nets();
    let view = View {
        node: "here",
        services: &[&service],
        slices: &slices.iter().collect::<Vec<_>>(),
        pods: &pods,
        nodes: &["192.0.2.10".parse().unwrap()],
        open: &open,
        bridges_are_seen,
        relays,
    };
    plan(&view).iter().map(line).collect()
}

/// The networks of pods, and ranges that Services may take addresses from.
fn nets() -> ([IpNet; 1], [IpNet; 2]) {
    let net = |text: &str| text.parse().unwrap();
    (
        [net("10.42.0.0/16")],
        [net("192.0.2.0/24"), net("2001:db8::/64")],
    )
}

/// A slice of `default/web` with an endpoint for each (address, node, conditions).
fn slice(endpoints: &[(&str, &str, Value)]) -> Value {
    let all = endpoints.iter().map(|(ip, node, conditions)| {
        json!({ "addresses": [ip], "nodeName": node, "conditions": conditions })
    });
    json!({
        "metadata": {
            "namespace": "default", "name": "web-1",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4",
        "endpoints": all.collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"],
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    });
    let (Value::Object(all), Value::Object(more)) = (&mut spec, more) else {
        panic!("not an object")
    };
    all.extend(more);
    spec
}

fn two() -> Value {
    slice(&[
        ("10.42.1.5", "there", json!({ "ready": true })),
        ("10.42.0.5", "here", json!({})),
        (
            "10.42.0.6",
            "here",
            json!({ "ready": false, "serving": false }),
        ),
    ])
}

#[test]
fn a_cluster_address_leads_to_what_is_ready() {
    assert_eq!(
        lines(spec(json!({ "sessionAffinity": "ClientIP" })), &[two()]),
        [
            "default/web:http 10.96.0.9 80/6 -> 10.42.0.5:8080,10.42.1.5:8080 masq others sticky 10800"
        ]
    );
    assert_eq!(
        lines_of("web", spec(json!({})), &[two()], false, &[]),
        ["default/web:http 10.96.0.9 80/6 -> 10.42.0.5:8080,10.42.1.5:8080 masq all"]
    );
    assert_eq!(
        lines(spec(json!({ "internalTrafficPolicy": "Local" })), &[two()]),
        ["default/web:http 10.96.0.9 80/6 -> 10.42.0.5:8080 masq others"]
    );
}

#[test]
fn endpoints_that_end_are_better_than_none() {
    let ending = json!({ "ready": false, "serving": true, "terminating": true });
    let slices = [slice(&[
        ("10.42.0.7", "here", ending),
        ("10.42.0.8", "here", json!({ "ready": false })),
    ])];
    assert_eq!(
        lines(spec(json!({})), &slices),
        ["default/web:http 10.96.0.9 80/6 -> 10.42.0.7:8080 masq others"]
    );
    assert_eq!(
        lines(spec(json!({})), &[]),
        ["default/web:http 10.96.0.9 80/6 -> refused masq others"]
    );
}

#[test]
fn node_ports_and_outside_addresses() {
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080 }]);
    let more =
        json!({ "type": "NodePort", "ports": ports, "externalIPs": ["192.0.2.7", "2001:db8::7"] });
    assert_eq!(
        lines(spec(more.clone()), &[two()])[1..],
        [
            "default/web:http 192.0.2.7 80/6 -> 10.42.0.5:8080,10.42.1.5:8080 masq all",
            "default/web:http node4 30080/6 -> 10.42.0.5:8080,10.42.1.5:8080 masq all",
            "default/web:http 2001:db8::7 80/6 -> refused masq all",
        ]
    );
    let mut local = more;
    local["externalTrafficPolicy"] = "Local".into();
    let elsewhere = [slice(&[("10.42.1.5", "there", json!({}))])];
    assert_eq!(
        lines(spec(local), &elsewhere)[2],
        "default/web:http node4 30080/6 -> silence masq none"
    );
}

#[test]
fn services_of_others_have_no_doors() {
    for more in [
        json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
        json!({ "type": "ExternalName", "externalName": "example.com" }),
        json!({ "clusterIP": "", "clusterIPs": [] }),
    ] {
        assert_eq!(lines(spec(more), &[two()]), Vec::<String>::new());
    }
    let udp = json!([{ "name": "http", "port": 53, "protocol": "UDP" }]);
    assert_eq!(
        lines(spec(json!({ "ports": udp })), &[two()]),
        ["default/web:http 10.96.0.9 53/17 -> refused masq others"],
        "a TCP endpoint serves no UDP"
    );
}

#[test]
fn an_api_server_of_this_machine_only_is_reached_through_the_node() {
    let https = json!([{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443 }]);
    let api = spec(json!({ "ports": https }));
    assert_eq!(
        lines_of("kubernetes", api.clone(), &[], true, &[Relay::to_api(4000)]),
        ["default/kubernetes:https 10.96.0.9 443/6 -> here:4000 masq others"]
    );
    assert_eq!(
        lines_of("web", api, &[], true, &[Relay::to_api(4000)]),
        ["default/web:https 10.96.0.9 443/6 -> refused masq others"]
    );
}

#[test]
fn names_are_answered_by_the_node_until_somebody_else_does() {
    let ports = json!([
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
        { "name": "metrics", "port": 9153, "protocol": "TCP" },
    ]);
    let relays = Relay::to_names(4053);
    let dns = spec(json!({ "ports": ports }));
    assert_eq!(
        lines_of("kube-system/kube-dns", dns.clone(), &[], true, &relays),
        [
            "kube-system/kube-dns:dns 10.96.0.9 53/17 -> here:4053 masq others",
            "kube-system/kube-dns:dns-tcp 10.96.0.9 53/6 -> here:4053 masq others",
            "kube-system/kube-dns:metrics 10.96.0.9 9153/6 -> refused masq others",
        ]
    );
    let mut other = slice(&[("10.42.0.5", "here", json!({}))]);
    other["metadata"]["namespace"] = "kube-system".into();
    other["metadata"]["labels"]["kubernetes.io/service-name"] = "kube-dns".into();
    other["ports"] = json!([{ "name": "dns", "port": 1053, "protocol": "UDP" }]);
    assert_eq!(
        lines_of("kube-system/kube-dns", dns, &[other], true, &relays)[0],
        "kube-system/kube-dns:dns 10.96.0.9 53/17 -> 10.42.0.5:1053 masq others"
    );
}

/// The doors of Services at addresses outside, and what is said of those there are none at. In the order in which the Services
/// were made.
fn outside(services: &[(&str, Value, Value)]) -> (Vec<String>, Vec<String>) {
    let services: Vec<Service> = (10..)
        .zip(services)
        .map(|(minute, (id, external, status))| {
            let (namespace, name) = id.split_once('/').unwrap();
            let made = format!("2026-01-01T00:{minute}:00Z");
            let metadata = json!({ "namespace": namespace, "name": name, "uid": id, "creationTimestamp": made });
            let service = json!({
                "metadata": metadata,
                "spec": spec(json!({ "externalIPs": external })),
                "status": { "loadBalancer": { "ingress": status } },
            });
            serde_json::from_value(service).unwrap()
        })
        .collect();
    let (pods, open) = nets();
    let view = View {
        node: "here",
        services: &services.iter().rev().collect::<Vec<_>>(),
        slices: &[],
        pods: &pods,
        nodes: &["192.0.2.10".parse().unwrap()],
        open: &open,
        bridges_are_seen: true,
        relays: &[],
    };
    let own = |door: &&Door| door.address != Some("10.96.0.9".parse().unwrap());
    let doors = plan(&view);
    let doors = doors.iter().filter(own);
    let doors = doors.map(|door| format!("{} {}", door.label, door.address.unwrap()));
    let said = refused(&view).into_iter();
    let said = said.map(|refused| format!("{} {}", refused.uid, refused.message));
    (doors.collect(), said.collect())
}

#[test]
fn addresses_in_use_lead_to_nobody_else() {
    let ingress = |ip: &str| json!([{ "ip": ip }]);
    let cases = [
        (json!(["192.0.2.7"]), json!([]), None),
        (json!([]), ingress("198.51.100.7"), None),
        (json!(["198.51.100.7"]), json!([]), Some("in no range")),
        (
            json!(["10.96.0.9"]),
            json!([]),
            Some("the address of a Service"),
        ),
        (
            json!([]),
            ingress("10.96.0.9"),
            Some("the address of a Service"),
        ),
        (json!(["10.42.3.3"]), json!([]), Some("a network of pods")),
        (json!([]), ingress("10.42.3.3"), Some("a network of pods")),
        (
            json!(["192.0.2.10"]),
            json!([]),
            Some("the address of a node"),
        ),
        (
            json!([]),
            ingress("192.0.2.10"),
            Some("the address of a node"),
        ),
        (json!([]), ingress("127.0.0.1"), Some("loopback")),
        (json!([]), ingress("169.254.169.254"), Some("link-local")),
        (
            json!(["::ffff:10.96.0.9"]),
            json!([]),
            Some("the address of a Service"),
        ),
    ];
    for (external, status, fault) in cases {
        let what = format!("{external} {status}");
        let (doors, said) = outside(&[("a/s", external, status)]);
        match fault {
            None => assert!(
                doors.len() == 1 && said.is_empty(),
                "{what}: {doors:?} {said:?}"
            ),
            Some(fault) => {
                assert!(doors.is_empty(), "{what}: {doors:?}");
                assert!(
                    said.len() == 1 && said[0].contains(fault),
                    "{what}: {said:?}"
                );
            }
        }
    }
    let proxied = json!([{ "ip": "192.0.2.10", "ipMode": "Proxy" }]);
    assert_eq!(outside(&[("a/s", json!([]), proxied)]), (vec![], vec![]));
}

#[test]
fn the_first_namespace_keeps_an_outside_address() {
    let shared = || json!(["192.0.2.7"]);
    let (doors, said) = outside(&[
        ("b/first", shared(), json!([])),
        ("a/thief", shared(), json!([])),
        ("b/other", shared(), json!([])),
    ]);
    assert_eq!(doors, ["b/other:http 192.0.2.7", "b/first:http 192.0.2.7"]);
    assert_eq!(
        said,
        ["a/thief the Service is not reached at 192.0.2.7: a Service of another namespace has it"]
    );
}

#[test]
fn endpoints_of_this_machine_or_link_are_not_led_to() {
    let slices = [slice(&[
        ("127.0.0.1", "here", json!({})),
        ("169.254.169.254", "here", json!({})),
        ("10.42.0.5", "here", json!({})),
    ])];
    assert_eq!(
        lines(spec(json!({})), &slices),
        ["default/web:http 10.96.0.9 80/6 -> 10.42.0.5:8080 masq others"]
    );
}

fn host_lines(pods: &[Value], bridges_are_seen: bool) -> Vec<String> {
    let pods: Vec<std::sync::Arc<Pod>> = pods
        .iter()
        .map(|pod| std::sync::Arc::new(serde_json::from_value(pod.clone()).unwrap()))
        .collect();
    let networks: [IpNet; 1] = ["10.42.0.0/16".parse().unwrap()];
    let doors = host_port_doors(&pods, &networks, bridges_are_seen);
    doors.iter().map(line).collect()
}

fn pod(name: &str, ips: &[&str], ports: Value) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "metadata": { "namespace": "default", "name": name, "uid": name },
        "spec": { "containers": [{ "name": "c", "ports": ports }] },
        "status": { "phase": "Running", "podIPs": ips },
    })
}

#[test]
fn host_ports_lead_to_their_pods() {
    let plain = json!([{ "containerPort": 8080, "hostPort": 18088 }, { "containerPort": 1 }]);
    let hp = pod("hp", &["10.42.0.5", "fd00::5"], plain.clone());
    assert_eq!(
        host_lines(std::slice::from_ref(&hp), false),
        [
            "default/hp hostPort node4 18088/6 -> 10.42.0.5:8080 masq own",
            "default/hp hostPort node6 18088/6 -> [fd00::5]:8080 masq own",
        ]
    );
    let both = json!([
        { "containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.7", "protocol": "UDP" },
        { "containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.7", "protocol": "TCP" },
        { "containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0" },
    ]);
    assert_eq!(
        host_lines(&[pod("dns", &["10.42.0.6", "fd00::6"], both)], true),
        [
            "default/dns hostPort 192.0.2.7 53/17 -> 10.42.0.6:53 masq none",
            "default/dns hostPort 192.0.2.7 53/6 -> 10.42.0.6:53 masq none",
            "default/dns hostPort node4 80/6 -> 10.42.0.6:80 masq none",
        ]
    );
    // Without an address, on the node's own network, or ended, there is nothing to lead to.
    let mut own = hp.clone();
    own["spec"]["hostNetwork"] = true.into();
    let mut ended = hp;
    ended["status"]["phase"] = "Succeeded".into();
    let none: Vec<String> = Vec::new();
    assert_eq!(
        host_lines(&[own, ended, pod("new", &[], plain)], true),
        none
    );
}

#[test]
fn a_host_port_on_loopback_is_not_opened_in_silence() {
    let ports = json!([{ "containerPort": 80, "hostPort": 81, "hostIP": "127.0.0.1" }]);
    let local = pod("local", &["10.42.0.5"], ports);
    let none: Vec<String> = Vec::new();
    assert_eq!(host_lines(std::slice::from_ref(&local), true), none);
    let local: Pod = serde_json::from_value(local).unwrap();
    assert_eq!(closed_host_ports(&local), ["127.0.0.1:81/TCP"]);
}
