//! Specs read as text.
use super::*;
use crate::runtime::{DEFAULT_SHM_BYTES, RootFs, Security, User};

pub(crate) fn sandbox() -> SandboxConfig {
    SandboxConfig {
        pod_uid: "uid".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        hostname: "web".to_owned(),
        dir: "/pods/uid".into(),
        cgroup_parent: "burstable".to_owned(),
        netns: NetnsMode::Path("/run/netns/web".into()),
        host_pid: false,
        host_ipc: false,
        share_pid: false,
        sysctls: Vec::new(),
        resources: Resources::default(),
        shm_bytes: DEFAULT_SHM_BYTES,
    }
}

pub(crate) fn container() -> ContainerConfig {
    ContainerConfig {
        id: "c1".to_owned(),
        name: "main".to_owned(),
        attempt: 0,
        rootfs: RootFs {
            lower: vec!["/layer".into()],
            upper: "/upper".into(),
            work: "/work".into(),
            read_only: false,
        },
        args: vec!["sleep".to_owned(), "1".to_owned()],
        env: vec![("A".to_owned(), "b=c".to_owned())],
        cwd: "/".to_owned(),
        user: User::default(),
        among: None,
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: Security::default(),
        rlimits: vec![("RLIMIT_NOFILE".to_owned(), 1024, 4096)],
        log_path: "/pods/uid/0.log".into(),
        log_max_bytes: 1 << 20,
        log_max_files: 5,
        stdin: false,
        tty: false,
    }
}

pub(crate) fn facts() -> HostFacts {
    HostFacts {
        devices: Vec::new(),
        capabilities: crate::runtime::capabilities::DEFAULT.into_iter().collect(),
        shim_pid: 7,
        among: None,
    }
}

fn built(sandbox: &SandboxConfig, config: &ContainerConfig) -> serde_json::Value {
    let spec = build(sandbox, config, "davit/burstable/poduid/c1", &facts()).unwrap();
    serde_json::to_value(spec).unwrap()
}

fn bind(destination: &str, read_only: bool, recursive_read_only: bool) -> Mount {
    Mount {
        kind: MountKind::Bind {
            source: "/volume".into(),
            sub_path: Some("part".into()),
        },
        destination: destination.to_owned(),
        read_only,
        recursive_read_only,
        propagation: Propagation::HostToContainer,
    }
}

#[test]
fn the_usual_container() {
    let spec = built(&sandbox(), &container());
    assert_eq!(spec["process"]["args"], serde_json::json!(["sleep", "1"]));
    assert_eq!(spec["process"]["env"], serde_json::json!(["A=b=c"]));
    assert_eq!(spec["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
    assert_eq!(
        spec["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        14
    );
    assert_eq!(
        spec["process"]["capabilities"]["ambient"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(spec["linux"]["cgroupsPath"], "/davit/burstable/poduid/c1");
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    let namespaces = spec["linux"]["namespaces"].to_string();
    assert!(
        namespaces.contains("/proc/7/ns/net") && !namespaces.contains("ns/pid"),
        "{namespaces}"
    );
    let order: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    let standard = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    ];
    assert_eq!(order, standard);
}

#[test]
fn wishes_replace_what_is_standard_and_go_from_the_outside_in() {
    let mut config = container();
    config.mounts = vec![
        bind("/a/b/c", false, false),
        bind("/dev/shm", true, true),
        bind("/a", true, false),
    ];
    let spec = built(&sandbox(), &config);
    let mounts: Vec<(String, String)> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .skip(6)
        .map(|m| {
            (
                m["destination"].as_str().unwrap().to_owned(),
                m["options"].to_string(),
            )
        })
        .collect();
    let expected = [
        ("/a", r#"["rbind","rslave","ro"]"#),
        ("/dev/shm", r#"["rbind","rslave","rro"]"#),
        ("/a/b/c", r#"["rbind","rslave","rw"]"#),
    ];
    assert_eq!(mounts, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(spec["mounts"][6]["source"], "/volume/part");
}

#[test]
fn privileged_and_host_namespaces() {
    let mut sandbox = sandbox();
    sandbox.netns = NetnsMode::Host;
    sandbox.host_pid = true;
    sandbox.host_ipc = true;
    let mut config = container();
    config.security.privileged = true;
    let spec = built(&sandbox, &config);
    assert_eq!(spec["linux"]["namespaces"].as_array().unwrap().len(), 2);
    assert!(spec["linux"]["seccomp"].is_null());
    assert_eq!(spec["linux"]["maskedPaths"].as_array().unwrap().len(), 0);
    assert!(spec["mounts"].to_string().contains("\"rw\""));
    let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(
        (rules.len(), &rules[0]["allow"]),
        (1, &serde_json::json!(true))
    );
}

#[test]
fn limits_land_in_resources() {
    let mut config = container();
    config.resources = Resources {
        memory_bytes: Some(1 << 20),
        cpu_shares: Some(2),
        cpu_quota_us: Some(50_000),
        pids_max: Some(9),
        oom_score_adj: Some(-5),
    };
    let spec = built(&sandbox(), &config);
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 1 << 20);
    assert_eq!(
        resources["cpu"],
        serde_json::json!({"shares": 2, "quota": 50_000, "period": 100_000})
    );
    assert_eq!(resources["pids"]["limit"], 9);
    assert_eq!(spec["process"]["oomScoreAdj"], -5);
}

#[test]
fn an_unknown_resource_limit_is_told() {
    let mut config = container();
    config.rlimits = vec![("RLIMIT_FUN".to_owned(), 1, 1)];
    let error = build(&sandbox(), &config, "g", &facts()).unwrap_err();
    assert!(error.to_string().contains("RLIMIT_FUN"), "{error}");
}
