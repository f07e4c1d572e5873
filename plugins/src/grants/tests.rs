//! Every kind of network step against grants that allow it, and against what attackers would try.

use super::*;
use crate::plan::{Dev, Filter, Forward, Hook, Link, NetworkOp, Place, Protocol, Route, Verdict};
use davit_api::Grants;
use serde_json::json;

pub(super) fn grants(value: serde_json::Value) -> GrantSet {
    let grants: Grants = serde_json::from_value(value).unwrap();
    GrantSet::compile(&grants).unwrap()
}

/// What the bridge of one network may do.
fn network_grants() -> GrantSet {
    grants(json!({
        "links": {"create": ["dv-*"], "parents": ["eth1"], "kinds": ["bridge", "veth", "vlan", "macvlan"]},
        "addresses": ["10.42.0.0/16", "fd42::/48"],
        "routes": {"host": ["10.42.0.0/16"], "pod": ["any"]},
        "nft": {"masquerade": ["10.42.0.0/16"]},
        "sysctls": {"pod": ["net.ipv4.conf.*.arp_*"], "host": ["net.ipv4.ip_forward"]},
        "hostPorts": "fromPodSpec",
    }))
}

fn verdict(grants: &GrantSet, op: &NetworkOp) -> String {
    verdict_in(grants, op, true)
}

fn verdict_in(grants: &GrantSet, op: &NetworkOp, has_pod: bool) -> String {
    let ranges = ["10.42.3.0/24".parse().unwrap()];
    let view = NetworkView {
        has_pod,
        ranges: &ranges,
        leased: &|ip| ip.to_string() == "10.42.3.9",
        reserved: &|ip| ip.to_string() == "10.42.3.1",
        pod_ports: &[(Protocol::Tcp, 8080)],
        own_link: &|name| name == "dv-own",
    };
    match grants.check_network(op, &view) {
        Ok(()) => "allowed".to_owned(),
        Err(Refused::Denied(denied)) => format!("{}: {}", denied.grant, denied.value),
        Err(Refused::Invalid(_)) => "forbidden".to_owned(),
    }
}

fn link(place: Place, name: &str) -> Link {
    Link {
        key: "l".into(),
        place,
        name: name.into(),
        mtu: None,
        mac: None,
        master: None,
        options: BTreeMap::new(),
    }
}

fn bridge(name: &str) -> NetworkOp {
    NetworkOp::Bridge {
        link: link(Place::Host, name),
        vlan_filtering: false,
    }
}

fn address(place: Place, dev: &str, cidr: &str) -> NetworkOp {
    NetworkOp::Address {
        dev: Dev {
            place,
            name: dev.into(),
        },
        cidr: cidr.parse().unwrap(),
        options: BTreeMap::new(),
    }
}

fn route(place: Place, dst: &str) -> NetworkOp {
    NetworkOp::Route(Route {
        place,
        dst: dst.parse().unwrap(),
        via: None,
        dev: None,
        src: None,
        table: 254,
        metric: 0,
        onlink: false,
    })
}

fn forward(port: u16, to: &str) -> NetworkOp {
    NetworkOp::Forward(Forward {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: port,
        to_ip: to.parse().unwrap(),
        to_port: 80,
    })
}

fn sysctl(place: Place, key: &str) -> NetworkOp {
    NetworkOp::Sysctl {
        place,
        key: key.into(),
        value: "1".into(),
        former: None,
    }
}

