//! Every kind of step against grants that allow it, and against what attackers would try.

use super::*;
use crate::plan::{
    Dev, Filter, Forward, Hook, Link, Location, NetworkOp, Owner, Place, Protocol, Route, ScopeId,
    Source, StorageOp, Verdict,
};
use davit_api::Grants;
use serde_json::json;
use std::path::PathBuf;

fn grants(value: serde_json::Value) -> GrantSet {
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
    let ranges = ["10.42.3.0/24".parse().unwrap()];
    let view = NetworkView {
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

fn storage_grants() -> GrantSet {
    grants(json!({
        "hostPaths": [
            {"name": "pool", "path": "/var/lib/davit/volumes", "access": "rw", "maxBytes": "10Gi"},
            {"name": "media", "path": "/srv/media"},
        ],
        "mounts": {"fsTypes": ["nfs4"], "remote": ["10.0.0.0/8", "*.nas.example.com"]},
        "mkfs": ["ext4"],
    }))
}

fn judge(op: &StorageOp) -> String {
    let (scope, content) = (ScopeId::volume("pvc-1"), ScopeId::volume("pvc-0"));
    let view = StorageView {
        scope: &scope,
        content: Some(&content),
    };
    match storage_grants().check_storage(op, &view) {
        Ok(()) => "allowed".to_owned(),
        Err(Refused::Denied(denied)) => format!("{}: {}", denied.grant, denied.value),
        Err(Refused::Invalid(_)) => "forbidden".to_owned(),
    }
}

fn directory(root: &str, path: &str) -> StorageOp {
    StorageOp::Directory {
        key: "data".into(),
        root: Root {
            name: root.into(),
            path: PathBuf::from("/x"),
        },
        path: path.into(),
        owner: Owner {
            uid: 0,
            gid: 0,
            mode: 0o755,
        },
        data: true,
    }
}

fn remote(fs_type: &str, server: &str, options: &[&str]) -> StorageOp {
    StorageOp::RemoteMount {
        key: "m".into(),
        fs_type: fs_type.into(),
        server: server.into(),
        path: "/export".into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    }
}

fn expose(scope: ScopeId, sub_path: &str) -> StorageOp {
    let source = Source {
        scope,
        key: "data".into(),
        location: Location::Made,
    };
    StorageOp::Expose {
        source,
        sub_path: sub_path.into(),
        read_only: false,
    }
}

#[test]
fn paths_stay_beneath_their_root() {
    for (op, expected) in [
        (directory("pool", "pvc-1"), "allowed"),
        (directory("pool", "a/b"), "allowed"),
        (directory("pool", ""), "forbidden"),
        (directory("pool", "."), "forbidden"),
        (directory("pool", ".."), "forbidden"),
        (directory("pool", "a/../../etc"), "forbidden"),
        (directory("pool", "/etc"), "forbidden"),
        (directory("pool", ".davit.json"), "forbidden"),
        (directory("pool", "a\0b"), "forbidden"),
        (directory("media", "x"), "hostPaths: access: rw for media"),
        (directory("/etc", "x"), "hostPaths: name: /etc"),
    ] {
        assert_eq!(judge(&op), expected, "{op:?}");
    }
}

#[test]
fn mounts_and_devices() {
    let mkfs = |fs_type: &str| StorageOp::Filesystem {
        key: "fs".into(),
        device: Source {
            scope: ScopeId::volume("pvc-1"),
            key: "dev".into(),
            location: Location::Made,
        },
        fs_type: fs_type.into(),
        label: String::new(),
        mkfs_options: vec![],
    };
    for (op, expected) in [
        (remote("nfs4", "10.1.2.3", &["soft"]), "allowed"),
        (remote("nfs4", "a.nas.example.com", &[]), "allowed"),
        (remote("nfs4", "192.0.2.1", &[]), "mounts.remote: 192.0.2.1"),
        (
            remote("nfs4", "nas.example.com", &[]),
            "mounts.remote: nas.example.com",
        ),
        (remote("cifs", "10.1.2.3", &[]), "mounts.fsTypes: cifs"),
        (remote("nfs4", "10.1.2.3", &["suid"]), "forbidden"),
        (remote("nfs4", "10.1.2.3", &["ro,dev"]), "forbidden"),
        (mkfs("ext4"), "allowed"),
        (mkfs("btrfs"), "mkfs: btrfs"),
        (
            StorageOp::Tmpfs {
                key: "t".into(),
                bytes: 1,
                options: vec![],
            },
            "mounts.fsTypes: tmpfs",
        ),
        (
            StorageOp::Device {
                key: "d".into(),
                path_glob: "/dev/sda".into(),
            },
            "devices: /dev/sda",
        ),
    ] {
        assert_eq!(judge(&op), expected, "{op:?}");
    }
}

#[test]
fn a_volume_sees_no_other_volume() {
    for (scope, sub_path, expected) in [
        (ScopeId::volume("pvc-1"), "", "allowed"),
        (ScopeId::stage("pvc-1"), "a/b", "allowed"),
        (ScopeId::volume("pvc-0"), "", "allowed"),
        (ScopeId::volume("pvc-2"), "", "forbidden"),
        (ScopeId::publish("pvc-2", "uid"), "", "forbidden"),
        (ScopeId::volume("pvc-1"), "../x", "forbidden"),
    ] {
        assert_eq!(
            judge(&expose(scope.clone(), sub_path)),
            expected,
            "{scope} {sub_path}"
        );
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
