//! Every kind of storage step against grants that allow it, and against what attackers would try.

use super::tests::grants;
use super::*;
use crate::plan::{Location, Owner, ScopeId, Source, StorageOp};
use serde_json::json;
use std::path::PathBuf;

fn storage_grants() -> GrantSet {
    grants(json!({
        "hostPaths": [
            {"name": "pool", "path": "/var/lib/davit/volumes", "access": "rw", "maxBytes": "10Gi"},
            {"name": "media", "path": "/srv/media"},
        ],
        "mounts": {"fsTypes": ["nfs4", "overlay"], "remote": ["10.0.0.0/8", "*.nas.example.com"]},
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
        // A type that takes its source from options has no server.
        (
            remote("overlay", "10.1.2.3", &["lowerdir=/etc"]),
            "forbidden",
        ),
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
fn file_systems_in_memory_have_a_size() {
    let grants = grants(json!({"mounts": {"fsTypes": ["tmpfs"]}}));
    let scope = ScopeId::stage("pvc-1");
    let view = StorageView {
        scope: &scope,
        content: None,
    };
    for (bytes, options, allowed) in [
        (1 << 20, &["mode=0700", "uid=1"][..], true),
        (0, &[], false),
        (u64::MAX, &[], false),
        (u64::MAX - 4094, &[], false),
        (1 << 20, &["size=100%"], false),
        (1 << 20, &["nr_blocks=0"], false),
        (1 << 20, &["nr_inodes=0"], false),
        (1 << 20, &["uid"], false),
    ] {
        let op = StorageOp::Tmpfs {
            key: "t".into(),
            bytes,
            options: options.iter().map(ToString::to_string).collect(),
        };
        let answer = grants.check_storage(&op, &view);
        assert_eq!(answer.is_ok(), allowed, "{op:?}: {answer:?}");
    }
}

#[test]
fn only_a_volume_holds_data() {
    let grants = storage_grants();
    for (scope, expected) in [
        (ScopeId::volume("pvc-1"), true),
        (ScopeId::stage("pvc-1"), false),
        (ScopeId::publish("pvc-1", "uid"), false),
    ] {
        let view = StorageView {
            scope: &scope,
            content: None,
        };
        let answer = grants.check_storage(&directory("pool", "pvc-1"), &view);
        assert_eq!(answer.is_ok(), expected, "{scope}");
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