#[test]
fn links() {
    let grants = network_grants();
    for (op, expected) in [
        (bridge("dv-0"), "allowed"),
        (bridge("eth0"), "links.create: eth0"),
        (bridge("dv-0123456789abcdef"), "forbidden"),
        (bridge("dv-/../x"), "forbidden"),
        (bridge(""), "forbidden"),
        (
            NetworkOp::Dummy {
                link: link(Place::Host, "dv-1"),
            },
            "links.kinds: dummy",
        ),
        (
            NetworkOp::Veth {
                link: link(Place::Pod, "eth0"),
                peer: link(Place::Host, "dv-1"),
            },
            "allowed",
        ),
        (
            NetworkOp::Veth {
                link: link(Place::Pod, "lo"),
                peer: link(Place::Host, "dv-1"),
            },
            "forbidden",
        ),
        (
            NetworkOp::Vlan {
                link: link(Place::Pod, "v"),
                parent: "eth1".into(),
                id: 7,
            },
            "allowed",
        ),
        (
            NetworkOp::Vlan {
                link: link(Place::Pod, "v"),
                parent: "eth1".into(),
                id: 4095,
            },
            "forbidden",
        ),
        (
            NetworkOp::Vlan {
                link: link(Place::Pod, "v"),
                parent: "eth0".into(),
                id: 7,
            },
            "links.parents: eth0",
        ),
        (
            NetworkOp::HostDevice {
                link: link(Place::Pod, "v"),
                device: "eth0".into(),
            },
            "links.kinds: host-device",
        ),
    ] {
        assert_eq!(verdict(&grants, &op), expected, "{op:?}");
    }
    assert_eq!(
        verdict(&GrantSet::default(), &bridge("dv-0")),
        "links.create: dv-0"
    );
}

#[test]
fn where_a_step_lands_decides() {
    let grants = grants(json!({
        "links": {"create": ["*"], "parents": ["*"], "kinds": ["bridge", "veth", "dummy", "vlan", "macvlan", "ipvlan", "vxlan", "host-device"]},
        "addresses": ["0.0.0.0/0"], "routes": {"host": ["0.0.0.0/0"], "pod": ["any"]},
        "sysctls": {"pod": ["*"], "host": ["*"]}, "nft": {"filter": true, "masquerade": ["0.0.0.0/0"]},
    }));
    let pod = |name| link(Place::Pod, name);
    let dev = || Dev {
        place: Place::Pod,
        name: "eth0".into(),
    };
    let parent = || "eth1".to_owned();
    let in_pod = [
        bridge_in(Place::Pod),
        NetworkOp::Veth {
            link: pod("a"),
            peer: link(Place::Host, "b"),
        },
        NetworkOp::Veth {
            link: link(Place::Host, "b"),
            peer: pod("a"),
        },
        NetworkOp::Dummy { link: pod("a") },
        NetworkOp::Macvlan {
            link: pod("a"),
            parent: parent(),
            mode: crate::plan::MacvlanMode::Bridge,
        },
        NetworkOp::Ipvlan {
            link: pod("a"),
            parent: parent(),
            mode: crate::plan::IpvlanMode::L2,
        },
        NetworkOp::Vlan {
            link: pod("a"),
            parent: parent(),
            id: 7,
        },
        NetworkOp::Vxlan {
            link: pod("a"),
            vni: 7,
            port: 4789,
            local: None,
            dev: None,
            learning: false,
        },
        NetworkOp::HostDevice {
            link: pod("a"),
            device: parent(),
        },
        address(Place::Pod, "eth0", "192.0.2.1/24"),
        route(Place::Pod, "0.0.0.0/0"),
        NetworkOp::Rule(rule(Place::Pod)),
        NetworkOp::Neighbor {
            dev: dev(),
            ip: "192.0.2.1".parse().unwrap(),
            mac: crate::plan::MacAddr([2; 6]),
        },
        NetworkOp::Fdb {
            dev: dev(),
            mac: crate::plan::MacAddr([2; 6]),
            dst: None,
        },
        NetworkOp::Shape {
            dev: dev(),
            rate: crate::plan::Rate {
                ingress_bps: 0,
                egress_bps: 0,
                burst_bytes: 0,
            },
        },
        sysctl(Place::Pod, "net.ipv4.ip_forward"),
    ];
    for op in in_pod {
        assert_eq!(verdict_in(&grants, &op, true), "allowed", "{op:?}");
        assert_eq!(verdict_in(&grants, &op, false), "forbidden", "{op:?}");
    }
    let on_host = [
        bridge_in(Place::Host),
        route(Place::Host, "0.0.0.0/0"),
        sysctl(Place::Host, "net.x"),
        NetworkOp::Rule(rule(Place::Host)),
    ];
    for op in on_host {
        assert_eq!(verdict_in(&grants, &op, false), "allowed", "{op:?}");
    }
    let back = NetworkOp::HostDevice {
        link: link(Place::Host, "a"),
        device: parent(),
    };
    assert_eq!(verdict_in(&grants, &back, true), "forbidden");
}

