//! Container configurations, field by field.
use serde_json::{Value, json};

use super::*;

fn image(config: Value) -> ImageConfiguration {
    serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [] }, "history": [],
    }))
    .unwrap()
}

fn build(container: Value, config: Value) -> Result<ContainerConfig, Error> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
        "spec": { "containers": [container] },
    }))
    .unwrap();
    let env = ContainerEnv {
        vars: vec![("WHO".into(), "world".into())],
        ..ContainerEnv::default()
    };
    let source = |path: &str, sub: &str, read_only| VolumeSource {
        path: path.into(),
        sub_path: sub.into(),
        read_only,
        block: false,
        own_files: false,
    };
    let volumes = BTreeMap::from([
        ("data".to_owned(), source("/v/data", "", false)),
        ("claim".to_owned(), source("/v/claim", "inner", true)),
    ]);
    container_config(Ingredients {
        pod: &pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        among: None,
        id: "id".into(),
        attempt: 2,
        image: &image(config),
        rootfs: RootFs {
            lower: vec![],
            upper: "/u".into(),
            work: "/w".into(),
            read_only: false,
        },
        env: &env,
        volumes: &volumes,
        seccomp: Seccomp::RuntimeDefault,
        hostname: "p",
        files: &[("/etc/hosts", PathBuf::from("/pods/u/etc/hosts"))],
        termination_log: "/pods/u/end".into(),
        log_path: "/pods/u/log".into(),
        node_memory: 1 << 30,
    })
}

#[test]
fn commands_combine_with_the_image_as_documented() {
    let config = json!({ "Entrypoint": ["/entry"], "Cmd": ["default"] });
    let cases = [
        (json!({ "name": "a" }), Some(vec!["/entry", "default"])),
        (
            json!({ "name": "a", "args": ["x"] }),
            Some(vec!["/entry", "x"]),
        ),
        (json!({ "name": "a", "command": ["c"] }), Some(vec!["c"])),
        (
            json!({ "name": "a", "command": ["c"], "args": ["hello $(WHO) $(NOBODY) $$(WHO)"] }),
            Some(vec!["c", "hello world $(NOBODY) $(WHO)"]),
        ),
    ];
    for (container, expected) in cases {
        let args = build(container.clone(), config.clone())
            .ok()
            .map(|config| config.args);
        assert_eq!(
            args,
            expected.map(|words| words.into_iter().map(str::to_owned).collect()),
            "{container}"
        );
    }
    assert!(matches!(
        build(json!({ "name": "a" }), json!({})),
        Err(Error::NoCommand)
    ));
}

#[test]
fn directory_user_and_environment_come_from_the_image_unless_set() {
    let config =
        json!({ "Cmd": ["c"], "WorkingDir": "/srv", "User": "www", "Env": ["A=1", "WHO=image"] });
    let built = build(json!({ "name": "a" }), config.clone()).unwrap();
    assert_eq!(
        (built.cwd.as_str(), built.user.name.as_deref()),
        ("/srv", Some("www"))
    );
    assert!(
        built.env.contains(&("A".into(), "1".into()))
            && built.env.contains(&("WHO".into(), "world".into()))
    );
    assert!(built.env.contains(&("HOSTNAME".into(), "p".into())));
    let built = build(json!({ "name": "a", "workingDir": "/tmp" }), config).unwrap();
    assert_eq!(built.cwd, "/tmp");
    assert_eq!(
        build(json!({ "name": "a" }), json!({ "Cmd": ["c"] }))
            .unwrap()
            .cwd,
        "/"
    );
}

