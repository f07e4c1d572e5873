//! What specs become.
use super::*;

fn one(volume: Value) -> Result<Kind, Error> {
    let spec = json!({ "volumes": [volume], "containers": [] });
    plan_of(spec).map(|mut volumes| volumes.remove(0).kind)
}

fn shown(kind: Kind) -> Vec<String> {
    let Kind::Files { files, tokens, .. } = kind else {
        panic!("{kind:?} has no files")
    };
    let files = files.iter().map(|(path, file)| {
        format!(
            "{path} {:o} {}",
            file.mode,
            String::from_utf8_lossy(&file.data)
        )
    });
    let tokens = tokens.iter().map(|token| {
        let TokenFile {
            path,
            audience,
            expiration_seconds,
            mode,
            owner,
        } = token;
        format!("{path} {mode:o} token {audience:?} {expiration_seconds} {owner:?}")
    });
    files.chain(tokens).collect()
}

#[test]
fn keys_become_files() {
    let table = [
        (
            json!({ "configMap": { "name": "cm" } }),
            vec!["a 644 A", "b 644 B", "bin 644 \u{fffd}"],
        ),
        (
            json!({ "configMap": { "name": "cm", "defaultMode": 0o400, "items": [
                { "key": "b", "path": "x/y", "mode": 0o755 }, { "key": "a", "path": "z" },
            ] } }),
            vec!["x/y 755 B", "z 400 A"],
        ),
        (
            json!({ "configMap": { "name": "no", "optional": true } }),
            vec![],
        ),
        (
            json!({ "configMap": { "name": "cm", "optional": true, "items": [{ "key": "no", "path": "x" }] } }),
            vec![],
        ),
        (
            json!({ "secret": { "secretName": "sec", "defaultMode": 0o440 } }),
            vec!["user 440 admin"],
        ),
        (
            json!({ "downwardAPI": { "items": [
                { "path": "name", "fieldRef": { "fieldPath": "metadata.name" } },
                { "path": "labels", "mode": 0o600, "fieldRef": { "fieldPath": "metadata.labels" } },
            ] } }),
            vec!["labels 600 app=\"web\"", "name 644 web"],
        ),
        (
            json!({ "projected": { "defaultMode": 0o444, "sources": [
                { "configMap": { "name": "cm", "items": [{ "key": "a", "path": "ca.crt" }] } },
                { "secret": { "name": "sec" } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
                { "serviceAccountToken": { "path": "token" } },
                { "serviceAccountToken": { "path": "vault", "audience": "vault", "expirationSeconds": 600 } },
            ] } }),
            vec![
                "ca.crt 444 A",
                "namespace 444 shop",
                "user 444 admin",
                "token 444 token \"\" 3600 None",
                "vault 444 token \"vault\" 600 None",
            ],
        ),
    ];
    for (volume, expected) in table {
        let mut named = volume.clone();
        named["name"] = json!("v");
        assert_eq!(shown(one(named).unwrap()), expected, "{volume}");
    }
}

#[test]
fn tokens_belong_to_the_user_or_the_group_of_the_pod() {
    let with = |pod: Value, containers: Value| {
        let source = json!({ "sources": [{ "serviceAccountToken": { "path": "t" } }] });
        let spec = json!({
            "volumes": [{ "name": "v", "projected": source }], "containers": containers, "securityContext": pod,
        });
        let volume = plan_of(spec).unwrap().remove(0);
        (
            shown(volume.kind).remove(0),
            volume.fs_group.map(|group| group.gid),
        )
    };
    let user = |uid: i64| json!({ "name": "c", "securityContext": { "runAsUser": uid } });
    let plain = json!({ "name": "c" });
    let token = |mode: &str, owner: &str| format!("t {mode} token \"\" 3600 {owner}");
    let table = [
        (json!({}), json!([plain]), token("644", "None"), None),
        (
            json!({ "runAsUser": 7 }),
            json!([plain, plain]),
            token("600", "Some(7)"),
            None,
        ),
        (
            json!({ "runAsUser": 7 }),
            json!([plain, user(8)]),
            token("644", "None"),
            None,
        ),
        (
            json!({}),
            json!([user(8), user(8)]),
            token("600", "Some(8)"),
            None,
        ),
        (
            json!({}),
            json!([user(8), plain]),
            token("644", "None"),
            None,
        ),
        (
            json!({ "fsGroup": 5 }),
            json!([plain]),
            token("600", "None"),
            Some(5),
        ),
    ];
    for (pod, containers, expected, group) in table {
        assert_eq!(
            with(pod.clone(), containers.clone()),
            (expected, group),
            "{pod} {containers}"
        );
    }
}

#[test]
fn other_kinds_are_planned() {
    let claim = |claim: &str, read_only| Kind::Claim {
        claim: claim.to_owned(),
        read_only,
    };
    let table = [
        (
            json!({ "emptyDir": {} }),
            Kind::EmptyDir {
                memory: false,
                size_limit: None,
            },
        ),
        (
            json!({ "emptyDir": { "sizeLimit": "1Gi" } }),
            Kind::EmptyDir {
                memory: false,
                size_limit: Some(1 << 30),
            },
        ),
        (
            json!({ "emptyDir": { "medium": "Memory" } }),
            Kind::EmptyDir {
                memory: true,
                size_limit: Some(8 << 30),
            },
        ),
        (
            json!({ "hostPath": { "path": "/var/log", "type": "Directory" } }),
            Kind::HostPath {
                path: "/var/log".into(),
                check: HostPathType::Directory,
            },
        ),
        (
            json!({ "persistentVolumeClaim": { "claimName": "c", "readOnly": true } }),
            claim("c", true),
        ),
        (
            json!({ "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }),
            claim("web-v", false),
        ),
        (
            json!({ "image": { "reference": "busybox", "pullPolicy": "Never" } }),
            Kind::Image {
                reference: "busybox".to_owned(),
                pull_policy: Some("Never".to_owned()),
            },
        ),
    ];
    for (volume, expected) in table {
        let mut named = volume.clone();
        named["name"] = json!("v");
        assert_eq!(one(named).unwrap(), expected, "{volume}");
    }
}

#[test]
fn memory_volumes_take_no_more_than_the_pod_may() {
    let size = |containers: Value, init: Value, limit: Option<&str>| {
        let source = json!({ "medium": "Memory", "sizeLimit": limit });
        let spec = json!({
            "volumes": [{ "name": "v", "emptyDir": source }], "containers": containers, "initContainers": init,
        });
        match plan_of(spec).unwrap().remove(0).kind {
            Kind::EmptyDir { size_limit, .. } => size_limit.unwrap() >> 20,
            other => panic!("{other:?}"),
        }
    };
    let with =
        |memory: &str| json!({ "name": "c", "resources": { "limits": { "memory": memory } } });
    let mut sidecar = with("3Mi");
    sidecar["restartPolicy"] = json!("Always");
    let free = json!({ "name": "c" });
    assert_eq!(
        size(json!([with("10Mi"), with("20Mi")]), json!([]), None),
        30
    );
    assert_eq!(size(json!([with("10Mi"), free]), json!([]), None), 8 << 10);
    assert_eq!(
        size(json!([with("10Mi")]), json!([sidecar, with("50Mi")]), None),
        53
    );
    assert_eq!(
        size(json!([with("10Mi")]), json!([sidecar, with("1Mi")]), None),
        13
    );
    assert_eq!(size(json!([with("10Mi")]), json!([]), Some("5Mi")), 5);
}

#[test]
fn what_cannot_be_says_why() {
    let items = |path: &str| json!({ "configMap": { "name": "cm", "items": [{ "key": "a", "path": path }] } });
    let table = [
        (
            json!({ "configMap": { "name": "no" } }),
            "configmap \"no\" not found",
        ),
        (
            json!({ "secret": { "secretName": "no" } }),
            "secret \"no\" not found",
        ),
        (
            json!({ "configMap": { "name": "cm", "items": [{ "key": "no", "path": "x" }] } }),
            "references non-existent config key: no",
        ),
        (
            json!({ "secret": { "secretName": "sec", "items": [{ "key": "no", "path": "x" }] } }),
            "references non-existent secret key: no",
        ),
        (items("/abs"), "invalid path \"/abs\""),
        (items("a/../b"), "invalid path \"a/../b\""),
        (items("..data"), "invalid path \"..data\""),
        (items(""), "invalid path \"\""),
        (items("./..data"), "invalid path \"./..data\""),
        (items("./"), "invalid path \"./\""),
        (
            json!({ "configMap": { "name": "cm", "defaultMode": 0o1777 } }),
            "mode 1777 is not between",
        ),
        (
            json!({ "configMap": { "name": "cm", "defaultMode": -1 } }),
            "is not between",
        ),
        (
            json!({ "emptyDir": { "medium": "HugePages" } }),
            "emptyDir.medium \"HugePages\" is not supported",
        ),
        (
            json!({ "emptyDir": { "sizeLimit": "lots" } }),
            "emptyDir.sizeLimit: ",
        ),
        (json!({ "hostPath": { "path": "a/b" } }), "must be absolute"),
        (
            json!({ "hostPath": { "path": "/a/../b" } }),
            "must be absolute",
        ),
        (
            json!({ "hostPath": { "path": "/a", "type": "Pipe" } }),
            "hostPath.type \"Pipe\" is unknown",
        ),
        (json!({ "image": {} }), "image.reference is empty"),
        (
            json!({ "nfs": { "path": "/", "server": "x" } }),
            "volume plugin nfs is not supported",
        ),
        (json!({}), "volume plugin no source is not supported"),
        (
            json!({ "projected": { "sources": [{ "clusterTrustBundle": { "path": "x" } }] } }),
            "projected source clusterTrustBundle is not supported",
        ),
        (
            json!({ "downwardAPI": { "items": [{ "path": "x", "fieldRef": { "fieldPath": "no" } }] } }),
            "cannot tell what \"x\" shall hold",
        ),
    ];
    for (volume, expected) in table {
        let mut named = volume.clone();
        named["name"] = json!("v");
        let error = one(named).unwrap_err();
        assert_eq!(
            error.to_string(),
            "MountVolume.SetUp failed for volume \"v\""
        );
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains(expected),
            "{volume}: {cause:?} lacks {expected:?}"
        );
    }
}