fn bridge_in(place: Place) -> NetworkOp {
    NetworkOp::Bridge {
        link: link(place, "br"),
        vlan_filtering: false,
    }
}

fn rule(place: Place) -> crate::plan::PolicyRule {
    crate::plan::PolicyRule {
        place,
        family: 4,
        priority: 7,
        src: Some("10.0.0.0/8".parse().unwrap()),
        dst: None,
        fwmark: 0,
        iif: None,
        table: 254,
    }
}

#[test]
fn neighbours_lie_in_granted_addresses() {
    let grants = network_grants();
    let dev = || Dev {
        place: Place::Host,
        name: "dv-own".into(),
    };
    let mac = crate::plan::MacAddr([2, 0, 0, 0, 0, 1]);
    for (ip, expected) in [
        ("10.42.9.9", "allowed"),
        ("192.0.2.1", "addresses: 192.0.2.1"),
    ] {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        let neighbor = NetworkOp::Neighbor {
            dev: dev(),
            ip,
            mac,
        };
        assert_eq!(verdict(&grants, &neighbor), expected);
        let fdb = NetworkOp::Fdb {
            dev: dev(),
            mac,
            dst: Some(ip),
        };
        assert_eq!(verdict(&grants, &fdb), expected);
    }
    let port = NetworkOp::Fdb {
        dev: dev(),
        mac,
        dst: None,
    };
    assert_eq!(verdict(&grants, &port), "allowed");
}

#[test]
fn addresses_and_routes() {
    let grants = network_grants();
    for (op, expected) in [
        (address(Place::Pod, "eth0", "10.42.3.9/24"), "allowed"),
        (address(Place::Pod, "eth0", "10.42.3.10/24"), "forbidden"),
        (
            address(Place::Pod, "eth0", "10.43.3.9/24"),
            "addresses: 10.43.3.0/24",
        ),
        (address(Place::Host, "dv-own", "10.42.3.1/24"), "allowed"),
        (address(Place::Host, "dv-own", "10.42.3.9/24"), "forbidden"),
        (
            address(Place::Host, "eth0", "10.42.3.1/24"),
            "links.create: eth0",
        ),
        (route(Place::Pod, "0.0.0.0/0"), "allowed"),
        (route(Place::Host, "10.42.7.0/24"), "allowed"),
        (route(Place::Host, "0.0.0.0/0"), "routes.host: 0.0.0.0/0"),
        (route(Place::Host, "10.0.0.0/8"), "routes.host: 10.0.0.0/8"),
    ] {
        assert_eq!(verdict(&grants, &op), expected, "{op:?}");
    }
    let narrow = super::tests::grants(json!({"routes": {"pod": ["10.0.0.0/8"]}}));
    assert_eq!(
        verdict(&narrow, &route(Place::Pod, "10.1.0.0/16")),
        "allowed"
    );
    assert_eq!(
        verdict(&narrow, &route(Place::Pod, "0.0.0.0/0")),
        "routes.pod: 0.0.0.0/0"
    );
}