#[test]
fn mounts_are_ordered_from_the_outside_in_and_users_mounts_win() {
    let container = json!({ "name": "a", "volumeMounts": [
        { "name": "data", "mountPath": "/srv/deep/er", "subPathExpr": "of/$(WHO)", "mountPropagation": "HostToContainer" },
        { "name": "claim", "mountPath": "/srv", "subPath": "x" },
        { "name": "data", "mountPath": "/etc/hosts/", "readOnly": true, "recursiveReadOnly": "Enabled" },
    ] });
    let mounts = build(container, json!({ "Cmd": ["c"] })).unwrap().mounts;
    let view: Vec<_> = mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Bind { source, sub_path } => {
                let sub = sub_path
                    .as_deref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default();
                format!(
                    "{}={}:{sub}{}",
                    mount.destination,
                    source.display(),
                    if mount.read_only { "(ro)" } else { "" }
                )
            }
            other => panic!("{other:?} was not expected"),
        })
        .collect();
    assert_eq!(
        view,
        [
            "/srv=/v/claim:inner/x(ro)",
            "/dev/termination-log=/pods/u/end:",
            "/etc/hosts=/v/data:(ro)",
            "/srv/deep/er=/v/data:of/world",
        ]
    );
    assert!(mounts[2].recursive_read_only);
    assert_eq!(mounts[3].propagation, Propagation::HostToContainer);
}

#[test]
fn paths_have_one_form_before_anything_is_decided_about_them() {
    let container = json!({
        "name": "a", "workingDir": "/srv/../tmp/.", "terminationMessagePath": "/run/../tmp//end",
        "volumeMounts": [
            { "name": "data", "mountPath": "/first", "subPath": "lost" },
            { "name": "data", "mountPath": "/a/../first/", "subPath": "./x//y/" },
            { "name": "data", "mountPath": "/a/../proc/sys" },
            { "name": "claim", "mountPath": "rel/./ative", "subPathExpr": "./$(WHO)/." },
        ],
    });
    let built = build(container, json!({ "Cmd": ["c"] })).unwrap();
    assert_eq!(built.cwd, "/tmp");
    let view: Vec<_> = built
        .mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Bind { sub_path, .. } => (mount.destination.as_str(), sub_path.as_deref()),
            other => panic!("{other:?} was not expected"),
        })
        .collect();
    assert_eq!(
        view,
        [
            ("/first", Some(Path::new("x/y"))),
            ("/etc/hosts", None),
            ("/tmp/end", None),
            ("/proc/sys", None),
            ("/rel/ative", Some(Path::new("inner/world"))),
        ]
    );
    let image = json!({ "Cmd": ["c"], "WorkingDir": "app" });
    let error = build(json!({ "name": "a" }), image).unwrap_err();
    assert!(error.to_string().contains("workingDir \"app\""), "{error}");
}

#[test]
fn volumes_of_the_image_are_there_unless_the_pod_has_something_at_their_place() {
    let container =
        json!({ "name": "a", "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let image =
        json!({ "Cmd": ["c"], "Volumes": { "/var/lib/x/": {}, "/data": {}, "/etc/hosts": {} } });
    let mounts = build(container, image).unwrap().mounts;
    let own: Vec<_> = mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::OwnRoot)
        .map(|mount| mount.destination.as_str())
        .collect();
    assert_eq!(own, ["/var/lib/x"]);
    assert_eq!(mounts.len(), 4);
}

#[test]
fn bad_mounts_are_refused() {
    let mount = |mount: Value| json!({ "name": "a", "volumeMounts": [mount] });
    let cases = [
        mount(json!({ "name": "none", "mountPath": "/x" })),
        mount(json!({ "name": "data", "mountPath": "/x", "subPath": "../y" })),
        mount(json!({ "name": "data", "mountPath": "/x", "subPathExpr": "/$(WHO)" })),
        json!({ "name": "a", "volumeDevices": [{ "name": "data", "devicePath": "/dev/x" }] }),
    ];
    for container in cases {
        assert!(
            build(container.clone(), json!({ "Cmd": ["c"] })).is_err(),
            "{container}"
        );
    }
}

#[test]
fn a_read_only_root_and_streams_are_passed_on() {
    let container = json!({
        "name": "a", "stdin": true, "tty": true, "securityContext": { "readOnlyRootFilesystem": true },
        "terminationMessagePath": "/tmp/end",
    });
    let built = build(container, json!({ "Cmd": ["c"] })).unwrap();
    assert!(built.rootfs.read_only && built.stdin && built.tty);
    assert_eq!(built.attempt, 2);
    assert!(
        built
            .mounts
            .iter()
            .any(|mount| mount.destination == "/tmp/end")
    );
}
