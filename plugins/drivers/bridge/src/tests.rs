//! The driver's plans, natively.

use super::*;
use davit_plugin::FakeHost;

fn network(config: &str) -> Network {
    Network {
        name: "default".into(),
        uid: "n-1".into(),
        generation: 1,
        mtu: 1500,
        subnets: vec!["10.42.0.0/16".into(), "fd42::/48".into()],
        config: config.into(),
    }
}

fn me() -> Node {
    Node {
        name: "node-1".into(),
        addresses: vec![],
        slices: vec![],
        published: vec![],
    }
}

fn attachment(want_ips: &[&str]) -> Attachment {
    Attachment {
        id: "uid-1/eth0".into(),
        pod: Pod {
            namespace: "default".into(),
            name: "web".into(),
            uid: "uid-1".into(),
            host_network: false,
        },
        network: network("{}"),
        ifname: "eth0".into(),
        default_route: true,
        want_ips: want_ips.iter().map(|ip| (*ip).to_owned()).collect(),
        want_mac: None,
        args: vec![],
    }
}

fn dual() -> FakeHost {
    FakeHost::new()
        .pool("10.42.3.0/24", "10.42.3.1")
        .pool("fd42:0:0:3::/64", "fd42:0:0:3::1")
}

fn keys(plan: &Plan) -> Vec<String> {
    let line = |op: &Op| match op {
        Op::Bridge { link, .. } => format!("bridge {}", link.name),
        Op::Veth { link, peer } => format!(
            "veth {} {} master {} {:?}",
            link.name,
            peer.name,
            peer.master.clone().unwrap_or_default(),
            peer.options
        ),
        Op::Address { link, cidr, .. } => format!("address {link} {cidr}"),
        Op::Route(route) => format!(
            "route {} via {}",
            route.dst,
            route.via.clone().unwrap_or_default()
        ),
        Op::Sysctl { key, value, .. } => format!("sysctl {key}={value}"),
        Op::Masquerade { src, except } => format!("masquerade {src} but to {}", except.join(" ")),
        other => format!("{other:?}"),
    };
    plan.ops.iter().map(line).collect()
}

#[test]
fn a_node_gets_bridge_gateways_forwarding_and_masquerading() {
    let plan = Bridge::node_up(&dual().cx().unwrap(), &network("{}"), &me(), &[]).unwrap();
    assert_eq!(
        keys(&plan),
        [
            "bridge davit-default",
            "address br 10.42.3.1/24",
            "address br fd42:0:0:3::1/64",
            "sysctl net.ipv4.ip_forward=1",
            "sysctl net.ipv6.conf.all.forwarding=1",
            "masquerade 10.42.3.0/24 but to 10.42.0.0/16",
            "masquerade fd42:0:0:3::/64 but to fd42::/48",
        ]
    );
}

#[test]
fn a_pod_gets_a_veth_addresses_and_default_routes() {
    let plan = Bridge::attach(&dual().cx().unwrap(), &attachment(&[]), &me()).unwrap();
    let host = short_name("dv", "uid-1/eth0");
    assert_eq!(
        keys(&plan),
        [
            format!("veth eth0 {host} master node/default#br [(\"hairpin\", \"true\")]"),
            "address eth 10.42.3.10/24".into(),
            "route 0.0.0.0/0 via 10.42.3.1".into(),
            "address eth fd42:0:0:3::b/64".into(),
            "route ::/0 via fd42:0:0:3::1".into(),
        ]
    );
}

#[test]
fn wishes_are_passed_on() {
    let wish = attachment(&["10.42.3.77"]);
    let plan = Bridge::attach(&dual().cx().unwrap(), &wish, &me()).unwrap();
    assert!(keys(&plan).contains(&"address eth 10.42.3.77/24".to_owned()));
}

#[test]
fn a_second_network_gives_no_default_route() {
    let mut second = attachment(&[]);
    second.default_route = false;
    let plan = Bridge::attach(&dual().cx().unwrap(), &second, &me()).unwrap();
    assert!(!plan.ops.iter().any(|op| matches!(op, Op::Route(_))));
}

#[test]
fn configuration_is_strict() {
    let off = network(r#"{"masquerade": false, "bridge": "davit-x"}"#);
    let plan = Bridge::node_up(&dual().cx().unwrap(), &off, &me(), &[]).unwrap();
    assert_eq!(keys(&plan)[0], "bridge davit-x");
    assert!(
        !plan
            .ops
            .iter()
            .any(|op| matches!(op, Op::Masquerade { .. }))
    );
    let wrong = network(r#"{"masqurade": false}"#);
    let error = Bridge::node_up(&dual().cx().unwrap(), &wrong, &me(), &[]).unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(
        error.message.contains("Network default spec.config"),
        "{}",
        error.message
    );
    assert!(error.message.contains("masqurade"), "{}", error.message);
}

#[test]
fn without_a_slice_the_network_waits() {
    let host = FakeHost::new();
    let error = Bridge::node_up(&host.cx().unwrap(), &network("{}"), &me(), &[]).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
}

#[test]
fn long_names_still_fit_a_device() {
    let mut net = network("{}");
    net.name = "a-rather-long-network-name".into();
    assert!(BridgeConfig::default().bridge_name(&net).len() <= 15);
}