#[test]
fn settings_ports_and_filters() {
    let grants = network_grants();
    let masquerade = |src: &str| NetworkOp::Masquerade {
        src: src.parse().unwrap(),
        except: Vec::new(),
    };
    let filter = NetworkOp::Filter(Filter {
        key: "f".into(),
        hook: Hook::Forward,
        priority: 0,
        protocol: Protocol::Any,
        src: vec![],
        dst: vec![],
        ports: vec![],
        iif: None,
        oif: None,
        verdict: Verdict::Drop,
    });
    for (op, expected) in [
        (
            sysctl(Place::Pod, "net.ipv4.conf.eth0.arp_ignore"),
            "allowed",
        ),
        (
            sysctl(Place::Pod, "kernel.core_pattern"),
            "sysctls.pod: kernel.core_pattern",
        ),
        (sysctl(Place::Host, "net.ipv4.ip_forward"), "allowed"),
        (
            sysctl(Place::Host, "net.ipv4.conf.eth0.arp_ignore"),
            "sysctls.host: net.ipv4.conf.eth0.arp_ignore",
        ),
        (
            sysctl(Place::Pod, "net.ipv4.conf.../../x.arp_"),
            "forbidden",
        ),
        (sysctl(Place::Pod, "net ipv4"), "forbidden"),
        (masquerade("10.42.3.0/24"), "allowed"),
        (masquerade("0.0.0.0/0"), "nft.masquerade: 0.0.0.0/0"),
        (forward(8080, "10.42.3.9"), "allowed"),
        (forward(22, "10.42.3.9"), "hostPorts: any"),
        (forward(8080, "192.0.2.1"), "addresses: 192.0.2.1"),
        (filter, "nft.filter: true"),
    ] {
        assert_eq!(verdict(&grants, &op), expected, "{op:?}");
    }
}

#[test]
fn values_that_cannot_be_are_named() {
    for (value, field) in [
        (json!({"addresses": ["10.0.0.0/33"]}), "addresses"),
        (json!({"routes": {"host": ["x"]}}), "routes.host"),
        (
            json!({"hostPaths": [{"name": "a", "path": "relative"}]}),
            "hostPaths",
        ),
        (
            json!({"hostPaths": [{"name": "a", "path": "/a/../b"}]}),
            "hostPaths",
        ),
        (
            json!({"hostPaths": [{"name": "a", "path": "/"}]}),
            "hostPaths",
        ),
        (
            json!({"hostPaths": [{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}]}),
            "hostPaths",
        ),
        (json!({"limits": {"memory": "65Mi"}}), "limits.memory"),
        (json!({"limits": {"memory": "0"}}), "limits.memory"),
        (json!({"limits": {"cpu": "-1s"}}), "limits.cpu"),
        (
            json!({"limits": {"timeout": {"create": "1h"}}}),
            "limits.timeout.create",
        ),
        (json!({"limits": {"concurrency": 0}}), "limits.concurrency"),
    ] {
        let grants: Grants = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(
            GrantSet::compile(&grants).unwrap_err().field,
            field,
            "{value}"
        );
    }
}

#[test]
fn risk() {
    let own = Path::new("/var/lib/davit");
    for (value, expected) in [
        (json!({}), Risk::Sandboxed),
        (
            json!({"interfaces": ["state"], "limits": {"memory": "1Mi"}}),
            Risk::Sandboxed,
        ),
        (json!({"links": {"create": ["dv-*"]}}), Risk::Scoped),
        (
            json!({"hostPaths": [{"name": "a", "path": "/var/lib/davit/volumes"}]}),
            Risk::Scoped,
        ),
        (
            json!({"hostPaths": [{"name": "a", "path": "/srv"}]}),
            Risk::HostEquivalent,
        ),
        (json!({"links": {"create": ["*"]}}), Risk::HostEquivalent),
        (json!({"nft": {"raw": true}}), Risk::HostEquivalent),
        (json!({"devices": ["/dev/sdb"]}), Risk::HostEquivalent),
    ] {
        assert_eq!(grants(value.clone()).risk(own), expected, "{value}");
    }
}
